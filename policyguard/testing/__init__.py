"""Policies under test: cases in YAML with coverage of every condition, and what a change does to decisions.

`simulate` decides one case on the product's own path without I/O, `read` reads the files of a folder, `run` decides
them all and says what differs; `diff` compares two sets. The command line and the pytest plugin only show the results.
"""

"""Policies under test: cases in YAML, with coverage of every condition.

`simulate` decides one case on the product's own path without I/O, `read` reads the files of a folder, `run` decides
them all and says what differs. The command line and the pytest plugin only show the results.
"""

"""Tests for policies: cases in YAML, decided on the product's own path without I/O, with coverage of every condition.

`simulate` decides one case, `read` reads the files of a folder, `run` decides them all and says what differs. The
command line and the pytest plugin only show what `run` and `check` return.
"""

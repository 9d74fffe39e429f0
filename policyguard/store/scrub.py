"""What was deleted leaves the files as well: no copy of it stays in a page, nor in the write-ahead log.

Deleted cells are overwritten with zeros as they are deleted (`secure_delete`); what is left is the log, which still has
the pages as they were. Copies that others made (backups, snapshots of a disk, archives of a log) are out of reach.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

PATIENCE_S = 10.0


def sqlite(path: Path) -> bool:
    """Empty the write-ahead log into the file. False: readers or writers of other processes were in the way."""
    with closing(sqlite3.connect(path, timeout=PATIENCE_S, isolation_level=None)) as connection:
        busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    return not busy

"""SQLite: write-ahead logging, `BEGIN IMMEDIATE` for every write, and patience with the writers of other processes."""

from __future__ import annotations

import os
import sqlite3
import time
from contextlib import closing, suppress
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from policyguard.errors import ConfigError

SYNCHRONOUS = ("FULL", "NORMAL")
BUSY_TIMEOUT_S = 10.0
READERS = 16  # connections that are kept; more are made where more wait
STATEMENTS = 512  # prepared statements that a connection keeps


class SQLite:
    """One database file."""

    def __init__(self, path: Path, *, synchronous: str) -> None:
        if synchronous.upper() not in SYNCHRONOUS:
            raise ConfigError(f"`synchronous` is FULL or NORMAL, not `{synchronous}`")
        self.path = path
        self._synchronous = synchronous.upper()

    def engines(self) -> tuple[Engine, Engine]:
        return self._engine("BEGIN IMMEDIATE"), self._engine("BEGIN")

    def words(self, error: BaseException) -> str:
        return str(error) if isinstance(error, sqlite3.Error) else type(error).__name__

    def may_repeat(self, error: BaseException) -> bool:
        return False  # waiting for other writers is SQLite's own, up to the busy timeout

    def scrub(self) -> bool:
        """Deleted cells are zeros already; the log still has the pages as they were, so it is emptied into the file."""
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection,
        ):
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
        return False

    def _engine(self, begin: str) -> Engine:
        engine = create_engine(
            URL.create("sqlite", database=str(self.path)),
            paramstyle="named",
            pool_size=READERS,
            pool_use_lifo=True,
            max_overflow=-1,
            hide_parameters=True,
            connect_args={
                "timeout": BUSY_TIMEOUT_S,
                "check_same_thread": False,
                "cached_statements": STATEMENTS,
            },
        )

        @event.listens_for(engine, "do_connect")
        def make_first(*_: object) -> None:
            _make(self.path)

        @event.listens_for(engine, "connect")
        def set_up(connection: sqlite3.Connection, record: object) -> None:
            connection.isolation_level = None  # the driver would begin late, and never before a SELECT or DDL
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            _write_ahead(connection)

        @event.listens_for(engine, "begin")
        def begin_transaction(connection: Connection) -> None:
            connection.exec_driver_sql(begin)

        return engine


def _make(path: Path) -> None:
    """A new file is for its owner alone, whatever the umask; SQLite gives its log and index the same mode.

    One that is there keeps its mode: whoever shares it with a group has set that. What cannot be made SQLite tells.
    """
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.fchmod(descriptor, 0o600)
        finally:
            os.close(descriptor)


def _write_ahead(connection: sqlite3.Connection) -> None:
    """Switch to write-ahead logging. The busy timeout does not cover the switch, so starting together is waited out."""
    deadline = time.monotonic() + BUSY_TIMEOUT_S
    while connection.execute("PRAGMA journal_mode").fetchone() != ("wal",):
        try:
            if connection.execute("PRAGMA journal_mode = WAL").fetchone() != ("wal",):
                raise sqlite3.OperationalError("the file system does not allow write-ahead logging")
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > deadline:
                raise
            time.sleep(0.01)

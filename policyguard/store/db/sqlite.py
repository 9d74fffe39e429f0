"""SQLite: write-ahead logging, `BEGIN IMMEDIATE` for every write, and patience with the writers of other processes.

A file that is deleted or replaced lives on for those who have it open: they would count in one that nobody else sees.
So every transaction looks whether the files are still the ones that were opened.
"""

from __future__ import annotations

import logging
import os
import sqlite3
import time
import weakref
from collections.abc import Mapping
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.engine import URL

from policyguard.errors import ConfigError
from policyguard.logs import say
from policyguard.store.db.database import DEADLINE

SYNCHRONOUS = ("FULL", "NORMAL")
BUSY_TIMEOUT_S = 10.0
READERS = 16  # connections that are kept; more are made where more wait
STATEMENTS = 512  # prepared statements that a connection keeps
LOG_BYTES = 16 * 1024 * 1024  # what a log that a long reader made grow is cut to when the reader has gone
_PARTS = ("", "-wal", "-shm")
Identities = tuple[tuple[int, int] | None, ...]  # device and number of each of the three
_SEEN = "policyguard_files"  # in the `info` of a connection: the files that it has open


class SQLite:
    """One database file."""

    clock_sql = None  # a file has one host, and its clock

    def __init__(self, path: Path, *, synchronous: str) -> None:
        if synchronous.upper() not in SYNCHRONOUS:
            raise ConfigError(f"`synchronous` is FULL or NORMAL, not `{synchronous}`")
        self.path = path
        self._synchronous = synchronous.upper()

    def engines(self) -> tuple[Engine, Engine]:
        files = _Files(self.path)
        return self._engine("BEGIN IMMEDIATE", files), self._engine("BEGIN", files)

    def words(self, error: BaseException) -> str:
        return str(error) if isinstance(error, sqlite3.Error) else type(error).__name__

    def is_broken(self, error: BaseException) -> bool:
        return isinstance(error, sqlite3.OperationalError | sqlite3.InterfaceError)

    def may_repeat(self, error: BaseException) -> bool:
        return False  # waiting for other writers is SQLite's own, up to the busy timeout

    def cut(self, connection: sqlite3.Connection) -> None:
        """There is no server that could go mute, and a report on a large file may take its time."""

    def scrub(self) -> bool:
        """Deleted cells are zeros already; the log still has the pages as they were, so it is emptied into the file."""
        with (
            suppress(sqlite3.OperationalError),
            closing(sqlite3.connect(self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None)) as connection,
        ):
            busy, _, _ = connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
            return not busy
        return False

    def _engine(self, begin: str, files: _Files) -> Engine:
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
        def set_up(connection: sqlite3.Connection, record: Any) -> None:
            files.refuse()
            connection.isolation_level = None  # the driver would begin late, and never before a SELECT or DDL
            connection.execute("PRAGMA foreign_keys = ON")
            connection.execute("PRAGMA secure_delete = ON")  # what is deleted is overwritten
            connection.execute(f"PRAGMA synchronous = {self._synchronous}")
            _write_ahead(connection)
            connection.execute(f"PRAGMA journal_size_limit = {LOG_BYTES}")
            connection.execute("SELECT 1 FROM sqlite_master").fetchall()  # opens the log
            record.info[_SEEN] = files.opened()

        @event.listens_for(engine, "begin")
        def begin_transaction(connection: Connection) -> None:
            if (deadline := connection.info.get(DEADLINE)) is not None:
                left = min(deadline - time.monotonic(), BUSY_TIMEOUT_S)
                connection.exec_driver_sql(f"PRAGMA busy_timeout = {max(1, round(left * 1000))}")
            connection.exec_driver_sql(begin)
            files.check(connection.info)  # when it is our turn: nobody else writes now who looks, too

        return engine


class _Files:
    """The files of one database as this process has opened them: once they are others, it uses neither any more."""

    def __init__(self, path: Path) -> None:
        self._paths = tuple(path.with_name(path.name + part) for part in _PARTS)
        self._main: tuple[int, int] | None = None
        self._lost = False

    def opened(self) -> Identities:
        """What a new connection has open."""
        found = self._found()
        if self._main is None:
            self._main = found[0]
            self._pin()
        self._compare(found, (self._main, *found[1:]))
        return found

    def check(self, info: Mapping[Any, Any]) -> None:
        """Raises where the files of a connection are there no more."""
        self._compare(self._found(), info[_SEEN])

    def refuse(self) -> None:
        """Raises where they were found to be others before."""
        if self._lost:
            raise sqlite3.OperationalError(
                "the database file, or its -wal or -shm, was deleted or replaced while it was in use; stop every"
                " process, put the right file in its place, and start them anew"
            )

    def _compare(self, found: Identities, seen: Identities) -> None:
        if not self._lost and (None in found or found != seen):
            self._lost = True
            say(logging.ERROR, "store.replaced", "the database file was deleted or replaced: nothing is allowed")
        self.refuse()

    def _found(self) -> Identities:
        return tuple(map(_identity, self._paths))

    def _pin(self) -> None:
        """The number of a deleted file is given to the next one, unless somebody holds it. This takes no lock away."""
        if hasattr(os, "O_PATH"):
            weakref.finalize(self, os.close, os.open(self._paths[0], os.O_PATH))


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


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

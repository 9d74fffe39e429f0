"""SQLite: one writer of this process behind a lock, readers beside it, both opened at first use.

Write-ahead logging, `BEGIN IMMEDIATE` for every write, a busy timeout for the writers of other processes. A forked
process opens its own connections and never touches those of its parent. Errors of the driver become
`StoreUnavailable` here, once; after one the connection is opened anew, so a store that came back works again.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from policyguard.errors import ConfigError, StoreUnavailable
from policyguard.store.sql import Rollback

T = TypeVar("T")

SYNCHRONOUS = ("FULL", "NORMAL")
BUSY_TIMEOUT_S = 10.0


def sqlite_path(url: str) -> Path:
    """The file that a store's URL names: `sqlite:///relative`, `sqlite:////absolute`, or a path alone."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        scheme, rest = "sqlite", f"/{url}"
    if scheme.startswith("postgres"):
        raise ConfigError("PostgreSQL is not supported yet; use `sqlite:///path` for now")
    if scheme != "sqlite":
        raise ConfigError(f"`{scheme}` is no store; use `sqlite:///path`")
    name = rest.removeprefix("/")
    if not name or name.startswith((":memory:", "file:")) or not rest.startswith("/") or "?" in name:
        raise ConfigError("a store needs a file that outlives the process; use `sqlite:///path`")
    return Path(name).absolute()


class SQLite:
    """Runs work in transactions on one database file. `opened` is called once in each process, with a writer."""

    def __init__(self, path: Path, *, synchronous: str, opened: Callable[[SQLite], None]) -> None:
        if synchronous.upper() not in SYNCHRONOUS:
            raise ConfigError(f"`synchronous` is FULL or NORMAL, not `{synchronous}`")
        self.path = path
        self._synchronous = synchronous.upper()
        self._opened = opened
        self._processes: dict[int, _Process] = {}

    def write(self, work: Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; what it answers is committed. `Rollback` undoes it and answers."""
        process = self._process()
        with process.lock:
            return process.transaction(process.writer(), work)

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one snapshot. Readers and the writer never wait for each other."""
        process = self._process()
        connection = process.take_reader()
        try:
            return process.transaction(connection, work)
        finally:
            process.give_back(connection)

    def close(self) -> None:
        """Close this process's connections. The next use opens them again."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            with process.lock:
                process.close()

    def _process(self) -> _Process:
        """The connections of this process, one set for each process id: what a fork inherited is left alone."""
        process = self._processes.get(os.getpid())
        if process is None:
            process = self._processes.setdefault(os.getpid(), _Process(self.path, self._synchronous))
        if not process.ready:
            self._open(process)
        return process

    def _open(self, process: _Process) -> None:
        with process.opening:
            if process.ready or process.opener == threading.get_ident():
                return
            process.opener = threading.get_ident()
            try:
                self._opened(self)
                process.ready = True
            finally:
                process.opener = None


class _Process:
    """What one process holds open."""

    def __init__(self, path: Path, synchronous: str) -> None:
        self.lock = threading.Lock()
        self.opening = threading.RLock()
        self.opener: int | None = None
        self.ready = False
        self.readers: deque[Connection] = deque()
        self._writer: Connection | None = None
        self._writers = _engine(path, synchronous, "BEGIN IMMEDIATE")
        self._readers = _engine(path, synchronous, "BEGIN")

    def writer(self) -> Connection:
        if self._writer is None or self._writer.closed:
            with _translated():
                self._writer = self._writers.connect()
        return self._writer

    def take_reader(self) -> Connection:
        with suppress(IndexError):
            return self.readers.pop()
        with _translated():
            return self._readers.connect()

    def give_back(self, reader: Connection) -> None:
        if not reader.closed:
            self.readers.append(reader)

    def transaction(self, connection: Connection, work: Callable[[Connection], T]) -> T:
        try:
            with _translated(), connection.begin():
                return work(connection)
        except Rollback as undone:
            answer: T = undone.answer
            return answer
        except StoreUnavailable:
            _discard(connection)
            raise

    def close(self) -> None:
        while self.readers:
            _discard(self.readers.pop())
        if self._writer is not None:
            _discard(self._writer)


def _discard(connection: Connection) -> None:
    with suppress(SQLAlchemyError, sqlite3.Error):
        connection.close()


@contextmanager
def _translated() -> Iterator[None]:
    """The driver's errors, without the statement and its values."""
    try:
        yield
    except DBAPIError as error:
        raise StoreUnavailable(f"the store cannot answer: {error.orig}") from error
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreUnavailable(f"the store cannot answer: {type(error).__name__}") from error


def _engine(path: Path, synchronous: str, begin: str) -> Engine:
    """An engine without a pool: connections are held by `_Process`, and may move between threads."""
    engine = create_engine(
        URL.create("sqlite", database=str(path)),
        paramstyle="named",
        poolclass=NullPool,
        hide_parameters=True,
        connect_args={"timeout": BUSY_TIMEOUT_S, "check_same_thread": False},
    )

    @event.listens_for(engine, "connect")
    def set_up(connection: sqlite3.Connection, record: object) -> None:
        connection.isolation_level = None  # the driver would begin late, and never before a SELECT or DDL
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA secure_delete = ON")  # what is erased or past its time is overwritten
        connection.execute(f"PRAGMA synchronous = {synchronous}")
        _write_ahead(connection)

    @event.listens_for(engine, "begin")
    def begin_transaction(connection: Connection) -> None:
        connection.exec_driver_sql(begin)

    return engine


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

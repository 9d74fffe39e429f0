"""One database, whichever engine it is: a writer and readers for each process, opened at first use.

A forked process opens its own connections and never touches those of its parent. Errors of the driver become
`StoreUnavailable` here, once; after one the connection is opened anew, so a database that came back works again. What
differs between engines is in `sqlite` and `postgres`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NoReturn, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Transaction
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from policyguard.errors import StoreUnavailable
from policyguard.store.group import Call, Rejected, Work, Writer, perform
from policyguard.store.sql import Rollback, Together

T = TypeVar("T")
ATTEMPTS = 5  # at one transaction, where the database says that another one was in its way


class Backend(Protocol):
    """What an engine brings. `writes` and `reads` are engines whose transactions begin as each must."""

    def engines(self) -> tuple[Engine, Engine]:
        """Made in each process."""

    def words(self, error: BaseException) -> str:
        """What may be said of a driver's error: never the values of a row."""

    def may_repeat(self, error: BaseException) -> bool:
        """Nothing was committed, and the same transaction may pass next time."""

    def scrub(self) -> bool:
        """Leave no copy of deleted keys in the files. False: somebody is in the way, for now."""

    @property
    def clock_sql(self) -> str | None:
        """What asks for the time of the database; None where it has this host's."""


class Database:
    """Runs work in transactions. `opened` is called once in each process, before anything else."""

    def __init__(self, backend: Backend, *, opened: Callable[[Database], None]) -> None:
        self._backend = backend
        self._opened = opened
        self._processes: dict[int, _Process] = {}
        weakref.finalize(self, _close, self._processes)

    def write(self, work: Together[T] | Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; what it answers is committed. `Rollback` undoes it and answers."""
        answer: T = self._process().writer.submit(Call(work)).wait()
        return answer

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one snapshot. Readers and the writer never wait for each other."""
        return self._process().read(work)

    def submit(self, work: Work, *, reads: bool = False) -> Call | None:
        """`write` for a task of asyncio, which awaits the call; with `reads` it is `read`.

        None where it takes a thread: for other event loops, and while the database is not open yet.
        """
        process = self._processes.get(os.getpid())
        if process is None or not process.ready:
            return None
        with suppress(RuntimeError):  # raised where there is no loop of asyncio
            call = Call(work, asyncio.get_running_loop())
            return (process.reader if reads else process.writer).submit(call)
        return None

    @property
    def clock_sql(self) -> str | None:
        """What asks for the time of the database; None where it has this host's."""
        return self._backend.clock_sql

    def scrub(self) -> bool:
        """After rows were deleted for good. Copies that others made of the files are out of reach."""
        return self._backend.scrub()

    def close(self) -> None:
        """Close this process's connections. The next use opens them again."""
        _close(self._processes)

    def _process(self) -> _Process:
        """The connections of this process, one set for each process id: what a fork inherited is left alone."""
        process = self._processes.get(os.getpid())
        if process is None:
            process = self._processes.setdefault(os.getpid(), _Process(self._backend))
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


def _close(processes: dict[int, _Process]) -> None:
    process = processes.pop(os.getpid(), None)
    if process is not None:
        process.writer.close()
        process.reader.close()
        process.readers.dispose()


class _Process:
    """What one process holds open."""

    def __init__(self, backend: Backend) -> None:
        self.opening = threading.RLock()
        self.opener: int | None = None
        self.ready = False
        self.writer = Writer(self._commit, self._disconnect)
        self.reader = Writer(self._look, lambda: None)  # reads of tasks, those that wait together on one snapshot
        self._backend = backend
        self._writers, self.readers = backend.engines()
        self._driver: Any = self._writers.dialect.loaded_dbapi
        self._connection: Connection | None = None  # the writing thread's
        self._transaction: Transaction

    def read(self, work: Callable[[Connection], T]) -> T:
        for attempt in range(ATTEMPTS):
            try:
                return self._read_once(work)
            except Rollback as undone:
                answer: T = undone.answer
                return answer
            except Exception as error:
                self._say_or_repeat(error, attempt)
        raise AssertionError("the last attempt answers or raises")

    def _read_once(self, work: Callable[[Connection], T]) -> T:
        with self._connect(self.readers) as connection:
            try:
                with connection.begin():
                    return work(connection)
            except Exception as error:
                if self._is_broken(error) and not connection.invalidated:
                    connection.invalidate()
                raise

    def _look(self, works: Sequence[Work]) -> list[Any]:
        return self.read(lambda connection: perform(connection, works))

    # ---- in the writing thread --------------------------------------------------------------------------------

    def _commit(self, works: Sequence[Work]) -> list[Any]:
        """One transaction. A commit is tried once: nobody knows whether one that failed went through."""
        answers = self._perform(works)
        try:
            self._transaction.commit()
        except Exception as error:
            self._disconnect()
            self._say(error)
        return answers

    def _perform(self, works: Sequence[Work]) -> list[Any]:
        """Begin, and do everything but the commit."""
        for attempt in range(ATTEMPTS):
            if self._connection is None:
                self._connection = self._connect(self._writers)
            try:
                self._transaction = self._connection.begin()
                return perform(self._connection, works)
            except Exception as error:
                self._roll_back(error)
                self._say_or_repeat(error, attempt)
        raise AssertionError("the last attempt answers or raises")

    def _roll_back(self, error: Exception) -> None:
        if not self._is_broken(error):
            with suppress(SQLAlchemyError, self._driver.Error):
                self._transaction.rollback()
                return
        self._disconnect()

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(SQLAlchemyError, self._driver.Error):
                connection.invalidate()
                connection.close()

    # ---- errors -----------------------------------------------------------------------------------------------

    def _connect(self, engine: Engine) -> Connection:
        try:
            return engine.connect()
        except Exception as error:
            self._say(error)

    def _is_broken(self, error: Exception) -> bool:
        """An error of the connection or its database, and not one of what was asked: it is not used again."""
        cause = _cause(error)
        return isinstance(cause, self._driver.OperationalError | self._driver.InterfaceError) or (
            self._backend.may_repeat(cause)
        )

    def _say_or_repeat(self, error: Exception, attempt: int) -> None:
        if attempt + 1 == ATTEMPTS or not self._backend.may_repeat(_cause(error)):
            self._say(error)

    def _say(self, error: Exception) -> NoReturn:
        """Raises what the caller may know, without the statement and its values."""
        cause = _cause(error)
        if isinstance(cause, PoolExhausted):
            raise StoreUnavailable("the store cannot answer: every connection is in use") from error
        if not isinstance(cause, self._driver.Error | SQLAlchemyError | OSError):
            raise error
        kind = StoreUnavailable if self._is_broken(error) or isinstance(cause, OSError) else Rejected
        raise kind(f"the store cannot answer: {self._backend.words(cause)}") from error


def _cause(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error

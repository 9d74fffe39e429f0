"""One database, whichever engine it is: a writer and readers for each process, opened at first use.

A forked process opens its own connections and never touches those of its parent. Errors of the driver become
`StoreUnavailable` here, once; after one the connection is opened anew, so a database that came back works again. Nobody
waits for ever, whatever the database does. What differs between engines is in `sqlite` and `postgres`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from typing import Any, NoReturn, Protocol, TypeVar

from sqlalchemy import Connection, Engine, Transaction, event
from sqlalchemy.exc import DBAPIError, DisconnectionError, SQLAlchemyError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from policyguard.errors import StoreUnavailable
from policyguard.store.db.group import GroupCall, GroupWork, Rejected, Unanswered, Writer, perform
from policyguard.store.db.patience import current
from policyguard.store.db.sql import Rollback, Together
from policyguard.store.db.watchdog import Watchdog

T = TypeVar("T")
ATTEMPTS = 5  # at one transaction, where the database says that another one was in its way
DEADLINE = "policyguard_deadline"  # in the `info` of a connection that begins: how long it may wait for its turn
_SET = "policyguard_set"  # in the `info` of a reader: to which set of connections it belongs


class Backend(Protocol):
    """What an engine brings. `writes` and `reads` are engines whose transactions begin as each must."""

    def engines(self) -> tuple[Engine, Engine]:
        """Made in each process."""

    def words(self, error: BaseException) -> str:
        """What may be said of a driver's error: never the values of a row."""

    def is_broken(self, error: BaseException) -> bool:
        """An error of the connection or its database, and not one of what was asked: it is not used again."""

    def may_repeat(self, error: BaseException) -> bool:
        """Nothing was committed, and the same transaction may pass next time."""

    def cut(self, connection: Any) -> None:
        """End the wait of the driver's connection, from another thread."""

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
        self.on_cut: list[Callable[[], None]] = []  # called, in any thread, when a connection was cut
        self._processes: dict[int, _OpenHandles] = {}
        weakref.finalize(self, _close, self._processes)

    def write(self, work: Together[T] | Callable[[Connection], T]) -> T:
        """Run `work` in one transaction; what it answers is committed. `Rollback` undoes it and answers."""
        answer: T = self._process().writer.submit(GroupCall(work)).wait()
        return answer

    def read(self, work: Callable[[Connection], T]) -> T:
        """Run `work` on one snapshot. Readers and the writer never wait for each other."""
        return self._process().read(work)

    def submit(self, work: GroupWork, *, reads: bool = False) -> GroupCall | None:
        """`write` for a task of asyncio, which awaits the call; with `reads` it is `read`.

        None where it takes a thread: for other event loops, and while the database is not open yet.
        """
        process = self._processes.get(os.getpid())
        if process is None or not process.ready:
            return None
        with suppress(RuntimeError):  # raised where there is no loop of asyncio
            call = GroupCall(work, asyncio.get_running_loop())
            return (process.reader if reads else process.writer).submit(call)
        return None

    def now(self) -> datetime:
        """The time of the database, in UTC; only for one that has a clock of its own."""
        said: datetime = self.read(lambda c: c.exec_driver_sql(self._backend.clock_sql or "").scalar_one())
        return said.astimezone(UTC)

    def scrub(self) -> bool:
        """After rows were deleted for good. Copies that others made of the files are out of reach."""
        return self._backend.scrub()

    def close(self) -> None:
        """Close this process's connections. The next use opens them again."""
        _close(self._processes)

    def _process(self) -> _OpenHandles:
        """The connections of this process, one set for each process id: what a fork inherited is left alone."""
        process = self._processes.get(os.getpid())
        if process is None:
            process = self._processes.setdefault(os.getpid(), _OpenHandles(self._backend, self.on_cut))
        if not process.ready:
            self._open(process)
        return process

    def _open(self, process: _OpenHandles) -> None:
        patience = current()
        deadline = patience.deadline()
        if not process.opening.acquire(timeout=min(max(0.0, patience.left_s), threading.TIMEOUT_MAX)):
            raise StoreUnavailable("the store cannot answer: it is being opened")
        try:
            patience.waited(deadline)
            if process.ready or process.opener == threading.get_ident():
                return
            process.opener = threading.get_ident()
            try:
                self._opened(self)
                process.ready = True
            finally:
                process.opener = None
        finally:
            process.opening.release()


def _close(processes: dict[int, _OpenHandles]) -> None:
    process = processes.pop(os.getpid(), None)
    if process is not None:
        process.writer.close()
        process.reader.close()
        process.watchdog.cut_all()  # readers in other threads
        process.watchdog.close()
        process.readers.dispose()


def _call(each: Iterable[Callable[[], None]]) -> None:
    for one in each:
        one()


class _OpenHandles:
    """What one process holds open."""

    def __init__(self, backend: Backend, on_cut: list[Callable[[], None]]) -> None:
        self.opening = threading.RLock()
        self.opener: int | None = None
        self.ready = False
        self.watchdog = watchdog = Watchdog(backend.cut, lambda: _call(on_cut))
        self.writer = Writer(self._commit, self._disconnect, watchdog.cut_all)
        # reads of tasks, those that wait together on one snapshot
        self.reader = Writer(self._look, lambda: None, watchdog.cut_all)
        self._backend = backend
        self._writers, self.readers = backend.engines()
        self._set = 0  # readers leave a database with the writer: they would go on to read one that was left behind
        event.listen(self.readers, "connect", lambda _, record: record.info.update({_SET: self._set}))
        event.listen(self.readers, "checkout", self._check_set)
        self._driver: Any = self._writers.dialect.loaded_dbapi
        self._connection: Connection | None = None  # the writing thread's
        self._transaction: Transaction

    def read(self, work: Callable[[Connection], T]) -> T:
        """In the thread that asks."""
        patience = current()
        deadline = patience.deadline()
        try:
            return self._read(work, deadline)
        finally:
            patience.waited(deadline)

    def _read(self, work: Callable[[Connection], T], deadline: float) -> T:
        for attempt in range(ATTEMPTS):
            try:
                return self._read_once(work, deadline)
            except Rollback as undone:
                answer: T = undone.answer
                return answer
            except Exception as error:
                self._say_or_repeat(error, attempt, deadline)
        raise AssertionError("the last attempt answers or raises")

    def _read_once(self, work: Callable[[Connection], T], deadline: float) -> T:
        with self._connect(self.readers) as connection, self._watched(connection, deadline):
            try:
                with connection.begin():
                    return work(connection)
            except Exception as error:
                if self._is_broken(error) and not connection.invalidated:
                    connection.invalidate()
                raise

    def _look(self, works: Sequence[GroupWork], deadline: float) -> list[Any]:
        return self._read(lambda connection: perform(connection, works), deadline)

    def _watched(self, connection: Connection, deadline: float) -> AbstractContextManager[None]:
        return self.watchdog.over(connection.connection.driver_connection, deadline)

    def _check_set(self, connection: Any, record: Any, proxy: Any) -> None:
        if record.info[_SET] != self._set:
            raise DisconnectionError  # for the pool, which opens another one

    # ---- in the writing thread --------------------------------------------------------------------------------

    def _commit(self, works: Sequence[GroupWork], deadline: float) -> list[Any]:
        """One transaction. A commit is tried once: nobody knows whether one that failed went through."""
        answers, connection = self._perform(works, deadline)
        try:
            with self._watched(connection, deadline):
                self._transaction.commit()
        except Exception as error:
            self._leave()
            self._say(error, Unanswered)
        return answers

    def _perform(self, works: Sequence[GroupWork], deadline: float) -> tuple[list[Any], Connection]:
        """Begin, and do everything but the commit."""
        for attempt in range(ATTEMPTS):
            connection = self._connection = self._connection or self._connect(self._writers)
            try:
                connection.info[DEADLINE] = deadline
                with self._watched(connection, deadline):
                    self._transaction = connection.begin()
                    if time.monotonic() >= deadline:  # our turn came when everybody had left
                        raise StoreUnavailable("the store cannot answer: others write, and do not end")
                    return perform(connection, works), connection
            except Exception as error:
                self._roll_back(error)
                self._say_or_repeat(error, attempt, deadline)
        raise AssertionError("the last attempt answers or raises")

    def _roll_back(self, error: Exception) -> None:
        if not self._is_broken(error):
            with suppress(SQLAlchemyError, self._driver.Error):
                self._transaction.rollback()
                return
        self._leave()

    def _leave(self) -> None:
        """This database, or what it has become: the next connection goes where the address leads then."""
        self._set += 1
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
        return self._backend.is_broken(_cause(error))

    def _say_or_repeat(self, error: Exception, attempt: int, deadline: float) -> None:
        last = attempt + 1 == ATTEMPTS or time.monotonic() >= deadline
        if last or not self._backend.may_repeat(_cause(error)):
            self._say(error)

    def _say(self, error: Exception, broken: type[StoreUnavailable] = StoreUnavailable) -> NoReturn:
        """Raises what the caller may know, without the statement and its values."""
        cause = _cause(error)
        if isinstance(cause, PoolExhausted):
            raise StoreUnavailable("the store cannot answer: every connection is in use") from error
        if not isinstance(cause, self._driver.Error | SQLAlchemyError | OSError):
            raise error
        kind = broken if self._is_broken(error) or isinstance(cause, OSError) else Rejected
        raise kind(f"the store cannot answer: {self._backend.words(cause)}") from error


def _cause(error: BaseException) -> BaseException:
    return error.orig if isinstance(error, DBAPIError) and error.orig is not None else error

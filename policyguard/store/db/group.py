"""Group commit: the calls that wait together share one transaction, and each still succeeds or fails on its own.

One thread of the process writes. Whoever comes while it commits waits for the next group, so a lone caller never waits
for others. An operation that raises makes its group run again one by one: the database stays as if it had never come.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from queue import SimpleQueue
from typing import Any

from sqlalchemy import Connection

from policyguard.errors import StoreUnavailable
from policyguard.store.db.patience import current
from policyguard.store.db.sql import Rollback, Together, drive_all

GroupWork = Together[Any] | Callable[[Connection], Any]
MOST = 128  # calls in one transaction, so that nobody waits long for the others
WAITING = 4_096  # calls in the queue; with more a store that stopped would fill the memory
CLOSE_S = 2.0  # for what is under way at the end, before its connection is cut
AFTER_CUT_S = 0.5
LONGEST_S = 86_400.0  # event loops take no endless time


class Rejected(StoreUnavailable):
    """The database would not take what one operation wrote; it can take the others."""


class Unanswered(StoreUnavailable):
    """The answer did not come in time, or not at all: what was asked for may have been done."""


class GroupCall:
    """One call and what came of it. A thread waits for it, or an event loop is told, in the time that there is."""

    __slots__ = ("_done", "_loop", "_patience", "answer", "deadline", "error", "finished", "left", "taken", "work")

    def __init__(self, work: GroupWork, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self.work = work
        self.taken = self.left = self.finished = False
        self._patience = current()
        self.deadline = self._patience.deadline()
        self.answer: Any = None
        self.error: Exception | None = None
        self._loop = loop
        self._done: Any = _taken_lock() if loop is None else loop.create_future()

    def wait(self) -> Any:
        """For a thread."""
        self._done.acquire(timeout=min(max(0.0, self.deadline - time.monotonic()), threading.TIMEOUT_MAX))
        return self._result()

    async def awaited(self) -> Any:
        """For a task. One that is cancelled leaves its call to be done all the same."""
        loop = self._loop or asyncio.get_running_loop()
        timer = loop.call_later(min(self.deadline - time.monotonic(), LONGEST_S), _resolve, (self._done,))
        try:
            await self._done
        finally:
            timer.cancel()
        return self._result()

    def fail(self, error: Exception) -> None:
        if isinstance(error, Rollback):
            self.answer = error.answer
        else:
            self.error = error

    def take(self) -> bool:
        """For the thread that does it. False: nobody waits for it any more."""
        self.taken = True  # first this and then the look, as `_result` does it the other way round
        return not self.left

    def _result(self) -> Any:
        self._patience.waited(self.deadline)
        if not self.finished:
            self.left = True
            kind = Unanswered if self.taken else StoreUnavailable
            raise kind("the store cannot answer: it did not in the time that a request has for it")
        if self.error is not None:
            raise self.error
        return self.answer

    @staticmethod
    def finish(calls: Sequence[GroupCall]) -> None:
        """Wake whoever waits: threads one by one, an event loop once for all."""
        loops: dict[asyncio.AbstractEventLoop, list[asyncio.Future[None]]] = {}
        for call in calls:
            call.finished = True
            if call._loop is None:
                call._done.release()
            else:
                loops.setdefault(call._loop, []).append(call._done)
        for loop, futures in loops.items():
            with suppress(RuntimeError):  # a loop that was closed has nobody who waits
                loop.call_soon_threadsafe(_resolve, futures)


def _taken_lock() -> threading.Lock:
    lock = threading.Lock()
    lock.acquire()
    return lock


def _resolve(futures: Sequence[asyncio.Future[None]]) -> None:
    for future in futures:
        if not future.done():
            future.set_result(None)


def _again(error: StoreUnavailable) -> StoreUnavailable:
    """One exception for each thread that raises it."""
    copy = type(error)(str(error))
    copy.__cause__ = error.__cause__
    return copy


class Writer:
    """The thread that writes, started at the first call. `commit` runs works in one transaction and answers each.

    It has until the last of those who wait for it gives up, which it is told by the monotonic clock. `cut` ends the
    wait of a thread that is stuck.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[GroupWork], float], Sequence[Any]],
        close: Callable[[], None],
        cut: Callable[[], None],
    ) -> None:
        self._commit = commit
        self._close = close
        self._cut = cut
        self._queue: SimpleQueue[GroupCall | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, call: GroupCall) -> GroupCall:
        with self._lock:
            if self._closed:
                raise StoreUnavailable("the store was closed")
            if self._queue.qsize() >= WAITING:
                raise StoreUnavailable(f"the store cannot answer: {WAITING:,} calls wait for it")
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="policyguard-store", daemon=True)
                self._thread.start()
            self._queue.put(call)
        return call

    def close(self) -> None:
        """Do what was asked for until now, and end. A database that is mute is not waited for."""
        with self._lock:
            self._closed = True
            self._queue.put(None)
            thread = self._thread
        if thread is None or thread is threading.current_thread():
            self._close()
            return
        thread.join(CLOSE_S)
        if thread.is_alive():
            self._cut()
            thread.join(AFTER_CUT_S)

    def _run(self) -> None:
        try:
            while (call := self._queue.get()) is not None:
                self._group(call)
        finally:
            self._close()

    def _group(self, first: GroupCall) -> None:
        calls = [first]
        waiting = min(self._queue.qsize(), MOST - 1)
        for more in (self._queue.get() for _ in range(waiting)):
            if more is None:
                self._queue.put(None)  # nothing comes after it
            else:
                calls.append(more)
        calls = [call for call in calls if call.take()]
        try:
            if calls:
                self._perform(calls)
        finally:
            GroupCall.finish(calls)

    def _perform(self, calls: Sequence[GroupCall]) -> None:
        try:
            answers = self._commit([call.work for call in calls], max(call.deadline for call in calls))
        except Exception as error:
            if len(calls) == 1:
                calls[0].fail(error)
            elif isinstance(error, StoreUnavailable) and not isinstance(error, Rejected):
                for call in calls:
                    call.fail(_again(error))
            else:
                for call in calls:
                    self._perform([call])
        else:
            for call, answer in zip(calls, answers, strict=True):
                call.answer = answer


def perform(connection: Connection, works: Sequence[GroupWork]) -> list[Any]:
    """Run a group in the transaction of `connection`."""
    together = [i for i, work in enumerate(works) if isinstance(work, Together)]
    answers: list[Any] = [None] * len(works)
    steps = drive_all(connection, [work.steps() for work in works if isinstance(work, Together)])
    for i, answer in zip(together, steps, strict=True):
        answers[i] = answer
    for i, work in enumerate(works):
        if not isinstance(work, Together):
            answers[i] = work(connection)
    return answers

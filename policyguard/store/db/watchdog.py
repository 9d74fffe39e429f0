"""The watchdog of one process: a connection whose work lasts longer than anybody waits for it is cut.

A driver that waits for a server that went mute cannot be woken from Python; when its socket is shut down by another
thread, its wait ends with an error like any other.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from typing import Any

from policyguard.logs import say

TICK_S = 0.1
MARGIN_S = 0.2  # the server's own limit answers first, with better words


class Watchdog:
    """`cut` ends the wait of a driver's connection, from another thread; `heard` is called after each."""

    def __init__(self, cut: Callable[[Any], None], heard: Callable[[], None]) -> None:
        self._cut, self._heard = cut, heard
        self._running: dict[int, tuple[float, Any]] = {}  # by thread: when it is over, and on which connection
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @contextmanager
    def over(self, connection: Any, deadline: float) -> Iterator[None]:
        """Work of this thread on the driver's connection, which has until `deadline` by the monotonic clock."""
        if self._thread is None:
            self._start()
        me = threading.get_ident()
        self._running[me] = deadline, connection
        try:
            yield
        finally:
            self._running.pop(me, None)

    def cut_all(self) -> None:
        """Nobody waits any more."""
        for thread in list(self._running):
            self._cut_one(thread)

    def close(self) -> None:
        self._stop.set()

    def _start(self) -> None:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="policyguard-watchdog", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            now = time.monotonic() - MARGIN_S
            for thread, (deadline, _) in list(self._running.items()):
                if deadline < now:
                    self._cut_one(thread)

    def _cut_one(self, thread: int) -> None:
        entry = self._running.get(thread)
        if entry is None or entry[0] == inf:
            return
        self._running[thread] = inf, entry[1]  # once is enough; a migration is never cut
        self._cut(entry[1])
        self._heard()
        say(logging.ERROR, "store.cut", "a connection to the database was cut, it did not answer in time")

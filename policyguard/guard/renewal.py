"""More time for requests that are still upstream, so that a long handler is not presumed lost while it lives.

A leg has its time from when it was sent. The doors say which legs of this process are in flight, and a thread that
exists only while there are some renews those that last. A process that dies renews nothing, so its legs run out.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from policyguard.errors import StoreUnavailable
from policyguard.logs import say

EVERY_S: Final = 60.0
_STOP_S = 2.0


@dataclass(slots=True)
class _InFlight:
    """What one process has in flight: threads and locks do not survive a fork. True: it was there a round ago."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    legs: dict[str, bool] = field(default_factory=dict)
    thread: threading.Thread | None = None


class Renewal:
    """Renews legs in flight by `renew`, which says whether one still was. Thread-safe; survives a fork."""

    def __init__(self, renew: Callable[[str], bool], every_s: float = EVERY_S) -> None:
        self._renew = renew
        self._every_s = every_s
        self._processes: dict[int, _InFlight] = {}

    @contextmanager
    def alive(self, leg_id: str) -> Iterator[None]:
        """The leg is upstream as long as this lasts."""
        process = self._processes.setdefault(os.getpid(), _InFlight())
        with process.lock:
            process.legs[leg_id] = False
            if process.thread is None:
                process.thread = threading.Thread(
                    target=self._run, args=(process,), name="policyguard-renewal", daemon=True
                )
                process.thread.start()
        try:
            yield
        finally:
            with process.lock:
                process.legs.pop(leg_id, None)

    def beat(self) -> None:
        """One round in this process: what was there a round ago gets more time."""
        process = self._processes.get(os.getpid())
        if process is not None:
            self._beat(process)

    def close(self) -> None:
        process = self._processes.pop(os.getpid(), None)
        if process is not None and process.thread is not None:
            process.stop.set()
            process.thread.join(_STOP_S)

    def _run(self, process: _InFlight) -> None:
        while not process.stop.wait(self._every_s):
            self._beat(process)
            with process.lock:
                if not process.legs:
                    process.thread = None
                    return

    def _beat(self, process: _InFlight) -> None:
        with process.lock:
            lasting = [leg_id for leg_id, seen in process.legs.items() if seen]
            process.legs.update(dict.fromkeys(process.legs, True))
        for leg_id in lasting:
            try:
                in_flight = self._renew(leg_id)
            except StoreUnavailable:
                say(logging.WARNING, "store.down", "legs in flight get no more time, the store is down")
                return
            if not in_flight:
                with process.lock:
                    process.legs.pop(leg_id, None)

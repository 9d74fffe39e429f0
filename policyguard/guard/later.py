"""What the store could not be told: the ends of legs whose usage is known, told again until it hears them.

A thread that exists only while there is something tries the oldest, and all others once that works. What waits is
bounded in number and in time: after it the leg is presumed at its ceiling, as if the process had died.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple

from policyguard.decision import Ticket
from policyguard.errors import PolicyguardError, StoreUnavailable
from policyguard.flow.settle import ended
from policyguard.logs import say
from policyguard.request import Outcome
from policyguard.store import Store
from policyguard.store.db.group import Unanswered
from policyguard.store.db.patience import waiting
from policyguard.telemetry import lines
from policyguard.telemetry.path import Telemetry

EVERY_S: Final = 1.0
MOST: Final = 10_000  # legs that wait; a leg is a few kilobytes


class _UntoldLeg(NamedTuple):
    tell: Callable[[], object]
    until: float  # by the monotonic clock


@dataclass(slots=True)
class _Untold:
    """What one process has to tell: threads and locks do not survive a fork."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    stop: threading.Event = field(default_factory=threading.Event)
    legs: dict[str, _UntoldLeg] = field(default_factory=dict)
    thread: threading.Thread | None = None


class Later:
    """Thread-safe; survives a fork: a child tells what is its own."""

    def __init__(
        self,
        store: Store,
        telemetry: Telemetry,
        clock: Callable[[], datetime],
        *,
        store_timeout_s: float,
        for_s: float,
        every_s: float = EVERY_S,
    ) -> None:
        self._store, self._telemetry, self._clock = store, telemetry, clock
        self._store_timeout_s, self._for_s, self._every_s = store_timeout_s, for_s, every_s
        self._processes: dict[int, _Untold] = {}

    def settle(self, ticket: Ticket, outcome: Outcome, now: datetime, error: StoreUnavailable) -> None:
        """End the leg as it was to end at `now`, when the store failed with `error`."""
        lines.unsettled(ticket, error)
        end = ended(ticket, outcome, now)

        def tell() -> None:
            self._telemetry.settled(ticket, outcome, self._store.perform(end, self._clock()))

        self._put(ticket.leg_id, tell)

    def give_back(self, leg_id: str, error: StoreUnavailable) -> None:
        """Release the leg where nobody knows whether it is there, so that nothing was sent on it."""
        if isinstance(error, Unanswered):
            self._put(leg_id, lambda: self._store.give_back(leg_id, self._clock()))

    def not_sent(self, ticket: Ticket, error: StoreUnavailable) -> bool:
        """The leg was not marked as sent, or nobody knows: it is not sent. False, for who asked."""
        lines.not_sent(ticket, error)
        self.give_back(ticket.leg_id, error)
        return False

    def _put(self, leg_id: str, tell: Callable[[], object]) -> None:
        process = self._processes.setdefault(os.getpid(), _Untold())
        with process.lock:
            if len(process.legs) >= MOST or process.stop.is_set():
                _given_up(leg_id)
                return
            told_in_time = partial(waiting, self._store_timeout_s, tell)
            process.legs[leg_id] = _UntoldLeg(told_in_time, time.monotonic() + self._for_s)
            if process.thread is None:
                process.thread = threading.Thread(
                    target=_run, args=(process, self._every_s), name="policyguard-later", daemon=True
                )
                process.thread.start()

    @property
    def waiting(self) -> int:
        process = self._processes.get(os.getpid())
        return len(process.legs) if process else 0

    def round(self) -> None:
        """Tell what waits in this process, until the store does not hear it."""
        process = self._processes.get(os.getpid())
        if process is not None:
            _round(process)

    def close(self) -> None:
        """Try it once more; what is left is given up."""
        process = self._processes.pop(os.getpid(), None)
        if process is None:
            return
        process.stop.set()
        _round(process)
        for leg_id in process.legs:
            _given_up(leg_id)

    def leave(self) -> None:
        """Stop without another try."""
        process = self._processes.pop(os.getpid(), None)
        if process is not None:
            process.stop.set()


def _run(process: _Untold, every_s: float) -> None:
    while not process.stop.wait(every_s):
        _round(process)
        with process.lock:
            if not process.legs:
                process.thread = None
                return


def _round(process: _Untold) -> None:
    for leg_id, leg in list(process.legs.items()):
        if time.monotonic() > leg.until:
            _given_up(leg_id)
        else:
            try:
                leg.tell()
            except StoreUnavailable:
                return
            except PolicyguardError as error:
                say(logging.ERROR, "leg.unsettled", "leg %s is not settled: %s", leg_id, error, leg_id=leg_id)
        with process.lock:
            process.legs.pop(leg_id, None)


def _given_up(leg_id: str) -> None:
    words = "leg %s is not settled and will be presumed at its ceiling: the store was not there in time"
    say(logging.ERROR, "leg.given_up", words, leg_id, leg_id=leg_id)

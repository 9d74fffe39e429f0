"""What time it is. On a database that several hosts share its clock decides, whatever theirs say.

Reservations, windows, reviews, leases and breakers are compared with times that other hosts wrote. A host whose clock
is an hour fast would presume their requests, expire their reviews and keep an upstream closed for all. So the database
is asked from time to time, and in between a clock that nobody sets counts on from its answer. An SQLite file has one
host, and its clock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from policyguard.logs import say

MAX_SKEW_S: Final = 5.0  # between this host and the database, before somebody has to hear of it
_MAX_ASKED_S: Final = 1.0  # an answer that took longer says little, unless there is none yet


def host_now() -> datetime:
    """The time of this host, in UTC."""
    return datetime.now(UTC)


def steady_s() -> float:
    """Seconds of a clock that is never set; it goes on while a machine sleeps, where the system has such a clock."""
    boot_time = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot_time is None else time.clock_gettime(boot_time)


@dataclass(frozen=True, slots=True)
class _Sample:
    """What the database said, and when that was by the steady clock."""

    at: datetime
    steady_s: float
    asked_s: float
    skew_s: float


def is_due(last: datetime | None, now: datetime, every: timedelta) -> bool:
    """Whether what was done `last` is to be done again. A clock that jumps, back too, makes it due."""
    return last is None or abs(now - last) >= every


class Clock:
    """`now()` of one store. `ask` asks the database; None where the host's clock is the only one. Thread-safe."""

    def __init__(
        self,
        ask: Callable[[], datetime] | None = None,
        *,
        host: Callable[[], datetime] = host_now,
        steady: Callable[[], float] = steady_s,
    ) -> None:
        self._ask, self._host, self._steady = ask, host, steady
        self._sample: _Sample | None = None

    def now(self) -> datetime:
        """Aware UTC. Before the database was asked for the first time it is the host's."""
        sample = self._sample
        if sample is None:
            return self._host()
        return sample.at + timedelta(seconds=self._steady() - sample.steady_s)

    @property
    def skew_s(self) -> float:
        """By how many seconds this host was ahead of the database when it was last asked."""
        return self._sample.skew_s if self._sample else 0.0

    @property
    def is_off(self) -> bool:
        """Whether the two differ so much that somebody should mend the host."""
        return abs(self.skew_s) > MAX_SKEW_S

    def set(self) -> None:
        """Ask the database. Raises what asking raises; the answer before stays in use then."""
        if self._ask is None:
            return
        began = self._steady()
        said = self._ask()
        ended, host = self._steady(), self._host()
        asked_s = ended - began
        if self._sample is not None and asked_s > _MAX_ASKED_S:
            return
        at = said + timedelta(seconds=asked_s / 2)
        was_off = self.is_off
        self._sample = _Sample(at, ended, asked_s, (host - at).total_seconds())
        if self.is_off != was_off:
            self._tell()

    def _tell(self) -> None:
        if self.is_off:
            words = "the clock of this host differs from the database's by %+.0f s; the database's is used"
            say(logging.WARNING, "clock.skew", words, self.skew_s)
        else:
            say(logging.INFO, "clock.right", "the clock of this host agrees with the database's again")

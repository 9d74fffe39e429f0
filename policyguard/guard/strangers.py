"""How many refusals of unknown callers one address may leave in the record.

Anybody can send what is refused, and each refusal is a row. So a minute of an address has a number of rows for callers
whom nobody knows; what is beyond it is counted, and the count is a row. Whoever is known is recorded in any case.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final

from policyguard.flow.events import Event, event_id
from policyguard.flow.steps import Record, Step
from policyguard.logs import say

ROWS: Final = 60  # of one address in a minute
MINUTE: Final = timedelta(minutes=1)
ADDRESSES: Final = 1_000  # that are told apart; the others share a count
KEEP_DAYS: Final = 30
_OTHERS = "others"


@dataclass(slots=True)
class _Minute:
    """One address since `began`."""

    address: str
    began: datetime
    rows: int = 0
    beyond: int = 0


class Strangers:
    """Counts by address. `pseudonym` hides an address in the record. Thread-safe; each process counts by itself."""

    def __init__(self, pseudonym: Callable[[str, str], str], new_id: Callable[[datetime], str]) -> None:
        self._pseudonym, self._new_id = pseudonym, new_id
        self._lock = threading.Lock()
        self._minutes: dict[str, _Minute] = {}
        self._full: set[str] = set()  # addresses with more refusals than rows

    def bounded(self, step: Step, now: datetime) -> Step | None:
        """`step`, with what was only counted before; None where it is a refusal that is only counted, too."""
        if not isinstance(step, Record) or step.stranger is None:
            return step
        counted = self.counted(now)
        if not self.may_record(step.stranger, now):
            return Record(counted) if counted else None
        return replace(step, events=(*step.events, *counted))

    def may_record(self, address: str, now: datetime) -> bool:
        """Whether one more refusal of this address has a row of its own."""
        with self._lock:
            minute = self._minute(address, now)
            if minute.rows < ROWS:
                minute.rows += 1
                return True
            minute.beyond += 1
            is_first = minute.beyond == 1
            self._full.add(minute.address)
        if is_first:
            words = "more than %d refusals of unknown callers from one address in a minute; the rest is only counted"
            say(logging.WARNING, "refusals.counted", words, ROWS, address=self._pseudonym("address", address))
        return False

    def counted(self, now: datetime) -> tuple[Event, ...]:
        """A row for every minute that is over and had more refusals than rows. Each is given once."""
        with self._lock:
            over = [self._minutes[address] for address in self._full if _is_over(self._minutes[address], now)]
            for minute in over:
                del self._minutes[minute.address]
                self._full.remove(minute.address)
        return tuple(self._event(minute, now) for minute in over)

    def _minute(self, address: str, now: datetime) -> _Minute:
        if address not in self._minutes and len(self._minutes) >= ADDRESSES:
            self._forget(now)
            address = address if len(self._minutes) < ADDRESSES else _OTHERS
        minute = self._minutes.get(address)
        if minute is None or (not minute.beyond and _is_over(minute, now)):
            minute = self._minutes[address] = _Minute(address, now)
        return minute

    def _forget(self, now: datetime) -> None:
        """Addresses whose minute is over, but for what is still to be told of them."""
        for minute in list(self._minutes.values()):
            if not minute.beyond and _is_over(minute, now):
                del self._minutes[minute.address]

    def _event(self, minute: _Minute, now: datetime) -> Event:
        return Event(
            id=event_id("request.refusals", self._new_id(now)),
            type="request.refusals",
            at=now,
            outcome="deny",
            body={
                "count": minute.beyond,
                "recorded": minute.rows,
                "since": minute.began.isoformat(),
                "address": None if minute.address == _OTHERS else self._pseudonym("address", minute.address),
            },
            keep_days=KEEP_DAYS,
        )


def _is_over(minute: _Minute, now: datetime) -> bool:
    """A clock that is set back ends it, too."""
    return abs(now - minute.began) >= MINUTE

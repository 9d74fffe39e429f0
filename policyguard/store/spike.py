"""Why a day cost what it cost: which dimension moved most against the mean of the week before.

If everything had grown alike, every value would have its old share of the new total. A dimension has moved by as much
money as is not where that would put it; the dimension that moved most says best what is new.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta, tzinfo
from typing import Final

from sqlalchemy import Connection

from policyguard.store.reports import DAY, SPEND_BY, SpendRow, spend

BEFORE: Final = 7
BY = tuple(name for name in SPEND_BY if name != DAY)


@dataclass(frozen=True, slots=True)
class Contribution:
    """What one value contributed: micro-dollars of the day, and of a mean day of the week before."""

    value: str | None
    day_micros: int
    mean_micros: int

    @property
    def change_micros(self) -> int:
        return self.day_micros - self.mean_micros


@dataclass(frozen=True, slots=True)
class Moved:
    """One dimension, its parts by how much they changed; `moved_micros` is what plain growth does not explain."""

    by: str
    moved_micros: int
    parts: tuple[Contribution, ...]


@dataclass(frozen=True, slots=True)
class Spike:
    """A day against the mean of those before it; the dimension that moved most first."""

    day: date
    spent_micros: int
    mean_micros: int
    requests: int
    mean_requests: float
    dimensions: tuple[Moved, ...]


def explain(connection: Connection, day: date, zone: tzinfo) -> Spike:
    """`day` is one of the zone."""
    starts, ends = _midnight(day, zone), _midnight(day + timedelta(days=1), zone)
    before = _midnight(day - timedelta(days=BEFORE), zone)
    (now,), (then,) = (spend(connection, (), *time, zone) for time in ((starts, ends), (before, starts)))
    dimensions = [
        _moved(name, *(spend(connection, (name,), *time, zone) for time in ((starts, ends), (before, starts))))
        for name in BY
    ]
    return Spike(
        day=day,
        spent_micros=now.spent_micros,
        mean_micros=then.spent_micros // BEFORE,
        requests=now.requests,
        mean_requests=then.requests / BEFORE,
        dimensions=tuple(sorted(dimensions, key=lambda moved: -moved.moved_micros)),
    )


def _midnight(day: date, zone: tzinfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)


def _moved(name: str, now: Sequence[SpendRow], then: Sequence[SpendRow]) -> Moved:
    day, mean = _by_value(name, now), {v: micros // BEFORE for v, micros in _by_value(name, then).items()}
    parts = [Contribution(value, day.get(value, 0), mean.get(value, 0)) for value in {**day, **mean}]
    grown, before = sum(day.values()), sum(mean.values())
    # before anything was spent there are no shares, and nothing to tell values apart by
    expected = {part.value: part.mean_micros * grown // before if before else part.day_micros for part in parts}
    moved = sum(abs(part.day_micros - expected[part.value]) for part in parts) // 2
    parts.sort(key=lambda part: (-abs(part.change_micros), str(part.value)))
    return Moved(name, moved, tuple(parts))


def _by_value(name: str, rows: Sequence[SpendRow]) -> Mapping[str | None, int]:
    return {row.by[name]: row.spent_micros for row in rows}

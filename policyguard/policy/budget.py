"""Calendar windows of budgets, and which of them one request touches. Pure; times are aware.

A window starts at the calendar start in the budget's zone; rows are never reset, a new window is a new row. The local
time of that start names it, so that hosts with another version of the zone's table take from the same window.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import NamedTuple

from policyguard.policy.model import Budget, Period
from policyguard.zones import zone

_BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


class WindowSpan(NamedTuple):
    """When a window is open, in UTC, and the local time of its start as if that were UTC."""

    starts: datetime
    ends: datetime | None
    local: datetime


@dataclass(frozen=True, slots=True)
class Window:
    """One budget's open window for one value of its `per`. `key` and the local start name it for ever."""

    budget: Budget
    key: str
    span: WindowSpan


def windows(budgets: tuple[Budget, ...], dimensions: Mapping[str, str | None], now: datetime) -> list[Window]:
    """The windows that a request touches, by key. `dimensions` has pseudonyms, and every value of a `per`."""
    found = []
    for budget in budgets:
        key = budget.identity if budget.per is None else f"{budget.identity}|{dimensions[budget.per]}"
        found.append(Window(budget, key, window(budget.period, budget.time_zone, now)))
    return sorted(found, key=lambda w: w.key)


def charged(budget: Budget, ceiling_micros: int, images: int) -> int:
    """What one request takes from a budget, in its unit."""
    return {"usd": ceiling_micros, "images": images, "requests": 1}[budget.unit]


def window(period: Period, time_zone: str, now: datetime) -> WindowSpan:
    """The calendar window around `now`; a `total` has no end."""
    if period == "total":
        return WindowSpan(_BEGINNING, None, _BEGINNING)
    if period in ("minute", "hour"):
        return _short(period, now)
    ordinal = now.astimezone(zone(time_zone)).toordinal()
    span = _calendar(period, time_zone, ordinal)
    if span.ends is not None and now >= span.ends:
        # clocks were set back over midnight: it is yesterday once more, in today's window
        return _calendar(period, time_zone, ordinal + 1)
    if now < span.starts:  # clocks were set ahead over midnight, from before it
        return _calendar(period, time_zone, ordinal - 1)
    return span


def _short(period: Period, now: datetime) -> WindowSpan:
    """Minutes and hours do not depend on a calendar; half-hour zones count in UTC, too."""
    if period == "minute":
        starts = now.astimezone(UTC).replace(second=0, microsecond=0)
        return WindowSpan(starts, starts + timedelta(minutes=1), starts)
    starts = now.astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    return WindowSpan(starts, starts + timedelta(hours=1), starts)


@lru_cache(maxsize=4096)
def _calendar(period: Period, time_zone: str, ordinal: int) -> WindowSpan:
    """From local midnight to local midnight: a day has 23 to 25 hours where clocks change."""
    day = datetime.fromordinal(ordinal)
    if period == "day":
        first, last = day, day + timedelta(days=1)
    elif period == "week":
        first = day - timedelta(days=day.weekday())
        last = first + timedelta(days=7)
    elif period == "month":
        first = day.replace(day=1)
        last = (first + timedelta(days=32)).replace(day=1)
    else:
        first, last = day.replace(month=1, day=1), day.replace(year=day.year + 1, month=1, day=1)
    starts, ends = (edge.replace(tzinfo=zone(time_zone)).astimezone(UTC) for edge in (first, last))
    return WindowSpan(starts, ends, first.replace(tzinfo=UTC))

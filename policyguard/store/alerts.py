"""Alerts: a budget that has reached so many per cent of its limit says so, once for each window and threshold.

The row of a window knows its thresholds and the highest one that was told, and the event of each is written in the
transaction of the change that reached it. What counts is what is spent and reserved together.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from policyguard.events import Event, event_id
from policyguard.steps import Alert, Charge
from policyguard.store.record import write_events
from policyguard.store.sql import Sql, moment, run, us

# What a statement that changes windows has to return for `reached`.
COLUMNS = "key, starts_us, budget_id, unit, mode, limit_amount, spent, reserved, alert_at, alerted"

_TOLD = Sql("UPDATE budget_windows SET alerted = :per_cent WHERE key = :key AND starts_us = :starts_us")
_WINDOW = Sql(f"SELECT {COLUMNS} FROM budget_windows WHERE key = :key AND starts_us = :starts_us")  # noqa: S608
_WHOLE = 100


def per_cents(charge: Charge) -> str | None:
    """The thresholds as the window keeps them."""
    return ",".join(map(str, charge.alert_at)) or None


def reached(
    connection: Connection, windows: Iterable[Row[Any]], now: datetime, keep_days: int | None
) -> tuple[Alert, ...]:
    """Tell what has been reached. `windows` are locked rows with `COLUMNS`, as they are after the change."""
    return tuple(
        alert
        for window in windows
        if window.alert_at is not None
        for alert in _tell(connection, window, _used_up(window), now, keep_days)
    )


def exhausted(connection: Connection, charge: Charge, now: datetime, keep_days: int | None) -> tuple[Alert, ...]:
    """A request found no room: the limit is reached, although a little is left. A window is there since its first."""
    key = {"key": charge.key, "starts_us": us(charge.starts)}
    window = run(connection, _WINDOW, key).first()
    if window is None or window.alert_at is None or _WHOLE not in charge.alert_at:
        return ()
    return _tell(connection, window, _WHOLE, now, keep_days)


def _used_up(window: Row[Any]) -> int:
    return int((window.spent + window.reserved) * 100 // window.limit_amount)


def _tell(
    connection: Connection, window: Row[Any], used_up: int, now: datetime, keep_days: int | None
) -> tuple[Alert, ...]:
    due = [p for p in map(int, window.alert_at.split(",")) if window.alerted < p <= used_up]
    if not due:
        return ()
    run(connection, _TOLD, {"per_cent": due[-1], "key": window.key, "starts_us": window.starts_us})
    write_events(connection, [_event(window, per_cent, now, keep_days) for per_cent in due])
    used = window.spent + window.reserved
    return tuple(Alert(window.budget_id, p, used, window.limit_amount, window.unit) for p in due)


def _event(window: Row[Any], per_cent: int, now: datetime, keep_days: int | None) -> Event:
    starts = moment(window.starts_us).isoformat()
    body = {
        "budget": window.budget_id,
        "key": window.key,
        "window": starts,
        "per_cent": per_cent,
        "used": window.spent + window.reserved,
        "limit": window.limit_amount,
        "unit": window.unit,
        "mode": window.mode,
    }
    id_ = event_id("budget.alert", f"{window.key}|{starts}|{per_cent}")
    return Event(id=id_, type="budget.alert", at=now, body=body, keep_days=keep_days)

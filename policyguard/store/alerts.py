"""Alerts: a budget that has reached so many per cent of its limit says so, once for each window and threshold.

The row of a window knows its thresholds and the highest one that was told, and the event of each is written in the
transaction of the change that reached it. What counts is what is spent and reserved together.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import NamedTuple

from policyguard.flow.events import Event, event_id
from policyguard.flow.steps import Alert, Charge
from policyguard.policy.model import Unit
from policyguard.store.db.sql import Query, Sql, SQLSteps, ask, moment, us
from policyguard.store.record import event_queries


class WindowRow(NamedTuple):
    """A row of `budget_windows` as it is after a change: what a statement with `RETURNING` of `COLUMNS` gives."""

    key: str
    starts_us: int
    budget_id: str
    unit: Unit
    mode: str
    limit_amount: int
    spent: int
    reserved: int
    alert_at: str | None
    alerted: int
    opens_us: int

    @property
    def used(self) -> int:
        return self.spent + self.reserved

    def at(self, spent: int, reserved: int) -> WindowRow:
        """This window with other balances."""
        return WindowRow(*self[:6], spent, reserved, *self[8:])


COLUMNS = ", ".join(WindowRow._fields)
# In a group others have changed the window as well; whoever raises the highest threshold first tells it.
_TELL = Sql(
    """
    UPDATE budget_windows SET alerted = :per_cent
    WHERE key = :key AND starts_us = :starts_us AND alerted < :per_cent RETURNING alerted
    """
)
_WINDOW = Sql(f"SELECT {COLUMNS} FROM budget_windows WHERE key = :key AND starts_us = :starts_us")  # noqa: S608
_WHOLE = 100


def per_cents(charge: Charge) -> str | None:
    """The thresholds as the window keeps them."""
    return ",".join(map(str, charge.alert_at)) if charge.alert_at else None


def reached(windows: Iterable[WindowRow], now: datetime, keep_days: int | None) -> SQLSteps[tuple[Alert, ...]]:
    """Tell what the change of these windows has reached."""
    due = [(w, p) for w in windows if w.alert_at is not None for p in _due(w, w.used * 100 // w.limit_amount)]
    return (yield from _tell(due, now, keep_days)) if due else ()


def exhausted(charge: Charge, now: datetime, keep_days: int | None) -> SQLSteps[tuple[Alert, ...]]:
    """A request found no room: the limit is reached, although a little is left. A window is there since its first."""
    rows = yield from ask(_WINDOW, {"key": charge.key, "starts_us": us(charge.local)})
    due = [(w, p) for w in (WindowRow(*row) for row in rows) if _WHOLE in charge.alert_at for p in _due(w, _WHOLE)]
    return (yield from _tell(due, now, keep_days)) if due else ()


def _due(window: WindowRow, used_up: int) -> list[int]:
    return [p for p in map(int, (window.alert_at or "0").split(",")) if window.alerted < p <= used_up]


def _tell(due: list[tuple[WindowRow, int]], now: datetime, keep_days: int | None) -> SQLSteps[tuple[Alert, ...]]:
    asked = [Query(_TELL, {"per_cent": p, "key": w.key, "starts_us": w.starts_us}) for w, p in due]
    first = yield asked
    told = [one for one, rows in zip(due, first, strict=True) if rows]
    if told:
        yield event_queries(_event(window, per_cent, now, keep_days) for window, per_cent in told)
    return tuple(Alert(w.budget_id, p, w.used, w.limit_amount, w.unit) for w, p in told)


def _event(window: WindowRow, per_cent: int, now: datetime, keep_days: int | None) -> Event:
    body = {
        "budget": window.budget_id,
        "key": window.key,
        "window": moment(window.opens_us).isoformat(),
        "per_cent": per_cent,
        "used": window.used,
        "limit": window.limit_amount,
        "unit": window.unit,
        "mode": window.mode,
    }
    id_ = event_id("budget.alert", f"{window.key}|{moment(window.starts_us).isoformat()}|{per_cent}")
    return Event(id=id_, type="budget.alert", at=now, body=body, keep_days=keep_days)

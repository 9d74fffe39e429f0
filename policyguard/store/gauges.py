"""How the ledger stands now, for telemetry: sums by budget and by surface, never by caller. Read in one transaction."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, case, func, or_, select

from policyguard.store.db import tables
from policyguard.store.db.sql import us

_NO_SURFACE = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetGauge:
    """A budget of `owner` (a surface, or `org`) over its open windows, one for each value of its `per`.

    Amounts are in `unit`. `limit` is None where there is one for each caller; `fullest` is how much of its limit the
    fullest window has spent and reserved, 1 for all.
    """

    owner: str
    budget_id: str
    unit: str
    mode: str
    spent: int
    reserved: int
    limit: int | None
    fullest: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Gauges:
    """`presumed` are legs and micro-dollars by surface, `held` reviews by surface.

    `clock_skew_s` says how many seconds this host is ahead of the database.
    """

    budgets: tuple[BudgetGauge, ...] = ()
    presumed: Mapping[str, tuple[int, int]]
    held: Mapping[str, int]
    breakers_open: int = 0
    clock_skew_s: float = 0.0


def gauges(connection: Connection, now: datetime) -> Gauges:
    legs, reviews, breakers = tables.legs.c, tables.reviews.c, tables.breakers.c
    presumed = select(legs.surface, func.count(), func.sum(legs.charged_micros)).where(legs.state == "presumed")
    held = select(reviews.surface, func.count()).where(reviews.state == "held")
    is_open = select(func.count()).where(breakers.open_until_us > us(now))
    return Gauges(
        budgets=_budgets(connection, now),
        presumed={
            surface or _NO_SURFACE: (int(count), int(micros))
            for surface, count, micros in connection.execute(presumed.group_by(legs.surface))
        },
        held={surface or _NO_SURFACE: int(n) for surface, n in connection.execute(held.group_by(reviews.surface))},
        breakers_open=int(connection.execute(is_open).scalar_one()),
    )


def _budgets(connection: Connection, now: datetime) -> tuple[BudgetGauge, ...]:
    w = tables.budget_windows.c
    # a key begins with the owner, and ends with the value of `per`
    before = func.substr(w.key, 1, func.instr(w.key, "|") - 1)
    owner = before if connection.dialect.name == "sqlite" else func.split_part(w.key, "|", 1)
    shared = func.max(case((w.key.like("%|"), w.limit_amount), else_=None))
    fullest = func.max((w.spent + w.reserved) * 1.0 / func.nullif(w.limit_amount, 0))
    query = (
        select(owner, w.budget_id, w.unit, w.mode, func.sum(w.spent), func.sum(w.reserved), shared, fullest)
        .where(w.opens_us <= us(now), or_(w.ends_us.is_(None), w.ends_us > us(now)))
        .group_by(owner, w.budget_id, w.unit, w.mode)
        .order_by(owner, w.budget_id)
    )
    return tuple(
        BudgetGauge(
            owner=row[0],
            budget_id=row[1],
            unit=row[2],
            mode=row[3],
            spent=int(row[4]),
            reserved=int(row[5]),
            limit=None if row[6] is None else int(row[6]),
            fullest=float(row[7] or 0),
        )
        for row in connection.execute(query)
    )

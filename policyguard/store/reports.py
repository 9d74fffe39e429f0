"""Reports over the ledger: what was estimated, reserved, spent, presumed and refused, and how full the budgets are.

Money comes from the legs, so a report and the budgets can never tell different stories; refusals come from the record.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, case, func, select

from policyguard.errors import ConfigError
from policyguard.events import DIMENSIONS
from policyguard.store import tables
from policyguard.store.sql import DAY_US, Sql, moment, run, us

SPEND_BY = (*DIMENSIONS, "model", "size", "quality", "day")
_REFUSED_BY = frozenset(DIMENSIONS) | {"day"}  # what the record of a refusal has as columns

Group = Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRow:
    """One group. Money in micro-dollars; `day` is an ISO date in UTC.

    `estimated` is the ceilings of everything admitted, `reserved` of what is still open, `actual` what usage said,
    `presumed` what was charged without it. `refused` is None where refusals are not known by this dimension.
    """

    by: Group
    requests: int = 0
    images: int = 0
    estimated_micros: int = 0
    reserved_micros: int = 0
    actual_micros: int = 0
    presumed_micros: int = 0
    refused: int | None = field(default=None)

    @property
    def spent_micros(self) -> int:
        return self.actual_micros + self.presumed_micros


def spend(connection: Connection, by: Sequence[str], since: datetime | None, until: datetime | None) -> list[SpendRow]:
    """By one or more of `SPEND_BY`, without any the total; what was spent most first. Times are of the decision."""
    for name in by:
        if name not in SPEND_BY:
            raise ConfigError(f"spend has no `{name}`; there is {', '.join(f'`{n}`' for n in SPEND_BY)}")
    spent = {_key(row, by): row for row in connection.execute(_spent(by, since, until))}
    refused = _refused(connection, by, since, until)
    keys = [*spent, *(key for key in refused or {} if key not in spent)]
    rows = [_row(by, key, spent.get(key), refused) for key in keys]
    return sorted(rows, key=lambda row: (-row.spent_micros, -row.estimated_micros, str(row.by)))


def _spent(by: Sequence[str], since: datetime | None, until: datetime | None) -> Select[Any]:
    legs = tables.legs.c
    live, released = legs.state.in_(["held", "sent"]), legs.state == "released"
    sums = (
        func.count().label("requests"),
        _total(case((released, 0), else_=legs.n)).label("images"),
        _total(legs.ceiling_micros).label("estimated"),
        _total(case((live, legs.ceiling_micros), else_=0)).label("reserved"),
        _total(case((legs.state == "settled", legs.charged_micros), else_=0)).label("actual"),
        _total(case((legs.state == "presumed", legs.charged_micros), else_=0)).label("presumed"),
    )
    groups = _groups(tables.legs, by, "created_us")
    return _within(select(*groups, *sums), legs.created_us, since, until).group_by(*groups)


def _refused(
    connection: Connection, by: Sequence[str], since: datetime | None, until: datetime | None
) -> dict[tuple[Any, ...], int] | None:
    if not _REFUSED_BY.issuperset(by):
        return None
    events = tables.events.c
    groups = _groups(tables.events, by, "at_us")
    query = select(*groups, func.count().label("refused"))
    query = query.where(events.outcome == "deny", events.type == "request.decided")
    rows = connection.execute(_within(query, events.at_us, since, until).group_by(*groups))
    return {_key(row, by): row.refused for row in rows}


def _groups(table: Table, by: Sequence[str], time: str) -> list[ColumnElement[Any]]:
    return [(table.c[time] // DAY_US).label("day") if name == "day" else table.c[name] for name in by]


def _within(query: Select[Any], at: ColumnElement[int], since: datetime | None, until: datetime | None) -> Select[Any]:
    if since is not None:
        query = query.where(at >= us(since))
    return query if until is None else query.where(at < us(until))


def _total(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(value), 0)


def _key(row: Row[Any], by: Sequence[str]) -> tuple[Any, ...]:
    return tuple(row[: len(by)])


def _row(
    by: Sequence[str], key: tuple[Any, ...], row: Row[Any] | None, refused: Mapping[tuple[Any, ...], int] | None
) -> SpendRow:
    group = {name: _day(value) if name == "day" else value for name, value in zip(by, key, strict=True)}
    count = None if refused is None else refused.get(key, 0)
    if row is None:
        return SpendRow(by=group, refused=count)
    return SpendRow(
        by=group,
        requests=row.requests,
        images=int(row.images),
        estimated_micros=int(row.estimated),
        reserved_micros=int(row.reserved),
        actual_micros=int(row.actual),
        presumed_micros=int(row.presumed),
        refused=count,
    )


def _day(number: int) -> str:
    return datetime.fromtimestamp(number * DAY_US // 1_000_000, UTC).date().isoformat()


# ---- budgets ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetWindow:
    """One window of one budget. Amounts are micro-dollars, or images; `ends` is None for a budget in total."""

    budget_id: str
    key: str
    unit: str
    mode: str
    limit: int
    reserved: int
    spent: int
    starts: datetime
    ends: datetime | None


_WINDOWS = Sql(
    """
    SELECT budget_id, key, unit, mode, limit_amount, reserved, spent, starts_us, ends_us FROM budget_windows
    WHERE :always = 1 OR (starts_us <= :at AND (ends_us IS NULL OR ends_us > :at))
    ORDER BY key, starts_us
    """
)


def budget_windows(connection: Connection, at: datetime | None) -> list[BudgetWindow]:
    """The windows that are open at `at`; without it all there ever were."""
    rows = run(connection, _WINDOWS, {"always": int(at is None), "at": us(at) if at else 0})
    return [
        BudgetWindow(
            budget_id=row.budget_id,
            key=row.key,
            unit=row.unit,
            mode=row.mode,
            limit=row.limit_amount,
            reserved=row.reserved,
            spent=row.spent,
            starts=moment(row.starts_us),
            ends=None if row.ends_us is None else moment(row.ends_us),
        )
        for row in rows
    ]

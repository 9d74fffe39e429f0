"""Reports over the ledger: what was estimated, reserved, spent, presumed and refused, and how full the budgets are.

Money comes from the legs, so a report and the budgets can never tell different stories; what was refused has rows of
its own with the same columns. A day is one of a time zone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, tzinfo
from typing import Any

from sqlalchemy import ColumnElement, Connection, Row, Select, Table, case, func, select

from policyguard.errors import ConfigError
from policyguard.flow.events import DIMENSIONS
from policyguard.store.db import tables
from policyguard.store.db.sql import DAY_US, Sql, moment, run, us
from policyguard.text.suggest import did_you_mean

DAY = "day"
SPEND_BY = (*DIMENSIONS, "model", "size", "quality", DAY)
_EPOCH = date(1970, 1, 1).toordinal()

Group = Mapping[str, str | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpendRow:
    """One group. Money in micro-dollars; `day` is an ISO date.

    `estimated` is the ceilings of everything admitted, `reserved` of what is still open, `actual` what usage said,
    `presumed` what was charged without it. `refused` requests have not spent `refused_micros`, their ceilings; what was
    refused before it had a price counts as nothing there.
    """

    by: Group
    requests: int = 0
    images: int = 0
    estimated_micros: int = 0
    reserved_micros: int = 0
    actual_micros: int = 0
    presumed_micros: int = 0
    refused: int = 0
    refused_micros: int = 0

    @property
    def spent_micros(self) -> int:
        return self.actual_micros + self.presumed_micros


_SUMS = tuple(name for name in SpendRow.__slots__ if name != "by")


def spend(
    connection: Connection, by: Sequence[str], since: datetime | None, until: datetime | None, zone: tzinfo
) -> list[SpendRow]:
    """By one or more of `SPEND_BY`, without any the total; what was spent most first. Times are of the decision."""
    for name in by:
        if name not in SPEND_BY:
            hint = did_you_mean(name, SPEND_BY) or f"there is {', '.join(f'`{n}`' for n in SPEND_BY)}"
            raise ConfigError(f"spend has no `{name}`; {hint}")
    rows: dict[tuple[Any, ...], SpendRow] = {}
    for query in (_spent, _refused):
        for row in connection.execute(query(_days(connection, by, since, until, zone), by, since, until)):
            key = tuple(row[: len(by)])
            there = rows.get(key) or SpendRow(by=_group(key, by))
            sums: dict[str, Any] = {name: int(value) for name, value in row._mapping.items() if name in _SUMS}
            rows[key] = replace(there, **sums)
    found = [row for row in rows.values() if row.requests or row.refused]
    return sorted(found or ([] if by else [SpendRow(by={})]), key=lambda row: (*_size(row), str(row.by)))


def _group(key: tuple[Any, ...], by: Sequence[str]) -> Group:
    return {n: date.fromordinal(_EPOCH + v).isoformat() if n == DAY else v for n, v in zip(by, key, strict=True)}


def _size(row: SpendRow) -> tuple[int, ...]:
    return -row.spent_micros, -row.estimated_micros, -row.refused_micros, -row.refused


def _spent(days: Offsets, by: Sequence[str], since: datetime | None, until: datetime | None) -> Select[Any]:
    legs = tables.legs.c
    live, released = legs.state.in_(["held", "sent"]), legs.state == "released"
    sums = (
        func.count().label("requests"),
        _total(case((released, 0), else_=legs.n)).label("images"),
        _total(legs.ceiling_micros).label("estimated_micros"),
        _total(case((live, legs.ceiling_micros), else_=0)).label("reserved_micros"),
        _total(case((legs.state == "settled", legs.charged_micros), else_=0)).label("actual_micros"),
        _total(case((legs.state == "presumed", legs.charged_micros), else_=0)).label("presumed_micros"),
    )
    return _grouped(tables.legs, days, by, sums, since, until)


def _refused(days: Offsets, by: Sequence[str], since: datetime | None, until: datetime | None) -> Select[Any]:
    sums = (func.count().label("refused"), _total(tables.refusals.c.ceiling_micros).label("refused_micros"))
    return _grouped(tables.refusals, days, by, sums, since, until)


def _grouped(
    table: Table,
    days: Offsets,
    by: Sequence[str],
    sums: Iterable[ColumnElement[Any]],
    since: datetime | None,
    until: datetime | None,
) -> Select[Any]:
    at = table.c.created_us
    groups = [_day(at, days).label(DAY) if name == DAY else table.c[name] for name in by]
    query = select(*groups, *sums).group_by(*groups)
    if since is not None:
        query = query.where(at >= us(since))
    return query if until is None else query.where(at < us(until))


def _total(value: ColumnElement[Any]) -> ColumnElement[Any]:
    return func.coalesce(func.sum(value), 0)


# ---- days -------------------------------------------------------------------------------------------------

Offsets = Sequence[tuple[int, int]]  # until when, and by how much local time is ahead, in microseconds
_FIRST_AND_LAST = Sql(
    """
    SELECT min(first) AS first, max(last) AS last FROM (
      SELECT min(created_us) AS first, max(created_us) AS last FROM legs
      UNION ALL SELECT min(created_us), max(created_us) FROM refusals) AS both_of_them
    """
)


def _days(
    connection: Connection, by: Sequence[str], since: datetime | None, until: datetime | None, zone: tzinfo
) -> Offsets:
    """How local time stood in the whole time of a report."""
    if DAY not in by:
        return ()
    there = run(connection, _FIRST_AND_LAST, {}).one()
    first = us(since) if since else there.first or 0
    last = us(until) if until else there.last or first
    return list(_offsets(first, max(first, last), zone))


def _offsets(first: int, last: int, zone: tzinfo) -> Iterator[tuple[int, int]]:
    """Clocks change at full minutes, and not twice a day."""
    at = first
    while at < last:
        later = min(at + DAY_US, last)
        if _ahead(at, zone) != _ahead(later, zone):
            yield _change(at, later, zone), _ahead(at, zone)
        at = later
    yield last, _ahead(last, zone)


def _change(before: int, after: int, zone: tzinfo) -> int:
    while after - before > 1:
        middle = (before + after) // 2
        before, after = (middle, after) if _ahead(middle, zone) == _ahead(before, zone) else (before, middle)
    return after


def _ahead(at: int, zone: tzinfo) -> int:
    return us(moment(at).astimezone(zone).replace(tzinfo=UTC)) - at


def _day(at: ColumnElement[int], offsets: Offsets) -> ColumnElement[Any]:
    """The number of the local day. Times lie after 1970, so that a division rounds down on every engine."""
    *earlier, (_, last) = offsets
    ahead = case(*((at < until, offset) for until, offset in earlier), else_=last) if earlier else last
    return (at + ahead) // DAY_US


# ---- budgets ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetWindow:
    """One window of one budget. Amounts are micro-dollars, images or requests; `ends` is None for a budget in total."""

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
    SELECT budget_id, key, unit, mode, limit_amount, reserved, spent, opens_us, ends_us FROM budget_windows
    WHERE :always = 1 OR (opens_us <= :at AND (ends_us IS NULL OR ends_us > :at))
    ORDER BY key, starts_us
    """
)


def budget_windows(connection: Connection, at: datetime | None) -> list[BudgetWindow]:
    """The windows that are open at `at`; without it all there ever were."""
    rows = run(connection, _WINDOWS, {"always": int(at is None), "at": us(at) if at else 0})
    return [_window(row) for row in rows]


def _window(row: Row[Any]) -> BudgetWindow:
    return BudgetWindow(
        budget_id=row.budget_id,
        key=row.key,
        unit=row.unit,
        mode=row.mode,
        limit=row.limit_amount,
        reserved=row.reserved,
        spent=row.spent,
        starts=moment(row.opens_us),
        ends=None if row.ends_us is None else moment(row.ends_us),
    )

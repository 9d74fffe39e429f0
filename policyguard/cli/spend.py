"""`policyguard spend`: who spent what: estimated, reserved, actual, presumed, and what was refused.

The sums come from `store.reports`; here they become a table, JSON or CSV.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from datetime import date, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from policyguard.cli.output import (
    NowOption,
    StoreOption,
    bar,
    console,
    csv_cell,
    dollars,
    fail,
    moment,
    print_json,
    table,
)
from policyguard.cli.stores import existing_store
from policyguard.text.suggest import shown

if TYPE_CHECKING:
    from policyguard.store import BudgetWindow, SpendRow

FormatOption = Annotated[
    Literal["text", "json", "csv"], typer.Option("--format", help="Text for people, JSON and CSV for programs.")
]
MONEY = ("estimated", "reserved", "actual", "presumed", "spent")


def spend(
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="surface, tenant, user, tier, cohort, feature, engineer, model, size, quality, day."),
    ] = None,
    since: Annotated[str | None, typer.Option(help="From this day on, like 2026-11-20.", metavar="DAY")] = None,
    until: Annotated[str | None, typer.Option(help="To the end of this day.", metavar="DAY")] = None,
    days: Annotated[int | None, typer.Option(help="Only the last so many days.", min=1)] = None,
    zone: Annotated[str, typer.Option(help="Where days begin, like Europe/Berlin.")] = "UTC",
    explain: Annotated[str | None, typer.Option(help="Why this day cost what it did.", metavar="DAY")] = None,
    budgets: Annotated[bool, typer.Option("--budgets", help="Show how full the open budgets are instead.")] = False,
    store: StoreOption = None,
    now: NowOption = None,
    format: FormatOption = "text",
) -> None:
    """Report spend by one or more dimensions. Users and engineers are shown as pseudonyms.

    Estimated is the most that admitted requests could cost, reserved what of it is still open, actual what they did
    cost, presumed what was charged without knowing. Not spent are the ceilings of what was refused.

    Examples:

      policyguard spend

      policyguard spend --by tenant --by surface --days 7

      policyguard spend --by day --since 2026-11-01 --until 2026-11-24 --zone Europe/Berlin --format csv

      policyguard spend --explain 2026-11-20

      policyguard spend --budgets --format json
    """
    at, place = moment(now), _zone(zone)
    if days and since:
        fail("`--days` and `--since` exclude each other", hint="give one of them")
    first = at - timedelta(days=days) if days else _midnight(since, "--since", place)
    last = _midnight(until, "--until", place, after=1)
    names = tuple(dict.fromkeys(by or ("surface",)))
    with existing_store(store) as opened:
        if budgets:
            _say_budgets(opened.budget_windows(at), format)
        elif explain:
            from policyguard.cli.spike import say

            say(opened.explain_spend(_day(explain, "--explain"), place), format)
        else:
            _say(opened.spend(names, first, last, place), names, format)


def _zone(name: str) -> tzinfo:
    from policyguard import zones

    try:
        return zones.zone(name)
    except ValueError:
        fail(f"there is no time zone {shown(name)}", hint=zones.near(name) or "write it like `Europe/Berlin`")


def _day(text: str, option: str) -> date:
    from policyguard.policy.units import day

    try:
        return day(text)
    except ValueError as error:
        fail(f"`{option} {text}` is no day", hint=str(error))


def _midnight(text: str | None, option: str, zone: tzinfo, after: int = 0) -> datetime | None:
    if text is None:
        return None
    found = _day(text, option) + timedelta(days=after)
    return datetime(found.year, found.month, found.day, tzinfo=zone)


# ---- spend ------------------------------------------------------------------------------------------------


def _say(rows: list[SpendRow], names: tuple[str, ...], format: str) -> None:
    if format == "json":
        print_json([{**asdict(row), "spent_micros": row.spent_micros} for row in rows])
    elif format == "csv":
        _write(rows, names)
    else:
        _print(rows, names)


def _write(rows: list[SpendRow], names: tuple[str, ...]) -> None:
    """Money in micro-dollars, exactly as it is kept."""
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow((*names, "requests", "images", *(f"{name}_micros" for name in MONEY), "refused", "refused_micros"))
    for row in rows:
        money = (getattr(row, f"{name}_micros") for name in MONEY)
        group = (csv_cell(row.by[name] or "") for name in names)
        out.writerow((*group, row.requests, row.images, *money, row.refused, row.refused_micros))


def _print(rows: list[SpendRow], names: tuple[str, ...]) -> None:
    columns = (*names, "requests", "images", *MONEY, "refused", "not spent")
    top = max((row.spent_micros for row in rows), default=0)
    lines = [(*_group(row, names), *_amounts(row), bar(row.spent_micros, top)) for row in rows]
    console().print(table((*columns, ""), lines, right=columns[len(names) :]))


def _group(row: SpendRow, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row.by[name] or "-" for name in names)


def _amounts(row: SpendRow) -> tuple[str, ...]:
    money = (dollars(getattr(row, f"{name}_micros")) for name in MONEY)
    return (f"{row.requests:,}", f"{row.images:,}", *money, f"{row.refused:,}", dollars(row.refused_micros))


# ---- budgets ----------------------------------------------------------------------------------------------


def _say_budgets(windows: list[BudgetWindow], format: str) -> None:
    if format == "text":
        _print_budgets(windows)
    elif format == "json":
        print_json([asdict(w) for w in windows])
    else:
        out = csv.writer(sys.stdout, lineterminator="\n")
        names = ("budget_id", "key", "unit", "mode", "limit", "spent", "reserved", "starts", "ends")
        out.writerow(names)
        out.writerows([csv_cell(str(getattr(window, name) or "")) for name in names] for window in windows)


def _print_budgets(windows: list[BudgetWindow]) -> None:
    columns = ("surface", "budget", "for", "limit", "spent", "reserved", "full", "", "opens again")
    rows = [
        (
            window.key.split("|")[0],
            window.budget_id if window.mode == "enforce" else f"{window.budget_id} (shadow)",
            _whose(window),
            _amount(window, window.limit),
            _amount(window, window.spent),
            _amount(window, window.reserved),
            f"{(window.spent + window.reserved) * 100 // max(1, window.limit)} %",
            bar(window.spent + window.reserved, window.limit),
            f"{window.ends:%Y-%m-%d %H:%M} UTC" if window.ends else "never",
        )
        for window in windows
    ]
    console().print(table(columns, rows, right=("limit", "spent", "reserved", "full"), whole=("budget",)))


def _whose(window: BudgetWindow) -> str:
    """The value that the budget is kept per, as the key carries it: `caller.user` as a pseudonym."""
    return window.key.split("|", 6)[6] if window.key.count("|") >= 6 else "all"


def _amount(window: BudgetWindow, amount: int) -> str:
    return dollars(amount) if window.unit == "usd" else f"{amount:,} {window.unit}"

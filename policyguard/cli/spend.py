"""`policyguard spend`: who spent what: estimated, reserved, actual, presumed, and what was refused."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from policyguard.cli.output import FormatOption, StoreOption, console, dollars, print_json, table
from policyguard.cli.stores import existing_store

if TYPE_CHECKING:
    from policyguard.store import BudgetWindow, SpendRow


def spend(
    by: Annotated[
        list[str] | None,
        typer.Option("--by", help="surface, tenant, user, tier, cohort, feature, engineer, model, size, quality, day."),
    ] = None,
    days: Annotated[int | None, typer.Option(help="Only the last so many days.", min=1)] = None,
    budgets: Annotated[bool, typer.Option("--budgets", help="Show how full the open budgets are instead.")] = False,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Report spend by one or more dimensions. Users and engineers are shown as pseudonyms.

    Examples:

      policyguard spend

      policyguard spend --by tenant --by surface --days 7

      policyguard spend --budgets --format json
    """
    now = datetime.now(UTC)
    with existing_store(store) as opened:
        if budgets:
            windows = opened.budget_windows(now)
            print_json([asdict(w) for w in windows]) if format == "json" else _print_budgets(windows)
            return
        since = now - timedelta(days=days) if days else None
        names = tuple(by or ("surface",))
        rows = opened.spend(names, since)
    if format == "json":
        print_json([{**asdict(row), "spent_micros": row.spent_micros} for row in rows])
    else:
        _print(rows, names)


def _print(rows: list[SpendRow], names: tuple[str, ...]) -> None:
    columns = (*names, "requests", "images", "refused", "estimated", "reserved", "actual", "presumed", "spent")
    top = max((row.spent_micros for row in rows), default=0)
    lines = [(*_group(row, names), *_amounts(row), bar(row.spent_micros, top)) for row in rows]
    console().print(table((*columns, ""), lines, right=columns[len(names) :]))


def _group(row: SpendRow, names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(row.by[name] or "-" for name in names)


def _amounts(row: SpendRow) -> tuple[str, ...]:
    money = (row.estimated_micros, row.reserved_micros, row.actual_micros, row.presumed_micros, row.spent_micros)
    refused = "-" if row.refused is None else str(row.refused)
    return (str(row.requests), str(row.images), refused, *(dollars(m) for m in money))


def bar(value: int, top: int, width: int = 20) -> str:
    """A bar for tables; anything above nothing is at least visible."""
    return "" if value <= 0 or top <= 0 else "█" * max(1, round(value / top * width))


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
    return dollars(amount) if window.unit == "usd" else f"{amount:,}"

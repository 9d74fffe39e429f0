"""How `policyguard spend --explain` speaks: plain sentences, the dimension that moved most first.

Which values moved is found by `store.spike`.
"""

from __future__ import annotations

import csv
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from policyguard.cli.output import bar, console, csv_cell, dollars, fail, print_json, table

if TYPE_CHECKING:
    from policyguard.store.spike import Contribution, Moved, Spike

SHOWN = 8  # values of the dimension that moved most
EVEN = 20  # a dimension of which less than one part in so many moved explains nothing


def say(spike: Spike, format: str) -> None:
    if format == "json":
        print_json(asdict(spike))
    elif format == "csv":
        _write(spike)
    else:
        _print(spike)


def _write(spike: Spike) -> None:
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow(("dimension", "value", "day_micros", "mean_micros", "change_micros"))
    for moved in spike.dimensions:
        for part in moved.parts:
            out.writerow((moved.by, csv_cell(part.value or ""), part.day_micros, part.mean_micros, part.change_micros))


def _print(spike: Spike) -> None:
    out = console()
    if not spike.spent_micros and not spike.mean_micros:
        fail(f"nothing was spent on {spike.day}, nor in the week before", hint="`spend --by day` shows when", code=1)
    out.print(sentence(spike))
    out.print(requests(spike))
    moved = spike.dimensions[0]
    if moved.moved_micros * EVEN <= max(spike.spent_micros, spike.mean_micros):
        out.print("No dimension moved: everything changed alike.")
        return
    out.print(f"What moved most is the {moved.by}: {told(moved.parts[0], moved.by)}.")
    out.print()
    out.print(_table(moved))
    others = [m for m in spike.dimensions[1:] if m.moved_micros * EVEN > spike.spent_micros]
    if others:
        says = ", ".join(f"{m.by} ({m.parts[0].value or 'none'}, {_signed(m.parts[0].change_micros)})" for m in others)
        out.print()
        out.print(f"Then: {says}")


def sentence(spike: Spike) -> str:
    """What the day cost against the mean."""
    spent, mean = dollars(spike.spent_micros, places=2), dollars(spike.mean_micros, places=2)
    if not spike.mean_micros:
        return f"{spike.day}: {spent} spent, and nothing in the seven days before."
    share = round((spike.spent_micros - spike.mean_micros) * 100 / spike.mean_micros)
    direction = "more" if share >= 0 else "less"
    return f"{spike.day}: {spent} spent, {abs(share)} % {direction} than the mean of the seven days before, {mean}."


def requests(spike: Spike) -> str:
    """Whether there was more, or it was dearer."""
    each = spike.spent_micros // spike.requests if spike.requests else 0
    says = f"{spike.requests:,} requests (mean {spike.mean_requests:,.1f}), {dollars(each)} each"
    if not spike.mean_requests:
        return f"{says}."
    return f"{says} (mean {dollars(round(spike.mean_micros / spike.mean_requests))})."


def told(part: Contribution, by: str) -> str:
    """One value in words."""
    name = f"`{part.value}`" if part.value is not None else f"requests without a {by}"
    day, mean = dollars(part.day_micros, places=2), dollars(part.mean_micros, places=2)
    if not part.mean_micros:
        return f"{name} spent {day} and nothing before"
    if not part.day_micros:
        return f"{name} spent nothing and {mean} a day before"
    return f"{name} spent {day} instead of {mean}"


def _table(moved: Moved) -> object:
    top = max(abs(part.change_micros) for part in moved.parts)
    rows = [
        (
            part.value or "-",
            dollars(part.day_micros),
            dollars(part.mean_micros),
            _signed(part.change_micros),
            bar(abs(part.change_micros), top),
        )
        for part in moved.parts[:SHOWN]
    ]
    if len(moved.parts) > SHOWN:
        rest = sum(part.change_micros for part in moved.parts[SHOWN:])
        rows.append((f"{len(moved.parts) - SHOWN} more", "", "", _signed(rest), bar(abs(rest), top)))
    columns = (moved.by, "that day", "mean before", "change")
    return table((*columns, ""), rows, right=columns[1:], whole=(moved.by,))


def _signed(micros: int) -> str:
    return f"+{dollars(micros)}" if micros >= 0 else dollars(micros)

"""`policyguard reconcile`: what was charged without knowing the cost, against what the provider counted.

It charges only what is proved, and shows the rest.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policyguard.cli.output import (
    FINDINGS,
    FormatOption,
    Lines,
    NowOption,
    PoliciesOption,
    StoreOption,
    console,
    dollars,
    fail,
    moment,
    print_json,
    table,
)
from policyguard.cli.prices import book_of
from policyguard.cli.stores import existing_store
from policyguard.errors import ConfigError

if TYPE_CHECKING:
    from policyguard.cli.counts import ProviderDay
    from policyguard.pricing import PriceBook
    from policyguard.request import Usage
    from policyguard.store import PresumedLeg, Store


_UNITS = {
    "micros": ("billed", "actual", "presumed", "unexplained"),
    "images": ("made", "ours", "unexplained"),
}


def reconcile(
    leg: Annotated[str | None, typer.Option("--leg", help="The one leg to put right.", metavar="ID")] = None,
    usage: Annotated[
        str | None,
        typer.Option(help="What it used, like `input_text_tokens=12,output_image_tokens=196`.", metavar="COUNTS"),
    ] = None,
    release: Annotated[bool, typer.Option("--release", help="It was not billed: give its money back.")] = False,
    counts: Annotated[
        Path | None, typer.Option("--import", help="The provider's counts, or OpenAI's export of them.", metavar="FILE")
    ] = None,
    by: Annotated[str | None, typer.Option("--by", help="Who answers for it; needed for every change.")] = None,
    why: Annotated[str | None, typer.Option("--why", help="The reason; it goes into the record, encrypted.")] = None,
    policies: PoliciesOption = None,
    store: StoreOption = None,
    now: NowOption = None,
    format: FormatOption = "text",
) -> None:
    """List legs that were presumed at their ceiling, and put them right by the provider's counts.

    A timeout, a cut connection or a 500 may have been billed, so such a leg is charged in full until somebody knows
    better. With `--import`, legs whose request id is in the file are settled, all or none; rows by day and model are
    compared. OpenAI's exports of usage and costs (JSON of the API, CSV of the dashboard) are of that kind.

    Examples:

      policyguard reconcile

      policyguard reconcile --import usage.csv

      policyguard reconcile --import usage.csv --by ada@example.com

      policyguard reconcile --leg leg_01K --usage output_image_tokens=196,input_text_tokens=12 --by ada@example.com

      policyguard reconcile --leg leg_01K --release --by ada@example.com --why "not on the invoice"
    """
    at = moment(now)
    with existing_store(store) as opened:
        if leg is not None:
            answer = _put_right(opened, leg, usage, release, by, why, book_of(policies), at)
        elif counts is not None:
            answer = _import(opened, counts, by, why or f"counts of {counts.name}", book_of(policies), at)
        elif usage is not None or release:
            fail("it is not said which leg", hint="name it with `--leg ID`")
        else:
            answer = {"presumed": [_row(presumed, at) for presumed in opened.presumed()]}
    print_json(answer) if format == "json" else _print(answer)
    if any(row["result"] == "not changed" for row in answer.get("legs", ())):
        raise typer.Exit(FINDINGS)


# ---- one leg ----------------------------------------------------------------------------------------------


def _put_right(
    store: Store,
    leg_id: str,
    usage: str | None,
    release: bool,
    by: str | None,
    why: str | None,
    book: PriceBook,
    now: datetime,
) -> dict[str, Any]:
    if release == (usage is not None):
        fail("a leg is settled with `--usage COUNTS` or given back with `--release`", hint="give one of them")
    if not by:
        fail("a leg is put right by somebody with a name", hint="say who with `--by NAME`")
    if release and not why:
        fail("giving money back needs a reason", hint="say it with `--why`")
    found = next((one for one in store.presumed(limit=1_000_000) if one.leg_id == leg_id), None)
    if found is None:
        return {"legs": [{"leg": leg_id, "result": "not changed", "why": "it is not presumed (any more)"}]}
    counted = None if usage is None else _usage(usage)
    return {"legs": [_settle(store, found, counted, by, why or "", book, now)]}


def _usage(text: str) -> Usage:
    from policyguard.cli.counts import usage_of

    pairs = [part.partition("=") for part in text.split(",")]
    try:
        return usage_of({name.strip(): value.strip() for name, _, value in pairs})
    except ConfigError as error:
        fail(f"`--usage` cannot be read: {error}")


def _settle(
    store: Store, leg: PresumedLeg, usage: Usage | None, by: str, why: str, book: PriceBook, now: datetime
) -> dict[str, Any]:
    cost = None if usage is None else _cost(leg.model, usage, book)
    settled = store.reconcile(leg.leg_id, cost, usage=usage, by=by, why=why, now=now)
    row = {"leg": leg.leg_id, "charged_micros": settled.charged_micros, "was_micros": leg.charged_micros}
    return {**row, "result": settled.state.value if settled.changed else "not changed"}


def _cost(model: str | None, usage: Usage, book: PriceBook) -> int:
    from policyguard.pricing import UnknownPrice, actual

    try:
        return actual(model or "", usage, book)
    except UnknownPrice as unknown:
        fail(f"no price: {unknown}", hint="give the model a row in prices.yaml")


# ---- the provider's counts --------------------------------------------------------------------------------


def _import(store: Store, path: Path, by: str | None, why: str, book: PriceBook, now: datetime) -> dict[str, Any]:
    """All of the file is read and priced before anything changes, and then all of it changes together."""
    from policyguard.cli.count_files import read_counts

    counts = read_counts(path, book.models)
    legs = [leg for leg in store.presumed(limit=1_000_000) if leg.request_id in counts.requests]
    found = [(leg, counts.requests[leg.request_id or ""]) for leg in legs]
    costs = {leg.leg_id: (_cost(leg.model, usage, book), usage) for leg, usage in found}
    days = [_compared(store, day, book) for day in counts.days]
    settled = store.reconcile_all(costs, by=by, why=why, now=now) if by and costs else {}
    rows = []
    for leg in legs:
        ended = settled.get(leg.leg_id)
        charged = ended.charged_micros if ended else costs[leg.leg_id][0]
        result = "would settle" if ended is None else ended.state.value if ended.changed else "not changed"
        rows.append({"leg": leg.leg_id, "charged_micros": charged, "was_micros": leg.charged_micros, "result": result})
    return {"legs": rows, "days": days, "left_out": dict(counts.others)}


def _compared(store: Store, day: ProviderDay, book: PriceBook) -> dict[str, Any]:
    """A day and model of the provider beside ours: what is billed beyond `actual` are presumed legs that cost."""
    since = datetime.fromisoformat(day.day).replace(tzinfo=UTC)
    rows = store.spend(["model"], since, since + timedelta(days=1))
    ours = [row for row in rows if day.model in (None, row.by["model"])]
    named = {"day": day.day, "model": day.model}
    if day.images is not None:
        images = sum(row.images for row in ours)
        return {**named, "made_images": day.images, "ours_images": images, "unexplained_images": day.images - images}
    billed = day.micros if day.usage is None else _cost(day.model, day.usage, book)
    actual = sum(row.actual_micros for row in ours)
    return {
        **named,
        "billed_micros": billed,
        "actual_micros": actual,
        "presumed_micros": sum(row.presumed_micros for row in ours),
        "unexplained_micros": (billed or 0) - actual,
    }


# ---- text -------------------------------------------------------------------------------------------------


def _row(leg: PresumedLeg, now: datetime) -> dict[str, Any]:
    return {**asdict(leg), "at": leg.at.isoformat(), "age_s": round((now - leg.at).total_seconds())}


def _print(answer: dict[str, Any]) -> None:
    out = console()
    if "presumed" in answer:
        _print_presumed(answer["presumed"])
        return
    if answer["legs"]:
        rows = [
            (r["leg"], dollars(r.get("was_micros")), dollars(r.get("charged_micros")), r["result"], r.get("why", ""))
            for r in answer["legs"]
        ]
        out.print(table(("leg", "presumed", "cost", "result", ""), rows, right=("presumed", "cost"), whole=("leg",)))
    _print_days(out, answer.get("days", ()))
    if left_out := answer.get("left_out"):
        out.print(f"left out: {sum(left_out.values())} rows of models that draw no images ({', '.join(left_out)})")
    if not answer["legs"] and not answer.get("days"):
        out.print("none of these requests is presumed")


def _print_days(out: Lines, days: Iterable[dict[str, Any]]) -> None:
    for unit, names in _UNITS.items():
        shown = [day for day in days if f"unexplained_{unit}" in day]
        write = dollars if unit == "micros" else str
        cells = [(d["day"], d["model"] or "all", *(write(d[f"{name}_{unit}"]) for name in names)) for d in shown]
        if cells:
            out.print(table(("day", "model", *names), cells, right=names, whole=("day", "model")))


def _print_presumed(legs: list[dict[str, Any]]) -> None:
    if not legs:
        console().print("nothing is presumed")
        return
    rows = [
        (
            leg["leg_id"],
            _age(leg["age_s"]),
            leg["surface"] or "-",
            leg["model"] or "-",
            dollars(leg["charged_micros"]),
            leg["why"],
        )
        for leg in legs
    ]
    total = dollars(sum(leg["charged_micros"] for leg in legs))
    console().print(
        table(("leg", "age", "surface", "model", "ceiling", "why"), rows, right=("age", "ceiling"), whole=("leg",))
    )
    console().print(f"{len(legs)} presumed, {total} together")


def _age(seconds: int) -> str:
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "m")):
        if seconds >= size:
            return f"{seconds // size}{unit}"
    return f"{max(0, seconds)}s"

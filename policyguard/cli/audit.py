"""`policyguard audit`: read the record."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policyguard.cli.output import FINDINGS, FormatOption, StoreOption, console, dollars, fail, print_json, table
from policyguard.cli.stores import existing_store

if TYPE_CHECKING:
    from policyguard.store import StoredEvent

app = typer.Typer(no_args_is_help=True, help="The record: tail, show.")


@app.command()
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many rows.", min=1)] = 20,
    surface: Annotated[str | None, typer.Option(help="Only this surface.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only allow, flag, hold, resume, deny, settled ...")] = None,
    type: Annotated[str | None, typer.Option(help="Only this type, for example `request.decided`.")] = None,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Print the newest rows of the record, the newest last.

    Examples:

      policyguard audit tail

      policyguard audit tail -n 100 --outcome deny --surface avatars

      policyguard audit tail --type leg.presumed --format json
    """
    with existing_store(store) as opened:
        rows = opened.events(limit=lines, surface=surface, tenant=tenant, outcome=outcome, type=type)
    if format == "json":
        print_json([_data(row) for row in rows])
        return
    columns = ("row", "time (UTC)", "type", "surface", "tenant", "outcome", "what", "decision")
    cells = [
        (
            str(row.seq),
            f"{row.event.at:%Y-%m-%d %H:%M:%S}",
            row.event.type,
            row.event.dimensions.get("surface") or "-",
            row.event.dimensions.get("tenant") or "-",
            row.event.outcome or "-",
            _summary(row),
            row.event.decision_id or "-",
        )
        for row in rows
    ]
    console().print(table(columns, cells, right=("row",), whole=("time (UTC)", "type", "decision")))


@app.command()
def show(
    id: Annotated[str, typer.Argument(help="A decision, leg or review id.")],
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Print every row about one decision, leg or review.

    Examples:

      policyguard audit show dec_01JD9Z6Q5TEXAMPLE0000000000
    """
    with existing_store(store) as opened:
        about: dict[str, Any] = {_column(id): id}
        rows = opened.events(limit=1000, **about)
    if not rows:
        fail(f"the record has no row about `{id}`", code=FINDINGS)
    if format == "json":
        print_json([_data(row) for row in rows])
        return
    out = console()
    for row in rows:
        out.print(f"{row.seq}  {row.event.at:%Y-%m-%d %H:%M:%S.%f} UTC  {row.event.type}  {row.event.outcome or ''}")
        for name, value in _flat({**row.event.dimensions, **row.event.body}):
            out.print(f"    {name:<28} {value}")


def _column(id: str) -> str:
    columns = {"dec": "decision_id", "leg": "leg_id", "rev": "review_id"}
    return columns.get(id.split("_", 1)[0], "id")


def _data(row: StoredEvent) -> dict[str, Any]:
    event = asdict(row.event)
    event["at"] = row.event.at.isoformat()
    return {"seq": row.seq, **event}


def _summary(row: StoredEvent) -> str:
    body = row.event.body
    if "charged_micros" in body:
        why = body.get("failure")
        return f"{dollars(body['charged_micros'])} of {dollars(body['ceiling_micros'])}" + (f", {why}" if why else "")
    reasons = [r["id"] for r in body.get("reasons", []) if r["mode"] == "enforce"]
    adjusted = body.get("adjusted") or []
    return ", ".join([*reasons, *adjusted])


def _flat(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested values as dotted names; what is empty is left out."""
    found: list[tuple[str, str]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            found += _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list) and value and isinstance(value[0], dict):
            for index, entry in enumerate(value):
                found += _flat(entry, f"{prefix}{name}[{index}].")
        elif value not in (None, [], {}, ""):
            found.append((prefix + name, ", ".join(map(str, value)) if isinstance(value, list) else str(value)))
    return found

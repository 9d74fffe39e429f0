"""`policyguard audit`: read the record. What its seal proves is in `audit_proofs`, exports and erasure beside it."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from policyguard.cli.audit_erase import erase, rotate
from policyguard.cli.audit_export import export
from policyguard.cli.audit_proofs import prove, verify
from policyguard.cli.output import (
    FINDINGS,
    FormatOption,
    StoreOption,
    as_json,
    console,
    dollars,
    fail,
    print_json,
    rounds,
    table,
)
from policyguard.cli.stores import existing_store
from policyguard.text.visible import visible

if TYPE_CHECKING:
    from policyguard.store import Store, StoredEvent

app = typer.Typer(no_args_is_help=True, help="The record: tail, show, verify, prove, export, erase, rotate.")
MOST = 1_000  # rows at one look


@app.command()
def tail(
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many rows.", min=1)] = 20,
    surface: Annotated[str | None, typer.Option(help="Only this surface.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant.")] = None,
    outcome: Annotated[str | None, typer.Option(help="Only allow, flag, hold, resume, deny, settled ...")] = None,
    type: Annotated[str | None, typer.Option(help="Only this type, for example `request.decided`.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new rows until Ctrl-C.")] = False,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Print the newest rows of the record, the newest last.

    Examples:

      policyguard audit tail

      policyguard audit tail -n 100 --outcome deny --surface avatars

      policyguard audit tail --type leg.presumed --format json

      policyguard audit tail --follow --outcome deny

    With --follow, JSON is one object a line.
    """
    filters: dict[str, Any] = {"surface": surface, "tenant": tenant, "outcome": outcome, "type": type}
    with existing_store(store) as opened:
        rows = opened.events(limit=lines, **filters)
        if not follow:
            _print_rows(rows, format)
            return
        with suppress(KeyboardInterrupt):
            for row in rows:
                _print_line(row, format)
            for row in _new_rows(opened, rows[-1].seq if rows else _last(opened), filters):
                _print_line(row, format)


def _last(store: Store) -> int:
    newest = store.events(limit=1)
    return newest[-1].seq if newest else 0


def _new_rows(store: Store, after: int, filters: Mapping[str, Any]) -> Iterator[StoredEvent]:
    for _ in rounds():
        while rows := store.events(after=after, limit=MOST, **filters):
            yield from rows
            after = rows[-1].seq


def _print_line(row: StoredEvent, format: str) -> None:
    if format == "json":
        line = as_json(_data(row), indent=False)
    else:
        where = "/".join(row.event.dimensions.get(name) or "-" for name in ("surface", "tenant"))
        cells = (f"{row.event.at:%H:%M:%S}", row.event.type, where, row.event.outcome or "-", _summary(row))
        line = visible("  ".join((str(row.seq), *cells, row.event.decision_id or "")))
    sys.stdout.write(line.rstrip() + "\n")
    sys.stdout.flush()


def _print_rows(rows: Sequence[StoredEvent], format: str) -> None:
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
    id: Annotated[str, typer.Argument(help="A decision, leg, review or event id, or the number of a row.")],
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Print one row, or every row about one decision, leg or review, and whether they are sealed.

    Examples:

      policyguard audit show dec_01JD9Z6Q5TEXAMPLE0000000000

      policyguard audit show leg.settled:leg_01JD9Z6Q5TEXAMPLE0000000000

      policyguard audit show 4711 --format json
    """
    with existing_store(store) as opened:
        rows = _about(opened, id)
        leaves = {row.seq: opened.seals.leaf_of(row.event.id) for row in rows}
    if not rows:
        fail(f"the record has no row about `{id}`", code=FINDINGS)
    if format == "json":
        print_json([{**_data(row), "leaf": leaf.leaf if (leaf := leaves[row.seq]) else None} for row in rows])
        return
    out = console()
    for row in rows:
        out.print(f"{row.seq}  {row.event.at:%Y-%m-%d %H:%M:%S.%f} UTC  {row.event.type}  {row.event.outcome or ''}")
        leaf = leaves[row.seq]
        out.print(f"    {'id':<28} {row.event.id}")
        out.print(f"    {'sealed':<28} {f'as leaf {leaf.leaf}' if leaf else 'not yet'}")
        for name, value in _flat({**row.event.dimensions, **row.event.body}):
            out.print(f"    {name:<28} {value}")


for verb in (verify, prove, export, erase, rotate):
    app.command()(verb)


def _about(store: Store, id: str) -> list[StoredEvent]:
    if id.isdigit() and len(id) < 19:
        return [row for row in store.events(after=int(id) - 1, limit=1) if row.seq == int(id)]
    about: dict[str, Any] = {_column(id): id}
    return store.events(limit=MOST, **about)


def _column(id: str) -> str:
    columns = {"dec": "decision_id", "leg": "leg_id", "rev": "review_id"}
    return columns.get(id.split("_", 1)[0], "id")


def _data(row: StoredEvent) -> dict[str, Any]:
    event = {**asdict(row.event), "at": row.event.at.isoformat()}
    return {"seq": row.seq, **event}


def _summary(row: StoredEvent) -> str:
    body = row.event.body
    if "charged_micros" in body:
        why = body.get("failure")
        return f"{dollars(body['charged_micros'])} of {dollars(body['ceiling_micros'])}" + (f", {why}" if why else "")
    reasons = dict.fromkeys(r["id"] for r in body.get("reasons", []) if r["mode"] == "enforce")
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

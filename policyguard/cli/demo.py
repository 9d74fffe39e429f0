"""`policyguard demo`: no key and no server: policies at work over real HTTP, and a record to browse.

What is shown is done by `policyguard.demo`; here are the options and the exit code.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import click
import typer

from policyguard.cli.output import (
    FINDINGS,
    FormatOption,
    Lines,
    bar,
    console,
    dollars,
    fail,
    print_json,
    progress,
    table,
)
from policyguard.settings import setting

if TYPE_CHECKING:
    from policyguard.demo.report import Summary
    from policyguard.sandbox.prompts import DemoPrompt


def demo(
    prompts: Annotated[
        Path | None, typer.Option(help="Your own prompts: JSON, CSV or text, one a line.", exists=True)
    ] = None,
    column: Annotated[
        str | None, typer.Option("--column", help="The column or key that holds them.", show_default="text, or prompt")
    ] = None,
    folder: Annotated[Path, typer.Option(help="Where the record is left.")] = Path("policyguard-demo"),
    limit: Annotated[int | None, typer.Option(help="Only the first so many prompts.", min=1)] = None,
    live: Annotated[
        bool, typer.Option("--live", help="Talk to the real API with OPENAI_API_KEY. Costs money.")
    ] = False,
    format: FormatOption = "text",
) -> None:
    """Start a sandbox, a guarded app and the proxy, send prompts through every door, and show what became of them.

    Several users, tenants and tiers ask on four surfaces; some requests are adjusted, denied, held for a review,
    approved and resumed, or refused by a budget, some prompts hide their letters, and some pictures are withheld.
    The record stays in the folder, to be looked into.

    Examples:

      policyguard demo

      policyguard demo --prompts my-prompts.jsonl --format json

      policyguard demo --prompts export.csv --column description

      OPENAI_API_KEY=... policyguard demo --live --limit 5
    """
    from policyguard.demo.run import run

    key = setting("openai_key")
    if live and key is None:
        fail("`--live` needs OPENAI_API_KEY", hint="without --live the demo needs no key")
    own = None if prompts is None else _prompts(prompts, column)
    with progress("requests") as report:
        summary = run(folder, prompts=own, limit=limit, live_key=key if live else None, report=report)
    if format == "json":
        print_json(asdict(summary))
    else:
        print_summary(summary, console())
    if summary.unaccounted:
        raise typer.Exit(FINDINGS)


def _prompts(path: Path, column: str | None) -> list[DemoPrompt]:
    from policyguard.sandbox.prompts import UnknownColumn, read_prompts

    try:
        return read_prompts(path, column)
    except UnknownColumn as unknown:
        if not (unknown.columns and sys.stdin.isatty()):
            fail(str(unknown), hint="say with `--column NAME` which one holds the prompts")
        return read_prompts(path, _asked(unknown.columns))


def _asked(columns: Sequence[str]) -> str:
    """The one that somebody at a terminal chooses."""
    out = console(stderr=True)
    for number, name in enumerate(columns, start=1):
        out.print(f"{number:>3}  {name}")
    chosen: int = typer.prompt("which column holds the prompts", type=click.IntRange(1, len(columns)), err=True)
    return columns[chosen - 1]


def print_summary(summary: Summary, out: Lines) -> None:
    """The report as a person reads it: outcomes, reasons, money, and what to look at next."""
    out.print()
    out.print(f"{summary.requests} requests in {summary.seconds} s, {_doors(summary)}")
    out.print(
        f"  {summary.admitted} admitted ({summary.adjusted} adjusted, {summary.resumed} after a review), "
        f"{summary.held} held ({summary.approved} approved), {summary.denied} denied "
        f"({summary.over_budget} of them by a budget)"
    )
    if summary.upstream_generations is not None:
        out.print(f"  {summary.upstream_generations} reached the upstream and made {summary.upstream_images} images")
    out.print(
        f"  {summary.disguised} prompts hid their letters; {summary.inspected} answers were looked at: "
        f"{summary.withheld} withheld, {summary.held_answers} held ({summary.released} given out after a review)"
    )
    _print_reasons(summary, out)
    _print_groups("surface", summary.by_surface, out)
    _print_groups("tenant", summary.by_tenant, out)
    out.print()
    out.print(
        f"reserved {dollars(summary.reserved_micros)} at most, spent {dollars(summary.spent_micros)}, "
        f"presumed {dollars(summary.presumed_micros)}"
    )
    said = "every request has its decision, every leg its end" if summary.unaccounted == 0 else "NOT ACCOUNTED FOR"
    out.print(f"record: {summary.record} ({said})")
    command = "policyguard" if shutil.which("policyguard") else sys.argv[0]
    store = f"--store sqlite:///{summary.record}"
    out.print("look into it:")
    for verb in (
        "spend --by tenant --by model",
        "spend --budgets",
        "audit tail --outcome deny",
        f"audit show {summary.samples.get('deny', 'ID')}",
        "review list --all",
    ):
        out.print(f"  {command} {verb} {store}")


def _doors(summary: Summary) -> str:
    words = {"asgi": "middleware", "client": "OpenAI client"}
    counted = (f"{words.get(door, door)} {count}" for door, count in sorted(summary.by_door.items()))
    return f"by door: {', '.join(counted)}"


def _print_reasons(summary: Summary, out: Lines) -> None:
    top = max(summary.by_reason.values(), default=0)
    rows = [(reason, str(count), bar(count, top)) for reason, count in summary.by_reason.items()]
    out.print()
    out.print(table(("denied or held because of", "requests", ""), rows, right=("requests",)))


def _print_groups(name: str, groups: dict[str, dict[str, Any]], out: Lines) -> None:
    columns = (name, "admitted", "images", "refused", "estimated", "spent", "")
    top = max((g["spent_micros"] for g in groups.values()), default=0)
    rows = [
        (
            group,
            str(g["requests"]),
            str(g["images"]),
            str(g["refused"]),
            dollars(g["estimated_micros"]),
            dollars(g["spent_micros"]),
            bar(g["spent_micros"], top),
        )
        for group, g in groups.items()
    ]
    out.print()
    out.print(table(columns, rows, right=columns[1:6]))

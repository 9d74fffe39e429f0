"""`policyguard pause` and `unpause`: the stop button, in force in every process from the next request on.

Both name who does it and why, in the record.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer

from policyguard.cli.output import FINDINGS, FormatOption, StoreOption, console, print_json
from policyguard.cli.stores import existing_store, me

Target = Annotated[
    str, typer.Argument(help="`all`, a surface, or `surface:NAME`, `tenant:NAME`, `user:NAME`.", metavar="TARGET")
]
WhyOption = Annotated[str, typer.Option("--why", help="The reason; it goes into the record, encrypted.")]
ByOption = Annotated[str | None, typer.Option("--by", help="Who presses the button.", show_default="the login name")]


def pause(
    target: Target, why: WhyOption, by: ByOption = None, store: StoreOption = None, format: FormatOption = "text"
) -> None:
    """Refuse every request of a surface, tenant or user, or of all, without touching a file.

    Examples:

      policyguard pause avatars --why "incident 42"

      policyguard pause tenant:acme --why "unpaid" --by ada@example.com

      policyguard pause all --why "leak"
    """
    scope, value = _parse(target)
    with existing_store(store) as opened:
        opened.pause(scope, value, why=why, by=by or me(), now=datetime.now(UTC))
    _say(format, scope, value, "paused", "in force from the next request on, in every process")


def unpause(
    target: Target,
    why: WhyOption,
    by: ByOption = None,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Lift a pause.

    Examples:

      policyguard unpause avatars --why "fixed"
    """
    scope, value = _parse(target)
    with existing_store(store) as opened:
        lifted = opened.unpause(scope, value, why=why, by=by or me(), now=datetime.now(UTC))
    _say(format, scope, value, "unpaused" if lifted else "was not paused", "")
    if not lifted:
        raise typer.Exit(FINDINGS)


def _parse(target: str) -> tuple[str, str]:
    """A bare word is a surface."""
    if target == "all":
        return "all", ""
    scope, colon, value = target.partition(":")
    return (scope, value) if colon else ("surface", target)


def _say(format: str, scope: str, value: str, what: str, more: str) -> None:
    if format == "json":
        print_json({"scope": scope, "value": value, "result": what})
        return
    name = "everything" if scope == "all" else f"{scope} `{value}`"
    console().print(f"{name}: {what}" + (f", {more}" if more else ""))

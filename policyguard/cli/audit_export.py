"""`policyguard audit export`: the sealed rows to a file or a webhook, from a cursor, each at least once.

The cursor moves only after the receiver took a batch.
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from policyguard.cli.output import FINDINGS, FormatOption, StoreOption, console, fail, print_json, rounds, table
from policyguard.cli.stores import existing_store, vault_of
from policyguard.errors import PolicyguardError
from policyguard.settings import masked

if TYPE_CHECKING:
    from policyguard.audit.private import Vault
    from policyguard.store import Store
    from policyguard.store.exports import Cursor


def export(
    to: Annotated[str | None, typer.Option(help="A file that lines are put to, `-`, or an https URL.")] = None,
    name: Annotated[
        str | None, typer.Option(help="The cursor: how far this receiver is stays under this name.")
    ] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with new rows until Ctrl-C.")] = False,
    background: Annotated[
        bool, typer.Option("--background", help="Leave it to `policyguard jobs run` from now on.")
    ] = False,
    forget: Annotated[bool, typer.Option("--forget", help="Remove the cursor; nothing is sent any more.")] = False,
    list_: Annotated[bool, typer.Option("--list", help="Show every cursor, and how far it is.")] = False,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Send every sealed row that the receiver does not have yet. Rows hold no prompt and no name.

    A file gets JSON lines, a URL signed messages (Standard Webhooks, secret in POLICYGUARD_WEBHOOK_SECRET). After a
    crash some rows come again, with the same ids. Rows that wait are sealed first.

    Examples:

      policyguard audit export --to record.jsonl --name archive

      policyguard audit export --to https://siem.example.com/hook --name siem --background

      policyguard audit export --list
    """
    with existing_store(store) as opened:
        if list_:
            _list(opened, format)
        elif name is None:
            fail("which cursor is missing", hint="name it with --name, or see them with --list")
        elif forget:
            if not opened.exports.forget(name):
                fail(f"there is no cursor `{name}`", code=FINDINGS)
        else:
            _run(opened, vault_of(store), _begun(opened, name, to, background), follow)


def _begun(store: Store, name: str, to: str | None, background: bool) -> Cursor:
    from policyguard.audit.sinks import STDOUT, address, open_sink

    known = store.exports.get(name)
    target = address(to) if to else known.target if known else ""
    if not target:
        fail(f"where to is missing for the new cursor `{name}`", hint="give a file or a URL with --to")
    if known is not None and known.target != target:
        fail(f"the cursor `{name}` goes to `{masked(known.target)}`", hint="take another name, or --forget it first")
    if background and target == STDOUT:
        fail("the standard output cannot be left to the background", hint="give a file or a URL with --to")
    with open_sink(target):  # an address that cannot work is said now
        return store.exports.begin(name, target, background=background, now=datetime.now(UTC))


def _run(store: Store, vault: Vault, cursor: Cursor, follow: bool) -> None:
    """Say on the error stream what happened: rows may go to the standard output."""
    from policyguard.audit.export import export as send
    from policyguard.audit.seal import seal
    from policyguard.audit.sinks import open_sink

    holder, out = os.urandom(8).hex(), console(stderr=True)
    failed = None
    with open_sink(cursor.target) as sink, suppress(KeyboardInterrupt):
        for _ in rounds(follow):
            now = datetime.now(UTC)
            seal(store, vault, now)
            cursor = store.exports.get(cursor.name) or cursor
            if not follow or (cursor.next_at is not None and cursor.next_at <= now):
                try:
                    count = send(store, vault, cursor, sink, now, holder=holder)
                    failed = None
                    if count or not follow:
                        out.print(f"{cursor.name}: {count:,} rows")
                except PolicyguardError as error:
                    failed = str(error)
                    out.print(f"{cursor.name}: {failed}")
    if failed:
        raise typer.Exit(FINDINGS)


def _list(store: Store, format: str) -> None:
    newest = store.seals.newest()
    size = newest.size if newest else 0
    cursors = store.exports.all()
    if format == "json":
        print_json(
            [{**asdict(cursor), "target": masked(cursor.target), "waiting": size - cursor.leaf} for cursor in cursors]
        )
        return
    rows = [
        (c.name, masked(c.target), "jobs" if c.background else "", f"{size - c.leaf:,}", str(c.attempts), c.error or "")
        for c in cursors
    ]
    columns = ("cursor", "to", "run by", "rows waiting", "failures", "error")
    console().print(table(columns, rows, right=("rows waiting", "failures"), whole=("cursor",)))

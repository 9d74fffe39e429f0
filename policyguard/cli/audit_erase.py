"""`policyguard audit erase` and `rotate`: private data that goes for good, and the key that protects the rest.

Nothing here can be undone, so both name who does it and why, in the record.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from policyguard.cli.output import FINDINGS, FormatOption, StoreOption, console, fail, print_json
from policyguard.cli.stores import existing_store, key_file_of
from policyguard.text.suggest import shown

if TYPE_CHECKING:
    from policyguard.store import Erased

ByOption = Annotated[str, typer.Option("--by", help="Who does it; kept encrypted beside the record.")]
WhyOption = Annotated[str, typer.Option("--why", help="Why; kept encrypted beside the record.")]


def erase(
    subject: Annotated[str, typer.Option("--subject", help="The user, by name or by pseudonym.")],
    by: ByOption,
    why: WhyOption,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Destroy everything private of a user: the key, prompts, held requests, notes by and about the user.

    Every spelling of the same letters is the same user. A user that nothing is known of ends with exit code 1.

    The record stays and still verifies: it knows users by pseudonyms. Copies elsewhere are out of reach: backups of the
    database, archives of its log, snapshots of its disk. They hold the user's key, wrapped, so let them run out.

    Examples:

      policyguard audit erase --subject ada@example.com --by dpo@example.com --why "asked for it, ticket 4711"
    """
    with existing_store(store) as opened:
        erased = opened.erase(subject, why=why, by=by, now=datetime.now(UTC))
    if format == "json":
        print_json({"rows": erased.rows, "keys": erased.keys, "scrubbed": erased.scrubbed, "known": erased.known})
    else:
        _say(subject, erased)
    if not erased.known:
        raise typer.Exit(FINDINGS)


def _say(subject: str, erased: Erased) -> None:
    if not erased.known:
        hint = "give the name as your app does, or the pseudonym from the record"
        fail(f"nobody of the name {shown(subject)} has asked for anything here", hint=hint, code=FINDINGS)
    out = console()
    out.print(f"erased {erased.rows} private rows and {erased.keys} keys; backups and archives of the log keep theirs")
    if not erased.scrubbed:
        out.print(
            "old pages are still on the disk, because the database is in use or behind a pooler: run it again soon,"
        )
        out.print("on PostgreSQL with the server's own address")


def rotate(by: ByOption, why: WhyOption, store: StoreOption = None, format: FormatOption = "text") -> None:
    """Add a new key to the key file, from now on the one in use, and wrap every user's key with it.

    Pseudonyms come from the first key and stay; older keys stay to verify what they signed. Keep a copy of the file.

    Examples:

      policyguard audit rotate --by ops@example.com --why yearly
    """
    from policyguard.audit.keys import add_key

    with existing_store(store) as opened:
        opened.check()  # before the key file changes
    add_key(key_file_of(store))
    with existing_store(store) as opened:
        count = opened.rewrap(why=why, by=by, now=datetime.now(UTC))
    if format == "json":
        print_json({"rewrapped": count})
    else:
        console().print(f"a new key is in use; {count} keys of users are wrapped with it. Keep a copy of the key file")

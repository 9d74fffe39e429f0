"""`policyguard jobs`: the upkeep that needs nobody to ask for it.

The work itself is in `store.upkeep` and `audit.jobs`.
"""

from __future__ import annotations

import signal
import sys
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from policyguard.cli.output import FINDINGS, FormatOption, StoreOption, as_json
from policyguard.cli.stores import existing_store, vault_of
from policyguard.settings import setting
from policyguard.text.visible import visible

if TYPE_CHECKING:
    from policyguard.audit.jobs import Did
    from policyguard.store import Store

app = typer.Typer(no_args_is_help=True, help="Upkeep in the background: run.")


@app.callback()
def _jobs() -> None:
    """Upkeep in the background: run."""


@app.command()
def run(
    once: Annotated[
        bool, typer.Option("--once", help="Do what is due and end. Exit code 1 where a job failed.")
    ] = False,
    checkpoints: Annotated[
        Path | None, typer.Option(help="A file, best on another disk, that gets every new checkpoint.")
    ] = None,
    store: StoreOption = None,
    format: FormatOption = "text",
) -> None:
    """Seal the record, end what ran out, escalate, apply retention, export. Any number of processes may run it.

    A guard does all but the exports by itself while requests come. What was done is told a line at a time.

    Examples:

      policyguard jobs run

      policyguard jobs run --once --format json

      policyguard jobs run --checkpoints /mnt/elsewhere/checkpoints.jsonl
    """
    from policyguard.audit.jobs import Jobs

    with existing_store(store) as opened:
        _check_webhooks(opened)
        jobs = Jobs(opened, vault_of(store), checkpoints=checkpoints)
        if not once:
            jobs.run(_until_told_to_stop(), lambda did: _tell(did, format))
            return
        done = jobs.once()
        for did in done:
            _tell(did, format)
        if any(did.failed for did in done):
            raise typer.Exit(FINDINGS)


def _check_webhooks(store: Store) -> None:
    """A secret that cannot sign is told at the start, not by exports that fail for days."""
    from policyguard.audit.webhook import secret_bytes

    secret = setting("webhook_secret")
    if secret is not None or any(cursor.background and "://" in cursor.target for cursor in store.exports.all()):
        secret_bytes(secret)


def _until_told_to_stop() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _tell(did: Did, format: str) -> None:
    now = datetime.now(UTC)
    if format == "json":
        document = {"at": now.isoformat(), "job": did.job, "message": did.message, "failed": did.failed}
        line = as_json(document, indent=False)
    else:
        line = f"{now:%H:%M:%S}  {did.job}: {'failed, ' if did.failed else ''}{visible(did.message)}"
    sys.stdout.write(line + "\n")
    sys.stdout.flush()

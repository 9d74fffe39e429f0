"""`policyguard db`: the store's schema.

A schema is changed only when somebody asks for it; a server never migrates by itself.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING

import typer

from policyguard.cli.output import FINDINGS, FormatOption, StoreOption, console, print_json
from policyguard.settings import setting

if TYPE_CHECKING:
    from policyguard.store import SchemaStatus

app = typer.Typer(no_args_is_help=True, help="The database: migrate, status.")


@app.command()
def migrate(store: StoreOption = None, format: FormatOption = "text") -> None:
    """Bring the database to the schema of this version. SQLite does so by itself when it is opened.

    Examples:

      policyguard db migrate

      policyguard db migrate --store postgresql+psycopg://policyguard@db.internal/policyguard
    """
    from policyguard.store import migrate as run

    _say(run(setting("store", store) or ""), format)


@app.command()
def status(store: StoreOption = None, format: FormatOption = "text") -> None:
    """Say which schema the database has. Exit code 1 where it is not this version's.

    Examples:

      policyguard db status --format json
    """
    from policyguard.store import status as run

    if not _say(run(setting("store", store) or ""), format):
        raise typer.Exit(FINDINGS)


def _say(state: SchemaStatus, format: str) -> bool:
    if format == "json":
        print_json({**asdict(state), "up_to_date": state.up_to_date})
    else:
        word = "up to date" if state.up_to_date else "not up to date, run `policyguard db migrate`"
        console().print(f"schema {state.current or 'none'} (this version has {state.head}): {word}")
    return state.up_to_date

"""The command line: `policyguard VERB`. One module per verb; this one assembles them and fixes the exit codes.

0 ok, 1 findings, 2 usage or configuration, 3 a fault of ours. Verbs import what they need when they run, so that
`--help` and `check` stay quick.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable

import typer

from policyguard.cli.audit import app as audit
from policyguard.cli.check import check
from policyguard.cli.db import app as db
from policyguard.cli.demo import demo
from policyguard.cli.diff import diff
from policyguard.cli.doctor import doctor
from policyguard.cli.explain import explain
from policyguard.cli.init import init
from policyguard.cli.jobs import app as jobs
from policyguard.cli.keys import app as keys
from policyguard.cli.output import INTERNAL, USAGE, console, show_all
from policyguard.cli.pause import pause, unpause
from policyguard.cli.price import price
from policyguard.cli.reconcile import reconcile
from policyguard.cli.review import app as review
from policyguard.cli.sandbox import sandbox
from policyguard.cli.schema import schema
from policyguard.cli.serve import serve
from policyguard.cli.spend import spend
from policyguard.cli.test import test
from policyguard.errors import PolicyError, PolicyguardError
from policyguard.settings import without_secrets

app = typer.Typer(
    name="policyguard",
    help="Policies for image generation: YAML per surface, enforced on every request before money is spent.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)

verbs: list[Callable[..., None]] = [demo, init, check, test, explain, diff, price, spend, reconcile, pause, unpause]
verbs += [serve, sandbox, schema, doctor]
for verb in verbs:
    app.command()(verb)
app.add_typer(review, name="review")
app.add_typer(audit, name="audit")
app.add_typer(keys, name="keys")
app.add_typer(jobs, name="jobs")
app.add_typer(db, name="db")


def version(show: bool) -> None:
    if show:
        from policyguard import __version__

        typer.echo(f"policyguard {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
) -> None:
    """Policies for image generation: YAML per surface, enforced on every request before money is spent."""


def _print_problems(error: PolicyError) -> None:
    out = console(stderr=True)
    out.print(f"error: {error.headline}")
    for problem in error.diagnostics:
        out.print(str(problem))


def main() -> None:
    """Run the command line; every way out has its exit code."""
    show_all()
    try:
        app()
    except PolicyError as error:
        _print_problems(error)
        sys.exit(USAGE)
    except PolicyguardError as error:
        console(stderr=True).print(f"error: {without_secrets(str(error))}")
        sys.exit(USAGE)
    except BrokenPipeError:  # the reader of our output went away, for example `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if os.environ.get("POLICYGUARD_DEBUG"):
            sys.stderr.write(without_secrets(traceback.format_exc()))
        console(stderr=True).print(
            f"internal error: {type(error).__name__} (set POLICYGUARD_DEBUG=1 for the traceback)"
        )
        sys.exit(INTERNAL)

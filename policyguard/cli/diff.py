"""`policyguard diff`: what a change of policies loosens and tightens, each with a request that shows it.

What differs is found by `policyguard.diff`; here are the options, the two sides and the exit code.
"""

from __future__ import annotations

import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from policyguard.cli.output import FINDINGS, USAGE, NowOption, PoliciesOption, console, moment, progress
from policyguard.settings import setting

if TYPE_CHECKING:
    from policyguard.diff.diff import PolicyDiff
    from policyguard.diff.witness import Side

FormatOption = Literal["text", "json", "github", "markdown"]
FailOn = Literal["loosen", "tighten", "any"]


def diff(
    old: Annotated[str, typer.Argument(help="A folder, or a git revision of the policies folder.")],
    new: Annotated[
        str | None, typer.Argument(help="Another one.", show_default="the policies folder as it is now")
    ] = None,
    policies: PoliciesOption = None,
    fail_on: Annotated[
        FailOn | None, typer.Option("--fail-on", help="Exit with 1 where something loosened, tightened, or either.")
    ] = None,
    now: NowOption = None,
    limit: Annotated[int, typer.Option(min=1, help="Cases to try for one surface.")] = 20_000,
    format: Annotated[
        FormatOption, typer.Option("--format", help="For people, programs, annotations or a comment.")
    ] = "text",
) -> None:
    """Show what a change of policies does to decisions: per surface what loosened, what tightened, what is neutral.

    Each difference comes with a request that the two sides decide differently. `exact` means that what is not shown
    does not exist; `sampled` that there may be more. Exit code 0, or 1 with `--fail-on`.

    Examples:

      policyguard diff main

      policyguard diff v1.2 v1.3 --policies policies --fail-on loosen

      policyguard diff old/ new/ --format markdown
    """
    from policyguard.cli.diff_forms import FORMS
    from policyguard.diff.diff import diff as compare

    folder = Path(setting("policies", policies) or "policies")
    with TemporaryDirectory(prefix="policyguard-diff-") as space:
        before = _side(old, folder, Path(space, "old"))
        after = _side(new or str(folder), folder, Path(space, "new"))
        with progress("comparing") as report:
            found = compare(before, after, moment(now), limit=limit, progress=report)
        sys.stdout.write(FORMS[format](found))
    if fail_on and _fails(found, fail_on):
        raise typer.Exit(FINDINGS)


def _side(text: str, folder: Path, target: Path) -> Side:
    """A folder by that name, else a revision of the policies folder."""
    from policyguard.diff.revisions import extract
    from policyguard.diff.witness import Side
    from policyguard.errors import PolicyError
    from policyguard.policy.load import load

    if Path(text).is_dir():
        source, label = Path(text), f"{text.rstrip('/')}/"
    else:
        source, label = extract(text, folder, target), f"{text}:{folder.as_posix()}/"
    try:
        return Side(load(source), label)
    except PolicyError as error:
        out = console(stderr=True)
        out.print(f"error: `{label}` does not load, so there is nothing to compare")
        for problem in error.diagnostics:
            out.print(str(problem).replace(f"{source}/", label, 1))
        raise typer.Exit(USAGE) from None


def _fails(found: PolicyDiff, fail_on: FailOn) -> bool:
    wanted = {"loosen": {"loosened"}, "tighten": {"tightened"}, "any": {"loosened", "tightened"}}[fail_on]
    return bool(wanted & found.directions())

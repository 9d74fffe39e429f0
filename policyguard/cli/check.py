"""`policyguard check`: load a folder, print every problem with its place, a caret and a hint; again on every change.

No rule about policies is here: the verb shows what `policy.load` and `policy.lint` say.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from policyguard.cli.formats import ReportFormat, ReportFormatOption, file_cases, github, junit, rows, sarif
from policyguard.cli.output import FINDINGS, Lines, console, fail, policies_folder, print_json, progress
from policyguard.errors import Diagnostic

if TYPE_CHECKING:
    from policyguard.policy.load import Loaded
    from policyguard.policy.model import PolicySet

LOOK_S = 0.5


def check(
    folder: Annotated[str | None, typer.Argument(help="The policies folder.", show_default="policies")] = None,
    format: ReportFormatOption = "text",
    fail_on_warning: Annotated[bool, typer.Option("--fail-on-warning", help="Warnings end with 1, too.")] = False,
    watch: Annotated[bool, typer.Option("--watch", help="Check again whenever a file changes, until Ctrl-C.")] = False,
) -> None:
    """Load a policies folder and print every problem of every file.

    Exit code 0 where it loads, 1 where it does not. With --watch that is the last check's.

    Examples:

      policyguard check

      policyguard check policies --watch

      policyguard check policies --format github --fail-on-warning

      policyguard check policies --format sarif > policyguard.sarif
    """
    path = policies_folder(folder, "check")
    if watch:
        if format != "text":
            fail("`--watch` is for people", hint="leave `--format` out")
        problems = _watch(path)
    else:
        policies, problems = _load(path)
        if format == "text":
            _print(path, policies, problems)
        else:
            _report(path, problems, format, strict=fail_on_warning)
    if _failing(problems, strict=fail_on_warning):
        raise typer.Exit(FINDINGS)


def _load(path: str) -> Loaded:
    from policyguard.policy.load import checked

    with progress("surfaces") as report:
        return checked(path, today=datetime.now(UTC).date(), progress=report)


def _watch(path: str) -> list[Diagnostic]:
    """Check at every change until Ctrl-C; the problems of the last check."""
    problems: list[Diagnostic] = []
    out = console()
    try:
        for changed in _changes(Path(path)):
            problems = _load(path).problems
            _print_problems(out, problems)
            when = datetime.now(UTC).astimezone().strftime("%H:%M:%S")
            out.print(f"{when} {_summary(path, problems)}{_because(changed)}, watching; Ctrl-C ends")
    except KeyboardInterrupt:
        typer.echo()  # not by `out`: what it was printing just now would come twice
    return problems


def _changes(folder: Path) -> Iterator[list[str]]:
    """Nothing at once, for the first check; then the names of what changed, whenever the folder came to rest."""
    from policyguard.policy.watch import REST_S, Looks

    looks = Looks(folder)
    yield []
    while True:
        names = looks.look()
        if names:
            yield names
        time.sleep(LOOK_S if names is not None else REST_S)


def _because(changed: list[str]) -> str:
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    return f" after a change of {', '.join(changed[:3])}{more}" if changed else ""


def _failing(problems: Sequence[Diagnostic], *, strict: bool) -> bool:
    return any(strict or problem.severity == "error" for problem in problems)


def _report(path: str, problems: list[Diagnostic], format: ReportFormat, *, strict: bool) -> None:
    from policyguard.policy.diagnostics import CODES

    if format == "json":
        print_json(rows(problems))
    elif format == "sarif":
        print_json(sarif(problems, CODES))
    elif format == "github":
        for line in github(problems):
            typer.echo(line)
    else:
        typer.echo(junit("policyguard check", file_cases(_files(path), problems, strict=strict)), nl=False)


def _files(path: str) -> list[str]:
    from policyguard.policy.load import stamps_of

    try:
        return [str(Path(path) / name) for name in sorted(stamps_of(Path(path)))]
    except OSError:
        return []


def _print(path: str, policies: PolicySet | None, problems: list[Diagnostic]) -> None:
    out = console()
    _print_problems(out, problems)
    if problems or policies is None:
        out.print(_summary(path, problems))
        return
    out.print(f"{_summary(path, problems)} in {_counted(len(policies.surfaces), 'surface')}")
    for name, policy in policies.surfaces.items():
        out.print(f"  {name:<16} {policy.stakes:<5} {policy.mode:<8} {policy.digest[:19]}  {policy.title}")


def _print_problems(out: Lines, problems: list[Diagnostic]) -> None:
    from policyguard.policy.diagnostics import render, text_of

    sources: dict[str, str] = {}
    for problem in problems:
        if problem.file not in sources:
            sources[problem.file] = text_of(problem.file)
        out.lines(render(problem, sources[problem.file]))
        out.print()


def _summary(path: str, problems: list[Diagnostic]) -> str:
    if not problems:
        return f"{path}: no problems"
    errors = sum(problem.severity == "error" for problem in problems)
    return f"{path}: {_counted(errors, 'error')}, {_counted(len(problems) - errors, 'warning')}"


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number != 1 else ''}"

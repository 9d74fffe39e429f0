"""`policyguard check`: load a folder, print every problem with its place, a caret and a hint."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from policyguard.cli.formats import ReportFormat, ReportFormatOption, file_cases, github, junit, rows, sarif
from policyguard.cli.output import FINDINGS, console, print_json
from policyguard.errors import Diagnostic
from policyguard.settings import setting


def check(
    folder: Annotated[str | None, typer.Argument(help="The policies folder.", show_default="policies")] = None,
    format: ReportFormatOption = "text",
    fail_on_warning: Annotated[bool, typer.Option("--fail-on-warning", help="Warnings end with 1, too.")] = False,
) -> None:
    """Load a policies folder and print every problem of every file.

    Exit code 0 where it loads, 1 where it does not.

    Examples:

      policyguard check

      policyguard check policies --format json

      policyguard check policies --format github --fail-on-warning

      policyguard check policies --format sarif > policyguard.sarif
    """
    from policyguard.policy.load import check as load_problems

    path = folder or setting("policies") or "policies"
    problems = load_problems(path)
    _report(path, problems, format, strict=fail_on_warning)
    if _failing(problems, strict=fail_on_warning):
        raise typer.Exit(FINDINGS)


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
    elif format == "junit":
        typer.echo(junit("policyguard check", file_cases(_files(path), problems, strict=strict)), nl=False)
    else:
        _print(path, problems)


def _files(path: str) -> list[str]:
    from policyguard.policy.load import look

    try:
        return [str(Path(path) / name) for name in sorted(look(Path(path)))]
    except OSError:
        return []


def _print(path: str, problems: list[Diagnostic]) -> None:
    from policyguard.policy.diagnostics import render

    out = console()
    sources: dict[str, str] = {}
    for problem in problems:
        if problem.file not in sources:
            sources[problem.file] = _source(problem.file)
        out.print(render(problem, sources[problem.file]))
        out.print()
    errors = sum(p.severity == "error" for p in problems)
    if problems:
        out.print(f"{path}: {errors} error{'s' if errors != 1 else ''}, {len(problems) - errors} warnings")
    else:
        from policyguard.policy.load import load

        surfaces = load(path).surfaces
        out.print(f"{path}: no problems in {len(surfaces)} surface{'s' if len(surfaces) != 1 else ''}")
        for name, policy in surfaces.items():
            out.print(f"  {name:<16} {policy.stakes:<5} {policy.mode:<8} {policy.digest[:19]}  {policy.title}")


def _source(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""

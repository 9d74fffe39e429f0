"""`policyguard check`: load a folder, print every problem with its place, a caret and a hint."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from policyguard.cli.output import FINDINGS, FormatOption, console, print_json
from policyguard.errors import Diagnostic
from policyguard.settings import setting


def check(
    folder: Annotated[str | None, typer.Argument(help="The policies folder.", show_default="policies")] = None,
    format: FormatOption = "text",
) -> None:
    """Load a policies folder and print every problem of every file.

    Exit code 0 where it loads, 1 where it does not.

    Examples:

      policyguard check

      policyguard check policies --format json
    """
    from policyguard.policy.load import check as load_problems

    path = folder or setting("policies") or "policies"
    problems = load_problems(path)
    if format == "json":
        print_json([asdict(problem) for problem in problems])
    else:
        _print(path, problems)
    if any(problem.severity == "error" for problem in problems):
        raise typer.Exit(FINDINGS)


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

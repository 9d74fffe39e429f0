"""`policyguard test`: the tests of a policies folder, what differs and where, and what they have not seen.

The tests are run by `policyguard.testing`; here are the options, the forms and the exit code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from policyguard.cli.formats import JUnitCase, ReportFormat, ReportFormatOption, file_cases, github, junit, sarif
from policyguard.cli.output import FINDINGS, console, policies_folder, print_json

if TYPE_CHECKING:
    from policyguard.testing.run import RunReport

_SUITE = "policyguard test"


def test(
    folder: Annotated[str | None, typer.Argument(help="The policies folder.", show_default="policies")] = None,
    format: ReportFormatOption = "text",
    select: Annotated[str, typer.Option("--select", "-k", help="Only tests whose file or name holds this text.")] = "",
    min_coverage: Annotated[
        int, typer.Option("--min-coverage", min=0, max=100, help="Percent of the conditions' branches to be seen.")
    ] = 0,
    require_tests: Annotated[bool, typer.Option("--require-tests", help="A surface without tests is a failure.")] = (
        False
    ),
) -> None:
    """Run the tests of policies: each case is decided as a guard would, without a network, a store or a clock.

    Tests stand in `tests/*.yaml` beside the policies. Exit code 0 where all pass, 1 where one fails, cannot be read, or
    too few conditions were seen true and false.

    Examples:

      policyguard test

      policyguard test policies --min-coverage 100 --require-tests

      policyguard test -k avatars --format json

      policyguard test --format junit > policies.xml
    """
    from policyguard.testing.run import run

    found = run(policies_folder(folder, "test"), select=select, require_tests=require_tests)
    enough = 100 * found.coverage.seen >= min_coverage * found.coverage.branches
    _show(found, format, min_coverage, enough=enough)
    if not found.passed or not enough:
        raise typer.Exit(FINDINGS)


def _show(found: RunReport, format: ReportFormat, min_coverage: int, *, enough: bool) -> None:
    from policyguard.policy.diagnostics import CODES as POLICY_CODES
    from policyguard.testing.codes import CODES
    from policyguard.testing.findings import data, findings

    if format == "json":
        print_json(data(found))
    elif format == "sarif":
        print_json(sarif(findings(found, enough=enough), {**POLICY_CODES, **CODES}))
    elif format == "github":
        for line in github(findings(found, enough=enough)):
            typer.echo(line)
    elif format == "junit":
        typer.echo(junit(_SUITE, _cases(found, min_coverage, enough=enough)), nl=False)
    else:
        _print(found, min_coverage, enough=enough)


def _cases(found: RunReport, min_coverage: int, *, enough: bool) -> list[JUnitCase]:
    """One case for each file with problems, for each test, and for the coverage that is asked for."""
    from policyguard.testing.render import missing, sentence

    cases = file_cases((), found.problems)
    for result in found.results:
        name, failures = f"{result.test.surface}: {result.test.name}", tuple(map(sentence, result.differences))
        cases.append(JUnitCase(name=name, file=result.test.file, failures=failures))
    if min_coverage:
        unseen = tuple(missing(condition) for condition in found.coverage.conditions if condition.missing)
        cases.append(JUnitCase(name=f"coverage of {min_coverage} %", failures=() if enough else unseen))
    return cases


def _print(found: RunReport, min_coverage: int, *, enough: bool) -> None:
    from policyguard.testing.render import report

    out = console()
    for index, paragraph in enumerate(report(found)):
        out.lines(("\n" if index else "") + paragraph)
    if not enough and found.results:
        out.print(f"that is too little, {min_coverage} % are asked for")

"""A report as data: everything for JSON, and failures as problems for what shows problems at lines.

Forms for people are in `render`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from policyguard.errors import Diagnostic, Severity
from policyguard.testing.compare import Mismatch
from policyguard.testing.coverage import ConditionSeen, Coverage
from policyguard.testing.render import sentence
from policyguard.testing.run import CaseResult, RunReport


def findings(found: RunReport, *, enough: bool) -> list[Diagnostic]:
    """Problems, failed tests, and conditions that no test has seen: warnings where that is `enough`."""
    unseen = (condition for condition in found.coverage.conditions if condition.missing and found.results)
    severity: Severity = "warning" if enough else "error"
    return sorted(
        [*found.problems, *map(_failed, found.failed), *(_unseen(condition, severity) for condition in unseen)]
    )


def _failed(result: CaseResult) -> Diagnostic:
    test = result.test
    message = f"`{test.name}` fails: {'; '.join(map(sentence, result.differences))}"
    return Diagnostic(file=test.file, line=test.line, column=test.column, code="PG606", message=message)


def _unseen(condition: ConditionSeen, severity: Severity) -> Diagnostic:
    place, never = condition.place, ", ".join(f"never {word}" for word in condition.missing)
    message = f"`{condition.name}` is {never} in the tests of `{condition.surface}`"
    return Diagnostic(
        file=place.file, line=place.line, column=place.column, code="PG607", message=message, severity=severity
    )


def data(found: RunReport) -> dict[str, Any]:
    """Everything, for JSON."""
    return {
        "folder": found.folder,
        "passed": found.passed,
        "tests": len(found.results),
        "failed": len(found.failed),
        "problems": [asdict(problem) for problem in found.problems],
        "results": [_result(result) for result in found.results],
        "coverage": _coverage(found.coverage),
    }


def _result(result: CaseResult) -> dict[str, Any]:
    test, seen = result.test, result.seen
    return {
        "file": test.file,
        "line": test.line,
        "surface": test.surface,
        "name": test.name,
        "passed": result.passed,
        "outcome": seen.outcome,
        "reasons": sorted({reason.id for reason in seen.reasons}),
        "shadow": sorted({reason.id for reason in seen.shadow}),
        "adjusted": {adjustment.param: adjustment.given for adjustment in seen.adjustments},
        "ceiling_micros": seen.ceiling_micros,
        "differences": list(map(_difference, result.differences)),
    }


def _difference(found: Mismatch) -> dict[str, Any]:
    kinds = {"-": "missing", "+": "unexpected", " ": "different"}
    place = str(found.place) if found.place else None
    return {"what": found.what, "how": kinds[found.sign], "text": found.text, "note": found.note, "place": place}


def _coverage(found: Coverage) -> dict[str, Any]:
    return {
        "percent": found.percent,
        "branches": found.branches,
        "seen": found.seen,
        "conditions": list(_conditions(found)),
    }


def _conditions(found: Coverage) -> Iterator[dict[str, Any]]:
    for condition in found.conditions:
        yield {**asdict(condition), "place": str(condition.place)}

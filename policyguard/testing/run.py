"""All tests of a policies folder, decided and compared, with what they cover. A run that tests nothing fails."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from policyguard.decision import Place
from policyguard.errors import Diagnostic, PolicyError
from policyguard.policy.load import load
from policyguard.policy.model import PolicySet
from policyguard.testing.compare import Mismatch, differences
from policyguard.testing.coverage import Coverage, Observed, coverage, observe
from policyguard.testing.read import FOLDER, PolicyTest, Suite, read_suite, suite_files
from policyguard.testing.simulate import Simulated, simulate

_NOTHING = Coverage(())


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    """One test, how it was decided, and what is not as expected."""

    test: PolicyTest
    seen: Simulated
    observed: Mapping[Place, Observed]
    differences: tuple[Mismatch, ...]

    @property
    def passed(self) -> bool:
        return not self.differences


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What a folder's tests say. `problems` keep tests from running or are missing tests: each of them is a failure."""

    folder: str
    results: tuple[CaseResult, ...] = ()
    problems: tuple[Diagnostic, ...] = ()
    coverage: Coverage = _NOTHING

    @property
    def failed(self) -> tuple[CaseResult, ...]:
        return tuple(result for result in self.results if not result.passed)

    @property
    def passed(self) -> bool:
        return not self.failed and not self.problems


def decide(policies: PolicySet, test: PolicyTest) -> CaseResult:
    """Run one test."""
    seen = simulate(policies, test.surface, test.case)
    observed = observe(policies, test.surface, test.case, seen)
    policy = policies.surfaces[test.surface]
    found = differences(policy, test.case, test.expected, seen, observed)
    return CaseResult(test=test, seen=seen, observed=observed, differences=found)


def run(folder: str | Path, *, select: str = "", require_tests: bool = False) -> RunReport:
    """Run the tests of `folder` whose name or file holds `select`. `require_tests`: each surface needs one."""
    path = Path(folder)
    try:
        policies = load(path)
    except PolicyError as error:
        return RunReport(folder=str(folder), problems=error.diagnostics)
    suites = [read_suite(file, policies) for file in suite_files(path)]
    tests = [test for suite in suites for test in suite.tests if _selected(test, select)]
    results = tuple(decide(policies, test) for test in tests)
    problems = [problem for suite in suites for problem in suite.problems]
    problems += _nothing(path, suites, tests, select)
    if require_tests:
        problems += _untested(policies, suites)
    return RunReport(
        folder=str(folder),
        results=results,
        problems=tuple(sorted(problems)),
        coverage=coverage(policies, ((result.test.surface, result.observed) for result in results)),
    )


def _selected(test: PolicyTest, select: str) -> bool:
    return select.lower() in f"{Path(test.file).name}::{test.name}".lower()


def _nothing(folder: Path, suites: Sequence[Suite], tests: Sequence[PolicyTest], select: str) -> Iterator[Diagnostic]:
    """A run without a test is no success."""
    where = str(folder / FOLDER)
    if not suites:
        hint = "write `tests/SURFACE.yaml` beside the policies, or start from `policyguard init`"
        yield Diagnostic(file=where, line=1, column=1, code="PG601", message="there are no tests", hint=hint)
    elif select and not tests:
        message = f"no test has `{select}` in its name"
        yield Diagnostic(file=where, line=1, column=1, code="PG601", message=message)


def _untested(policies: PolicySet, suites: Sequence[Suite]) -> Iterator[Diagnostic]:
    tested = {suite.surface for suite in suites}
    for name, policy in policies.surfaces.items():
        if name not in tested:
            place, hint = policy.place, f"write `{FOLDER}/{name}.yaml`"
            message = f"the surface `{name}` has no tests"
            yield Diagnostic(
                file=place.file, line=place.line, column=place.column, code="PG605", message=message, hint=hint
            )

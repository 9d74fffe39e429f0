"""Conformance with the language definition of CEL, section by section, for the part of it that policies use.

`conformance/NN-section.yaml` states each rule of the language with expressions that are true, false or in error, and
with those that we refuse, by code. Every expression that we accept is asked of both of our forms, of cel-python's
interpreter and of Google's engine; `disagreements.yaml` lists where these answer otherwise, and why, and is exact.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from cel_engines import ERRS, REFUSES, Engine, cel_expr, cel_python

from policyguard.policy.expr import (
    CODES,
    CallerType,
    Environment,
    EvaluationError,
    ExpressionErrors,
    Unavailable,
    compile_expression,
    emit,
)
from policyguard.policy.expr.check import check
from policyguard.policy.expr.evaluate import evaluate
from policyguard.policy.expr.parse import parse
from policyguard.request import CATEGORIES, ImageRequest

FOLDER = Path(__file__).parent / "conformance"
ENVIRONMENT = Environment(
    {
        "tier": CallerType(False, ("free", "pro")),
        "user": CallerType(False),
        "team": CallerType(True),
        "feature": CallerType(True),
    }
)
ENGINES: Mapping[str, Engine] = {"cel-python": cel_python, "cel-expr-python": cel_expr}
UNDECIDED = "the fast form leaves it to the exact one"


class Case(NamedTuple):
    section: str
    rule: str
    source: str
    given: dict[str, Any]
    expected: str  # true, false, error, unavailable, or the code of the refusal


def _read(path: Path) -> Any:
    return yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.BaseLoader)


def _sources(written: str | list[str]) -> list[str]:
    return written.splitlines() if isinstance(written, str) else written


def _cases(path: Path) -> list[Case]:
    section = _read(path)
    found = []
    for rule in section["rules"]:
        by_outcome = {name: rule[name] for name in ("true", "false", "error", "unavailable") if name in rule}
        by_outcome |= {code: written for code, written in rule.get("refused", {}).items() if code != "because"}
        for expected, written in by_outcome.items():
            found += [
                Case(section["section"], rule["rule"], source, rule.get("with", {}), expected)
                for source in _sources(written)
            ]
    return found


CASES = [case for path in sorted(FOLDER.glob("[0-9]*.yaml")) for case in _cases(path)]
ACCEPTED = [case for case in CASES if not case.expected.startswith("PG")]
REFUSED = [case for case in CASES if case.expected.startswith("PG")]


def _id(case: Case) -> str:
    return f"{case.section}: {case.expected}: {case.source}".encode("ascii", "backslashreplace").decode()


def world(given: Mapping[str, Any]) -> dict[str, Any]:
    """The inputs that a rule's `with` changes: a size, caller values, scores; `null` takes one away."""
    scores: dict[str, Any] | None = {**dict.fromkeys(CATEGORIES, 0.0)}
    caller = {"tier": "free", "user": "u1", **given.get("caller", {})}
    if given.get("scores") == "down":
        scores = None
    elif scores is not None:
        scores |= {c: None if s == "null" else float(s) for c, s in given.get("scores", {}).items()}
        scores = {c: s for c, s in scores.items() if s is not None}
    return {
        "request": ImageRequest(
            prompt="a fox, 狐", model="gpt-image-2", size=given.get("size", "1024x1536"), quality="high", n=2
        ),
        "caller": {name: value for name, value in caller.items() if value != "null"},
        "scores": scores,
        "surface": "avatars",
        "now": datetime(2026, 11, 24, 3, 30, tzinfo=UTC),
    }


def said(run: Callable[[], Any]) -> str:
    try:
        return str(run()).lower()
    except EvaluationError as error:
        return "error" if error.code != "internal" else "internal"
    except Unavailable:
        return "unavailable"


def fast(source: str, inputs: Mapping[str, Any]) -> str:
    """The emitted Python alone."""
    parsed = parse(source)
    plan = check(parsed, ENVIRONMENT)
    assert plan.code is not None

    def exactly(_: Mapping[str, Any]) -> Any:
        return UNDECIDED

    return said(lambda: emit.function(plan.code, plan.bind([s.value for s in parsed.slots]), exactly)(inputs))


@pytest.mark.parametrize("case", ACCEPTED, ids=_id)
def test_both_forms_mean_what_the_language_says(case: Case) -> None:
    inputs, parsed = world(case.given), parse(case.source)
    plan = check(parsed, ENVIRONMENT)
    exact = said(lambda: evaluate(plan.root, plan.bind([s.value for s in parsed.slots]), inputs))
    quick = fast(case.source, inputs)
    assert (exact, said(lambda: compile_expression(case.source, ENVIRONMENT)(inputs))) == (case.expected,) * 2
    assert quick in (case.expected, UNDECIDED)


@pytest.mark.parametrize("case", REFUSED, ids=_id)
def test_what_policies_do_not_use_is_refused_with_its_code(case: Case) -> None:
    with pytest.raises(ExpressionErrors) as caught:
        compile_expression(case.source, ENVIRONMENT)
    assert case.expected in {problem.code for problem in caught.value.problems}


@pytest.mark.parametrize("engine", ENGINES)
def test_other_engines_disagree_exactly_where_it_is_listed(engine: str) -> None:
    listed = [source for entry in _read(FOLDER / "disagreements.yaml")[engine] for source in _sources(entry["on"])]
    found = {case.source for case in ACCEPTED if not agrees(engine, case)}
    assert (set(listed), len(listed)) == (found, len(set(listed)))


def agrees(engine: str, case: Case) -> bool:
    answer = ENGINES[engine](case.source, world(case.given))
    return answer == {"true": True, "false": False}.get(case.expected, ERRS) and answer != REFUSES


def test_no_case_is_there_twice_and_every_code_of_the_language_has_one() -> None:
    keys = [(case.source, str(case.given)) for case in CASES]
    assert [key for key in keys if keys.count(key) > 1] == []
    assert {case.expected for case in REFUSED} | {"PG415"} == set(CODES)

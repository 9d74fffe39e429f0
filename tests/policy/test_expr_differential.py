"""Generated conditions in generated worlds: ours against two other engines, and our fast form against the exact one.

The short form is part of the suite; `make differential` runs the long one, with as many cases for each test as
POLICYGUARD_DIFFERENTIAL says. What an engine answers otherwise is left out of its dialect by rule, with the reason;
`conformance/disagreements.yaml` has cases of each.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
from cel_engines import cel_expr, mended_cel_python, outcome
from cel_expressions import LONG, PRODUCTIONS, Dialect, conditions, evenly
from cel_worlds import ENVIRONMENT, worlds
from hypothesis import HealthCheck, Phase, assume, find, given, settings

from policyguard.policy.expr import EvaluationError, Unavailable, compile_expression
from policyguard.policy.expr.check import check
from policyguard.policy.expr.evaluate import evaluate
from policyguard.policy.expr.operations import ARITHMETIC, FUNCTIONS, LOOPS
from policyguard.policy.expr.parse import parse
from policyguard.request import AUTO, CATEGORIES

CASES = int(os.environ.get("POLICYGUARD_DIFFERENTIAL", "500"))
many = settings(deadline=None, max_examples=CASES, suppress_health_check=list(HealthCheck))
_LONG = {form for span in LONG for form in (f"'{span}'", f"duration('{span}')")}
GOOGLES = Dialect(
    empty_loops=False,  # what its checker infers of items without a type is sometimes too narrow
    leave_out=frozenset(_LONG),  # it counts durations in 64 bits of nanoseconds, which is 292 years
)
CEL_PYTHONS = Dialect(
    three_argument_map=False,  # it knows map with two
    sound_items=True,  # what errs in map, filter and exists_one leaves the whole expression
    leave_out=frozenset(
        {
            *_LONG,  # durations run out of their range unnoticed
            *("== list double", "!= list double", "in double"),  # no number is found by identity
            "in bool",  # an input that is down, looked for in a list, leaves the whole expression
            "% int",  # the lowest number modulo -1 is 0
        }
    ),
)
RIGHTLY = {"overflow", "division_by_zero", "not_a_number", "unknown_size"}


def without(signs: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """The same inputs, without these signs in their texts."""
    left_out = str.maketrans("", "", signs)
    prompt = inputs["request"].prompt.translate(left_out)
    request = replace(inputs["request"], prompt=prompt if prompt.strip() else "a")
    caller = {name: value.translate(left_out) for name, value in inputs["caller"].items()}
    return {**inputs, "request": request, "caller": caller}


def numbers_without_space(source: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """Both engines read a number with white space around it: where numbers are read from texts, there is none."""
    if not re.search(r"(int|double)\(", source):
        return inputs
    assume(r"'\n'" not in source)
    return without("\n", inputs)


def all_assessed(source: str, inputs: dict[str, Any]) -> dict[str, Any]:
    """A map of scores has the categories that were assessed, ours all thirteen: where that shows, all were."""
    if not inputs["scores"] or not re.search(r"scores\.\w+\(v|in scores", source):
        return inputs
    return {**inputs, "scores": {**dict.fromkeys(CATEGORIES, 0.5), **inputs["scores"]}}


@many
@given(conditions(GOOGLES), worlds())
def test_we_agree_with_googles_engine(source: str, inputs: dict[str, Any]) -> None:
    """Texts that are given to it end at the sign with the number 0: no input has one."""
    fair = without("\0", all_assessed(source, numbers_without_space(source, inputs)))
    assert outcome(compile_expression(source, ENVIRONMENT), fair) == cel_expr(source, fair)


@many
@given(conditions(CEL_PYTHONS, depth=2), worlds())
def test_we_agree_with_cel_python(source: str, inputs: dict[str, Any]) -> None:
    fair = numbers_without_space(source, inputs)
    assert outcome(compile_expression(source, ENVIRONMENT), fair) == mended_cel_python(source, fair)


def said(condition: Any, *arguments: Any) -> bool | str:
    """The answer, or why there is none."""
    try:
        return bool(condition(*arguments))
    except EvaluationError as error:
        return error.code
    except Unavailable:
        return "unavailable"


@many
@given(evenly(), worlds())
def test_what_passes_the_checker_errs_for_a_reason_and_in_both_forms_alike(source: str, inputs: dict[str, Any]) -> None:
    parsed = parse(source)
    plan = check(parsed, ENVIRONMENT)
    assert plan.code is not None
    found = said(compile_expression(source, ENVIRONMENT), inputs)
    assert found == said(evaluate, plan.root, plan.bind([slot.value for slot in parsed.slots]), inputs)
    assert found in possible(inputs)


def possible(inputs: Mapping[str, Any]) -> set[bool | str]:
    """Nothing is unavailable where every score is there, and no size unknown where it is said."""
    down = inputs["scores"] is None or len(inputs["scores"]) < len(CATEGORIES)
    known = RIGHTLY if inputs["request"].size == AUTO else RIGHTLY - {"unknown_size"}
    return {True, False, *known, *(["unavailable"] if down else [])}


def test_every_function_and_operator_is_generated() -> None:
    names = {production.name.split(" ")[0] for production in PRODUCTIONS}
    operators = {"==", "!=", "<", "<=", ">", ">=", "in", "?", "!", "&&", "[]"}
    assert {*FUNCTIONS, *ARITHMETIC, *LOOPS, *operators} <= names


@pytest.mark.parametrize("wanted", ["scores.all(", "v1", "has(caller.team)", ".map(v0, ", "🦊", "(now)."])
def test_the_generator_reaches_what_it_is_for(wanted: str) -> None:
    without_shrinking = settings(deadline=None, max_examples=5000, phases=[Phase.generate], database=None)
    assert wanted in find(conditions(), lambda source: wanted in source, settings=without_shrinking)

"""Conditions: what the checker says of mistakes, what CEL means, and what happens when an input is down."""

from __future__ import annotations

import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyguard.policy.expr import (
    CODES,
    CallerType,
    Environment,
    EvaluationError,
    ExpressionErrors,
    RequestFacts,
    Unavailable,
    compile_expression,
)
from policyguard.request import CATEGORIES

ENVIRONMENT = Environment(
    {"tier": CallerType(False, ("free", "pro")), "user": CallerType(False), "feature": CallerType(True)}
)
NOW = datetime(2026, 11, 24, 3, 30, tzinfo=UTC)


def inputs(scores: dict[str, float] | None = None, down: bool = False, **caller: str) -> dict[str, Any]:
    return {
        "request": RequestFacts(
            operation="generate",
            prompt="CANARY a fox, 狐",
            model="gpt-image-2",
            size="1024x1536",
            width=1024,
            height=1536,
            pixels=1024 * 1536,
            quality="high",
            n=2,
            background="auto",
            output_format="png",
            partial_images=0,
            input_images=0,
            has_mask=False,
        ),
        "caller": {"tier": "free", "user": "u1", **caller},
        "scores": None if down else {**dict.fromkeys(CATEGORIES, 0.0), **(scores or {})},
        "surface": "avatars",
        "now": NOW,
    }


def problems(source: str) -> list[tuple[int, int, str]]:
    with pytest.raises(ExpressionErrors) as caught:
        compile_expression(source, ENVIRONMENT)
    return [(p.line, p.column, p.code) for p in caught.value.problems]


WRONG = {
    "reqest.n > 1": (1, 1, "PG402"),
    "true || reqest.n > 1": (1, 9, "PG402"),
    "has(requst.foo)": (1, 5, "PG402"),
    'request.prmopt.contains("fox")': (1, 9, "PG403"),
    "request.n.foo == 1": (1, 11, "PG403"),
    "caller.teir == 'free'": (1, 8, "PG403"),
    "request.n > 1.5": (1, 1, "PG405"),
    "request.n && true": (1, 1, "PG405"),
    '"a" in request.prompt': (1, 1, "PG405"),
    "scores.sexual > 1": (1, 1, "PG405"),
    "request.n == '1'": (1, 1, "PG405"),
    "[1, 'a'] == [1]": (1, 1, "PG405"),
    "!request.n": (1, 2, "PG405"),
    "-request.prompt == ''": (1, 1, "PG405"),
    "request == request": (1, 1, "PG405"),
    "request.n > 1 ? 1 : true": (1, 1, "PG405"),
    "scores['voilence'] > 0.5": (1, 8, "PG406"),
    "scores.voilence > 0.5": (1, 8, "PG406"),
    "request.size == '1024×1024'": (1, 1, "PG406"),
    "request.quality == 'hd'": (1, 1, "PG406"),
    "caller.tier in ['gold']": (1, 1, "PG406"),
    "caller.feature == 'x'": (1, 1, "PG407"),
    "has(caller.feature) || caller.feature == 'x'": (1, 24, "PG407"),
    "request.prompt.matches('(a')": (1, 1, "PG408"),
    "request.prompt.matches(request.model)": (1, 1, "PG408"),
    "now > timestamp('yesterday')": (1, 7, "PG408"),
    "now.getHours('Mars/Base') > 1": (1, 1, "PG408"),
    "now - now > duration('1 hour')": (1, 13, "PG408"),
    "request.prompt.containz('x')": (1, 1, "PG404"),
    "size(request.n) > 3": (1, 1, "PG404"),
    "[1].exists(t, k, t == 1)": (1, 1, "PG404"),
    "(" * 31 + "true" + ")" * 31: (1, 1, "PG409"),
    " || ".join(["request.n > 1"] * 101): (1, 1, "PG409"),
    "'" + "a" * 10_000 + "' == ''": (1, 1, "PG409"),
    "[1].exists(a, [2].exists(b, a == b))": (1, 15, "PG409"),
    "answers.real_person > 0.7": (1, 1, "PG410"),
    "images.exists(i, true)": (1, 1, "PG410"),
    "output.n > 1": (1, 1, "PG410"),
    "request.obfuscated": (1, 9, "PG410"),
    "has(request)": (1, 1, "PG411"),
    "has(request.n)": (1, 1, "PG411"),
    "has(scores.sexual)": (1, 1, "PG411"),
    "has(caller.tier)": (1, 1, "PG411"),
    "scores.sexual > 1.5": (1, 1, "PG412"),
    "request.n + 1": (1, 1, "PG413"),
    "{'a': 1} == {'a': 1}": (1, 1, "PG414"),
    "null == null": (1, 1, "PG414"),
    "request.n >": (1, 1, "PG401"),
    "": (1, 1, "PG401"),
    "9223372036854775808 > request.n": (1, 1, "PG401"),
}


@pytest.mark.parametrize("source", WRONG, ids=lambda s: s[:40] or "empty")
def test_each_mistake_has_its_code_and_place(source: str) -> None:
    line, column, code = WRONG[source]
    found = problems(source)
    assert code in [problem[2] for problem in found]
    if code not in ("PG401", "PG413"):
        assert (line, column, code) in found


def test_every_code_of_expressions_is_produced_by_a_mistake() -> None:
    assert {code for _, _, code in WRONG.values()} == set(CODES)


def test_all_mistakes_are_found_in_one_run() -> None:
    assert problems("reqest.n > 1 && request.quality == 'hd' && scores.voilence > 0.1") == [
        (1, 1, "PG402"),
        (1, 17, "PG406"),
        (1, 51, "PG406"),
    ]


TRUE = [
    "request.n == 2 && caller.tier == 'free'",
    "request.prompt.contains('狐') && size(request.prompt) == 15",
    "request.prompt.matches('(?i)FOX') && !request.prompt.matches('^fox')",
    "request.prompt.startsWith('CAN') && request.prompt.endsWith('狐')",
    "request.size == '1024x1536' && request.pixels > 1000000 && request.height > request.width",
    "request.quality in ['high', 'max'] && !(request.n in [1, 3])",
    "-7 / 2 == -3 && -7 % 2 == -1 && 7 / 2 == 3",
    "1.0 / 0.0 > 1.0e300 && !(0.0 / 0.0 == 0.0 / 0.0)",
    "request.n > 1 ? caller.tier == 'free' : false",
    "has(caller.feature) ? caller.feature == 'x' : true",
    "!has(caller.feature) || caller.feature == 'x'",
    "scores.exists(c, scores[c] > 0.5) || scores.all(c, scores[c] < 0.5)",
    "now > timestamp('2026-11-24T00:00:00Z') && now.getHours('Europe/Berlin') == 4 && now.getDayOfWeek() == 2",
    "now.getMinutes() == 30 && now.getMonth() == 10 && now.getDate() == 24",
    "int('12') == 12 && double(request.n) == 2.0 && string(request.n) == '2'",
    r"'a\n\x41é' == 'a' + '\n' + 'A' + 'é' && r'\n' == '\\n'",
    "surface == 'avatars' && [1, 2].exists(x, x == request.n)",
]


@pytest.mark.parametrize("source", TRUE)
def test_conditions_mean_what_cel_says(source: str) -> None:
    assert compile_expression(source, ENVIRONMENT)(inputs()) is True


@pytest.mark.parametrize(
    ("source", "n2", "outcome"),
    [
        ("scores.sexual > 0.5 || request.n > 1", True, True),
        ("request.n > 1 || scores.sexual > 0.5", True, True),
        ("scores.sexual > 0.5 || request.n > 4", None, None),
        ("scores.sexual > 0.5 && request.n > 4", False, False),
        ("request.n > 4 && scores.sexual > 0.5", False, False),
        ("scores.sexual > 0.5 && request.n > 1", None, None),
        ("!(scores.sexual > 0.5)", None, None),
        ("request.n > 1 ? true : scores.sexual > 0.5", True, True),
        ("scores.sexual > 0.5 ? true : true", None, None),
        ("scores.exists(c, scores[c] > 0.5)", None, None),
        ("[1].exists(x, scores.sexual > 0.5 || x == 1)", True, True),
        ("scores.sexual > 0.5 || request.n / 0 == 1 || true", True, True),
    ],
)
def test_unavailable_scores_are_absorbed_or_said_never_false(source: str, n2: Any, outcome: Any) -> None:
    condition = compile_expression(source, ENVIRONMENT)
    if outcome is None:
        with pytest.raises(Unavailable):
            condition(inputs(down=True))
    else:
        assert condition(inputs(down=True)) is outcome


def test_a_score_that_is_missing_is_unavailable_by_itself() -> None:
    given = inputs()
    del given["scores"]["hate"]
    assert compile_expression("scores.sexual < 0.1", ENVIRONMENT)(given) is True
    with pytest.raises(Unavailable, match=r"scores\.hate"):
        compile_expression("scores.hate < 0.1", ENVIRONMENT)(given)


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("9223372036854775807 + request.n > 0", "overflow"),
        ("request.n * 9223372036854775807 > 0", "overflow"),
        ("request.n / (request.n - 2) > 0", "division_by_zero"),
        ("request.n % (request.n - 2) > 0", "division_by_zero"),
        ("int(request.prompt) > 0", "not_a_number"),
        ("int(1.0 / 0.0) > 0", "overflow"),
    ],
)
def test_arithmetic_that_fails_is_an_error_without_a_value(source: str, code: str) -> None:
    with pytest.raises(EvaluationError) as caught:
        compile_expression(source, ENVIRONMENT)(inputs())
    assert (caught.value.code, "CANARY" in str(caught.value)) == (code, False)


def test_an_error_is_stricter_than_an_unavailable_input() -> None:
    with pytest.raises(EvaluationError):
        compile_expression("scores.sexual > 0.5 || request.n / 0 == 1", ENVIRONMENT)(inputs(down=True))


def test_what_a_condition_reads_is_known() -> None:
    read = compile_expression(
        "caller.tier == 'free' && scores['sexual/minors'] > 0.1 && now.getHours() > 1", ENVIRONMENT
    )
    assert read.reads == {"caller.tier", "scores.sexual/minors", "now"}
    assert compile_expression("scores.exists(c, scores[c] > 0.5)", ENVIRONMENT).reads == {"scores"}


WORDS = [*"request .n .prompt caller scores [ ] ( ) || && ! == > 'a' 1 1.5 has exists , c ? : { } \\ \" é".split(), " "]


@settings(deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=25).map("".join))
def test_no_text_escapes_the_checker_with_another_exception(source: str) -> None:
    try:
        condition = compile_expression(source, ENVIRONMENT)
    except ExpressionErrors:
        return
    with suppress(Unavailable, EvaluationError):
        assert isinstance(condition(inputs()), bool)


def test_threads_do_not_see_each_others_values() -> None:
    condition = compile_expression("caller.user == 'u1' && [1, 2].exists(x, x == request.n)", ENVIRONMENT)
    wrong: list[str] = []

    def ask(user: str) -> None:
        for _ in range(500):
            if condition(inputs(user=user)) is not (user == "u1"):
                wrong.append(user)

    threads = [threading.Thread(target=ask, args=(f"u{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []

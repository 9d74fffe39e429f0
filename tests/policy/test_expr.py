"""Conditions: what the checker says of mistakes, what CEL means, and what happens when an input is down."""

from __future__ import annotations

import subprocess
import sys
import threading
import traceback
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
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
    Unavailable,
    compile_expression,
)
from policyguard.request import CATEGORIES, ImageRequest

ENVIRONMENT = Environment(
    {"tier": CallerType(False, ("free", "pro")), "user": CallerType(False), "feature": CallerType(True)},
    frozenset({"real_person"}),
)
NOW = datetime(2026, 11, 24, 3, 30, tzinfo=UTC)


def inputs(scores: dict[str, float] | None = None, down: bool = False, **caller: str) -> dict[str, Any]:
    return {
        "request": ImageRequest(prompt="CANARY a fox, 狐", model="gpt-image-2", size="1024x1536", quality="high", n=2),
        "caller": {"tier": "free", "user": "u1", **caller},
        "scores": None if down else {**dict.fromkeys(CATEGORIES, 0.0), **(scores or {})},
        "surface": "avatars",
        "now": NOW,
    }


@pytest.mark.parametrize(
    ("answers", "expected"), [({"real_person": 0.71}, True), ({"real_person": 0.7}, False), ({}, None), (None, None)]
)
def test_an_answer_is_read_like_a_score_and_one_that_is_not_there_is_unavailable(answers: Any, expected: Any) -> None:
    condition = compile_expression("answers.real_person > 0.7", ENVIRONMENT)
    assert condition.reads == {"answers.real_person"}
    read = {**inputs(), "answers": answers}
    if expected is None:
        with pytest.raises(Unavailable):
            condition(read)
        assert compile_expression("answers.real_person > 0.7 || request.n == 2", ENVIRONMENT)(read) is True
    else:
        assert condition(read) is expected


def test_the_same_condition_is_wrong_where_the_question_is_not_asked() -> None:
    compile_expression("answers.real_person > 0.25", ENVIRONMENT)
    with pytest.raises(ExpressionErrors):
        compile_expression("answers.real_person > 0.25", Environment(ENVIRONMENT.caller))


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
    '"a" in request.prompt': (1, 8, "PG405"),
    "scores.sexual >= 1": (1, 1, "PG405"),
    "request.n == '1'": (1, 1, "PG405"),
    "[1, 'a'] == [1]": (1, 1, "PG405"),
    "!request.n": (1, 2, "PG405"),
    "-request.prompt == ''": (1, 1, "PG405"),
    "request == request": (1, 1, "PG405"),
    "request.quality >= 'high'": (1, 1, "PG405"),
    "request.size > '1024x1024'": (1, 1, "PG405"),
    "true < false": (1, 1, "PG405"),
    "request.n + 1.0 > 2.0": (1, 1, "PG405"),
    "request.n in [1.0]": (1, 1, "PG405"),
    "[1.0].exists(x, x > 1)": (1, 17, "PG405"),
    "request.prompt.exists(x, true)": (1, 1, "PG405"),
    "request.n > 1 ? 1 : true": (1, 1, "PG405"),
    "scores['voilence'] > 0.5": (1, 8, "PG406"),
    "scores.voilence > 0.5": (1, 8, "PG406"),
    "request.size == '1024×1024'": (1, 17, "PG406"),
    "request.quality == 'hd'": (1, 20, "PG406"),
    "caller.tier in ['gold']": (1, 17, "PG406"),
    "caller.feature == 'x'": (1, 8, "PG407"),
    "has(caller.feature) || caller.feature == 'x'": (1, 31, "PG407"),
    "request.prompt.matches('(a')": (1, 24, "PG408"),
    "request.prompt.matches(request.model)": (1, 24, "PG408"),
    "now > timestamp('yesterday')": (1, 17, "PG408"),
    "now.getHours('Mars/Base') > 1": (1, 14, "PG408"),
    "now - now > duration('1 hour')": (1, 22, "PG408"),
    "request.prompt.containz('x')": (1, 16, "PG404"),
    "size(request.n) > 3": (1, 1, "PG404"),
    "[1].exists(t, k, t == 1)": (1, 5, "PG404"),
    "(" * 31 + "true" + ")" * 31: (1, 31, "PG409"),
    "!" * 31 + "true": (1, 31, "PG409"),
    "[" + "1, " * 500 + "1].exists(x, x > 1)": (1, 1, "PG409"),
    "0" + " + 1" * 100 + " > 1": (1, 1, "PG409"),
    " || ".join(["request.n > 1"] * 101): (1, 1, "PG409"),
    "'" + "a" * 10_000 + "' == ''": (1, 1, "PG409"),
    "[1].exists(a, [2].exists(b, [3].exists(c, a == c)))": (1, 33, "PG409"),
    "[1].exists(a, [2].exists(a, a == 1))": (1, 26, "PG402"),
    "[1].all(request, true)": (1, 9, "PG402"),
    "answers.real_persn > 0.7": (1, 9, "PG403"),
    "answers['real_person'] > 0.7": (1, 1, "PG414"),
    "answers.real_person > 7.0": (1, 23, "PG412"),
    "answers.real_person == 'yes'": (1, 1, "PG405"),
    "answers == 0.5": (1, 1, "PG405"),
    "has(answers.real_person)": (1, 1, "PG411"),
    "images.exists(i, true)": (1, 1, "PG410"),
    "output.n > 1": (1, 8, "PG406"),
    "output.hate > 0.5": (1, 8, "PG406"),
    "request.obfuscated > 1": (1, 1, "PG405"),
    "has(request)": (1, 1, "PG411"),
    "has(request.n)": (1, 1, "PG411"),
    "has(scores.sexual)": (1, 1, "PG411"),
    "has(caller.tier)": (1, 1, "PG411"),
    "scores.sexual > 1.5": (1, 17, "PG412"),
    "scores.sexual > 1.0": (1, 17, "PG412"),
    "0.0 <= scores.sexual": (1, 1, "PG412"),
    "scores.hate > 1": (1, 15, "PG412"),
    "request.n + 1": (1, 1, "PG413"),
    "{'a': 1} == {'a': 1}": (1, 1, "PG414"),
    "null == null": (1, 1, "PG414"),
    "dyn(1) == 1": (1, 1, "PG414"),
    "type(1) == type(2)": (1, 1, "PG414"),
    "[1, 2].min() == 1": (1, 8, "PG414"),
    "google.protobuf.Int32Value{value: 1} == 1": (1, 1, "PG414"),
    "1u == 1u": (1, 1, "PG414"),
    "b'a' == b'a'": (1, 1, "PG414"),
    ".request.n > 1": (1, 1, "PG414"),
    "[1][0] == 1": (1, 1, "PG414"),
    "request.model == 'gpt-\u0456mage-2'": (1, 23, "PG415"),
    "request.n > 1 // \u202e": (1, 18, "PG415"),
    "request.n >": (1, 12, "PG401"),
    "": (1, 1, "PG401"),
    "for > 1": (1, 1, "PG401"),
    "true and false": (1, 6, "PG401"),
    "request.prompt == 'a": (1, 19, "PG401"),
    r"request.prompt == r'a\'": (1, 19, "PG401"),
    r"request.prompt == '\q'": (1, 19, "PG401"),
    r"request.prompt == '\ud800'": (1, 19, "PG401"),
    "scores.hate > 1.": (1, 15, "PG401"),
    "9223372036854775808 > request.n": (1, 1, "PG401"),
    "1e999 > 1.0": (1, 1, "PG401"),
}


@pytest.mark.parametrize("source", WRONG, ids=lambda s: s[:40] or "empty")
def test_each_mistake_has_its_code_and_place(source: str) -> None:
    line, column, code = WRONG[source]
    found = problems(source)
    assert (line, column, code) in found


def test_every_code_of_expressions_is_produced_by_a_mistake() -> None:
    assert {code for _, _, code in WRONG.values()} == set(CODES)


def test_all_mistakes_are_found_in_one_run() -> None:
    assert problems("reqest.n > 1 && request.quality == 'hd' && scores.voilence > 0.1") == [
        (1, 1, "PG402"),
        (1, 36, "PG406"),
        (1, 51, "PG406"),
    ]


TRUE = [
    "request.n == 2 && caller.tier == 'free'",
    "request.prompt.contains('狐') && size(request.prompt) == 15 && request.prompt.size() == 15",
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
    "[1, 2, 3].exists_one(x, x > 2) && [1, 2].filter(x, x > 1) == [2] && [1, 2].map(x, x * 2) == [2, 4]",
    "[1, 2, 3].map(x, x > 1, x + 1) == [3, 4] && [1] + [2] == [1, 2] && [1.5] != [1.0] && 1.5 in [1.5]",
    "[1, 2].exists(a, [2, 3].exists(b, a == b)) && ![[0.0 / 0.0]].exists(x, x == x)",
    "scores.filter(c, scores[c] < 0.5).size() == 13 && 'hate' in scores && scores.map(c, scores[c]).size() == 13",
    "string(true) == 'true' && int(-1.9) == -1 && int('-7') == -7 && double('2.5e1') == 25.0 && double('-.5') < 0.0",
    "now - timestamp('2026-11-24T00:00:00+01:00') == duration('4h30m') && now + duration('-30m') < now",
    "now.getSeconds() == 0 && now.getDayOfYear() == 327 && now.getDayOfMonth() == 23 && now.getFullYear() == 2026",
    "matches('fox', '^f.x$') && r'a\\b' == 'a\\\\b' && '''a'b''' == \"a'b\" && '\\101\\u00e9' == 'Aé'",
    "0x1F == 31 && -0x1F == -31 && 1 - -1 == 2 && request.n-1 == 1 && .5 == 0.5 && 1e3 == 1000.0",
    "[].all(x, x > 1) && size([]) == 0 && !(1 in [])",
    "true // a remark with a quote: '",
]


@pytest.mark.parametrize("source", TRUE)
def test_conditions_mean_what_cel_says(source: str) -> None:
    assert compile_expression(source, ENVIRONMENT)(inputs()) is True


HINTS = {
    "reqest.n > 1": "did you mean `request`?",
    "request.m > 1": "did you mean `n`?",
    "request.prmopt == ''": "did you mean `prompt`?",
    "caller.teir == 'free'": "did you mean `tier`?",
    "caller.tier == 'Free'": "did you mean `free`?",
    "scores['voilence'] > 0.5": "did you mean `violence`?",
    "request.size == '1024×1024'": "did you mean `1024x1024`?",
    "request.size == 'big'": "a size is written like `1024x1024`, or `auto`",
    "request.quality == 'hgih'": "did you mean `high`?",
    "request.prompt.containz('x')": "did you mean `contains`?",
    "contains(request.prompt, 'x')": "write `text.contains(...)`",
    "size(request.n) > 3": "it takes (string) or (list)",
    "request.n == 1.0": "convert the whole number with `double(...)`",
    "scores.hate >= 1": "write `1.0`",
    "scores.hate > 30": "write `0.3`",
    "scores.sexual/minors > 0.1": 'write `scores["sexual/minors"]`',
    "tier == 'free'": "write `caller.tier`",
    "quality == 'high'": "write `request.quality`",
    "caller.tier not in ['free']": "write `!(... in [...])`",
    "caller.feature == 'x'": "guard it: `has(caller.feature) && ...`",
    "true and false": "write `&&`",
    "request.n = 1": "write `==`",
    "True": "did you mean `true`?",
    "request.quality >= 'high'": "list the values: `in [...]`",
}


@pytest.mark.parametrize("source", HINTS)
def test_a_hint_says_what_was_meant(source: str) -> None:
    with pytest.raises(ExpressionErrors) as caught:
        compile_expression(source, ENVIRONMENT)
    assert HINTS[source] in [p.hint for p in caught.value.problems]


def test_messages_are_short_and_printable_whatever_the_text_holds() -> None:
    with pytest.raises(ExpressionErrors) as caught:
        compile_expression("request.quality == '" + "\u202e" + "x" * 5000 + "'", ENVIRONMENT)
    message = caught.value.problems[0].message
    assert (len(message) < 200, message.isprintable()) == (True, True)


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
        ("scores.exists(c, true)", None, None),
        ("'hate' in scores", None, None),
        ("scores.filter(c, scores[c] > 0.5).size() > 0 || request.n == 2", True, True),
        ("[1, 2].exists_one(x, scores.sexual > 0.5)", None, None),
        ("[1, 2].map(x, scores.hate > 0.5).size() > 0", None, None),
        ("[].all(x, scores.sexual > 0.5)", True, True),
        ("scores.sexual < 0.5 && scores.hate < 0.5 && false", False, False),
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


def test_a_broken_input_is_an_error_without_its_cause() -> None:
    given = {**inputs(), "request": {"prompt": "CANARY"}}
    for source in ("request.n > 1", "request.n > 1 || false", "request.prompt.matches('a')"):
        with pytest.raises(EvaluationError) as caught:
            compile_expression(source, ENVIRONMENT)(given)
        assert (caught.value.code, caught.value.__context__, caught.value.__cause__) == ("internal", None, None)


def test_a_prompt_that_no_pattern_can_read_is_an_error_that_does_not_quote_it() -> None:
    given = {**inputs(), "request": SimpleNamespace(prompt="CANARY \ud800")}
    with pytest.raises(EvaluationError) as caught:
        compile_expression("request.prompt.matches('a')", ENVIRONMENT)(given)
    shown = "".join(traceback.format_exception(caught.value)) + repr(caught.value.args)
    assert ("CANARY" in shown, caught.value.code, caught.value.__context__) == (False, "internal", None)


@pytest.mark.parametrize("sign", ["<", "<=", ">", ">=", "==", "!="])
@pytest.mark.parametrize("name", ["width", "height", "pixels"])
def test_pixels_that_upstream_picks_are_an_error_never_a_number(name: str, sign: str) -> None:
    auto = replace(inputs()["request"], size="auto")
    given = {**inputs(), "request": auto}
    for source in (f"request.{name} {sign} 1024", f"!(request.{name} {sign} 1024)", f"request.{name} in [0, 1024]"):
        with pytest.raises(EvaluationError, match="unknown_size"):
            compile_expression(source, ENVIRONMENT)(given)
    assert compile_expression(f"request.{name} {sign} 1024 || request.n == 2", ENVIRONMENT)(given) is True


def test_a_required_caller_value_that_is_absent_is_an_error() -> None:
    given = {**inputs(), "caller": {}}
    with pytest.raises(EvaluationError, match="missing_caller_value"):
        compile_expression("caller.tier == 'free'", ENVIRONMENT)(given)


@pytest.mark.parametrize(
    "source",
    [
        "!(!has(caller.feature) || caller.feature != 'x')",
        "has(caller.feature) && [1].exists(i, caller.feature == 'x')",
        "!has(caller.feature) ? false : caller.feature == 'x'",
        "request.n > 1 && has(caller.feature) && caller.feature == 'x'",
        "(has(caller.feature) && request.n > 1) && caller.feature == 'x'",
        "(!has(caller.feature) || request.n > 4) || caller.feature == 'x'",
    ],
)
def test_a_guard_is_known_wherever_it_must_have_held(source: str) -> None:
    condition = compile_expression(source, ENVIRONMENT)
    assert condition(inputs()) is (source.startswith("(!"))
    assert condition(inputs(feature="x")) is True


@pytest.mark.parametrize(
    "source",
    [
        "(has(caller.feature) || request.n > 1) && caller.feature == 'x'",
        "!has(caller.feature) && caller.feature == 'x'",
        "caller.feature == 'x' && has(caller.feature)",
        "has(caller.feature) == true && caller.feature == 'x'",
        "(has(caller.feature) ? true : false) && caller.feature == 'x'",
    ],
)
def test_a_guard_that_need_not_have_held_does_not_count(source: str) -> None:
    assert "PG407" in [code for _, _, code in problems(source)]


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


def test_the_recursion_limit_and_the_interpreter_of_cel_python_are_left_alone() -> None:
    program = (
        "import sys; before = sys.getrecursionlimit()\n"
        "from policyguard.policy.expr import Environment, compile_expression\n"
        "assert not {'celpy', 'lark', 're2'} & set(sys.modules)\n"
        "compile_expression('true', Environment({}))\n"
        "assert (sys.getrecursionlimit(), 'celpy' in sys.modules) == (before, False)\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_a_deep_stack_refuses_instead_of_crashing() -> None:
    condition = compile_expression("request.n > 1 || request.n / 0 == 1", ENVIRONMENT)
    given = inputs()

    def deeper() -> None:
        with suppress(EvaluationError):
            condition(given)
        deeper()

    with pytest.raises(RecursionError):
        deeper()


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

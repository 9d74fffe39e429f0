"""Conditions of one shape share their plan and code; what makes them differ is never shared."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policyguard.policy.expr import CallerType, Environment, ExpressionErrors, compile_expression, forget, share

ENVIRONMENT = Environment({"tier": CallerType(False, ("free", "pro"))})


def values(condition: object) -> tuple[object, ...]:
    return condition.run.__defaults__[:-1]  # type: ignore[attr-defined]


def known(source: str) -> bool:
    text = share.text_of(source, ENVIRONMENT)
    return text is not None and share.shared(text) is not None


@pytest.fixture(autouse=True)
def _fresh() -> None:
    forget()


def test_conditions_that_differ_in_literals_share_their_code() -> None:
    one = compile_expression("caller.tier == 'free' && scores.hate > 0.5", ENVIRONMENT)
    assert known("caller.tier == 'pro' && scores.hate > 0.25")
    other = compile_expression("caller.tier == 'pro' && scores.hate > 0.25", ENVIRONMENT)
    assert one.run.__code__ is other.run.__code__  # type: ignore[attr-defined]
    assert (values(one)[:2], values(other)[:2]) == (("free", 0.5), ("pro", 0.25))


def test_a_category_in_brackets_is_never_taken_from_another_condition() -> None:
    one = compile_expression("scores['hate'] > 0.5", ENVIRONMENT)
    other = compile_expression("scores['sexual'] > 0.5", ENVIRONMENT)
    assert (one.reads, other.reads) == ({"scores.hate"}, {"scores.sexual"})
    assert other({"scores": {"hate": 0.0, "sexual": 0.9}}) is True


@pytest.mark.parametrize(
    ("right", "wrong", "code", "column"),
    [
        ("caller.tier == 'free'", "caller.tier ==  'gold'", "PG406", 17),
        ("caller.tier in ['free', 'pro']", "caller.tier in ['free', 'gold']", "PG406", 25),
        ("scores.hate > 0.5", "scores.hate > 1.5", "PG412", 15),
        ("scores['hate'] > 0.5", "scores['hats'] > 0.5", "PG406", 8),
        ("request.size == 'auto'", "request.size == '1x'", "PG406", 17),
        ("request.prompt.matches('a')", "request.prompt.matches('(')", "PG408", 24),
        ("now > timestamp('2026-11-24T00:00:00Z')", "now > timestamp('2026-11-31T00:00:00Z')", "PG408", 17),
        ("request.n > 1", "request.n > 9223372036854775808", "PG401", 13),
        ("request.prompt == 'a'", r"request.prompt == '\q'", "PG401", 19),
    ],
)
def test_a_literal_that_is_wrong_is_found_in_a_known_shape_too(right: str, wrong: str, code: str, column: int) -> None:
    compile_expression(right, ENVIRONMENT)
    with pytest.raises(ExpressionErrors) as caught:
        compile_expression(wrong, ENVIRONMENT)
    assert [(p.code, p.column) for p in caught.value.problems] == [(code, column)]


def test_another_environment_is_another_shape() -> None:
    compile_expression("caller.tier == 'free'", ENVIRONMENT)
    with pytest.raises(ExpressionErrors):
        compile_expression("caller.tier == 'free'", Environment({"tier": CallerType(False, ("gold",))}))
    with pytest.raises(ExpressionErrors):
        compile_expression("caller.tier == 'free'", Environment({"tier": CallerType(True, ("free",))}))


@pytest.mark.parametrize(
    "source", ["true // 'a'", "b'a' == b'a'", "1u == 1u", "request.n > 1.", "'a", r"request.prompt == r'\'", "'''"]
)
def test_what_only_looks_like_a_shape_is_not_shared(source: str) -> None:
    assert share.text_of(source, ENVIRONMENT) is None


LITERALS = st.sampled_from(
    ["0", "1", "7", "-1", "0x1F", "1.5", ".5", "1e3", "'a'", '"b"', "r'c'", r"'\n'", r"'\''", "'//'", '"a\'b"', "''"]
)


@settings(deadline=None)
@given(st.sampled_from(["{} == {}", "[{}, {}].exists(x, x == {})", "{}-{} == {}", "{} in[{}]"]), st.data())
def test_sharing_never_changes_what_a_condition_is(shape: str, data: st.DataObject) -> None:
    forget()
    for _ in range(3):
        source = shape.format(*(data.draw(LITERALS) for _ in range(3)))
        with_others, alone = outcome(source), []
        kept = dict(share._SHAPES)
        forget()
        alone = outcome(source)
        share._SHAPES.update(kept)
        assert with_others == alone


def outcome(source: str) -> object:
    try:
        condition = compile_expression(source, ENVIRONMENT)
        return values(condition), condition.reads, condition({})
    except ExpressionErrors as errors:
        return errors.problems

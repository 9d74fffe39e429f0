"""Critical points of conditions: every result that a condition can give is found, and what is a sample says so."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given as generated
from hypothesis import settings
from hypothesis import strategies as st

from policyguard.policy.critical import Cases, cases
from policyguard.policy.expr import CallerType, Environment, EvaluationError, Unavailable, compile_expression
from policyguard.policy.expr.analysis import atoms, result, tree
from policyguard.policy.world import NO_IMAGES, Images, inputs, plain_world, request, verdict
from policyguard.request import CATEGORIES, ImageRequest

HERE = Environment(
    {
        "user": CallerType(False),
        "tier": CallerType(False, ("free", "pro")),
        "cohort": CallerType(True),
        "plan": CallerType(True, ("a", "b")),
    },
    frozenset({"logo"}),
)


def found(condition: str, **more: Any) -> Cases:
    return cases(atoms(tree(condition, HERE)), HERE, **more)


def values(condition: str, subject: str, **more: Any) -> list[Any]:
    return next(list(axis.values) for axis in found(condition, **more).axes if axis.subject == subject)


def seen(condition: str, **more: Any) -> tuple[dict[str, Any], bool]:
    """A world for each result that was found, and whether that is exact."""
    tried, whole = found(condition, **more), tree(condition, HERE)
    worlds: dict[str, Any] = {}
    for world in tried:
        worlds.setdefault(result(whole, inputs(world)), world)
    return worlds, tried.exact


def can_be(condition: str, **more: Any) -> str:
    worlds, _ = seen(condition, **more)
    return " ".join(name for name in ("true", "false", "error", "unavailable") if name in worlds)


# ---- points -----------------------------------------------------------------------------------------------


def test_a_whole_number_has_one_value_on_each_side_of_each_bound() -> None:
    assert values("request.n > 2 && request.n <= 4", "n") == [1, 3, 5]


def test_a_score_has_its_literal_and_its_neighbours_and_is_unavailable_once() -> None:
    assert values("scores.hate > 0.5 || scores.hate == 0.5", "scores.hate") == [0.0, 0.5, 0.500001, None]


def test_scores_that_are_closer_than_a_millionth_are_told_apart() -> None:
    assert can_be("scores.hate > 0.5 && scores.hate < 0.5000001") == "true false unavailable"


def test_an_enumeration_has_one_value_for_each_result() -> None:
    assert values('request.quality in ["high", "max"]', "quality") == ["low", "high"]


def test_a_declared_caller_value_has_its_values_and_an_optional_one_is_absent_too() -> None:
    assert values('caller.tier == "pro"', "caller.tier") == ["free", "pro"]
    assert values('has(caller.plan) && caller.plan == "b"', "caller.plan") == [None, "a", "b"]


def test_a_text_has_its_literals_and_another_one() -> None:
    assert values('caller.user in ["ada", "bob"] && caller.user != "bob"', "caller.user") == ["somebody", "ada", "bob"]


def test_lengths_of_the_prompt_are_around_the_bound() -> None:
    assert [len(text) for text in values("size(request.prompt) > 100", "prompt")] == [5, 101]


def test_a_size_is_one_subject_with_its_width_height_and_pixels() -> None:
    axes = found("request.width > 1024 && request.height > 1024 && request.pixels < 2000000").axes
    assert [axis.subject for axis in axes] == ["size"]
    assert axes[0].exact


def test_an_edit_always_has_an_image_and_a_generation_never() -> None:
    shown = values('request.operation == "edit" && request.has_mask', "images")
    assert shown == [NO_IMAGES, Images("edit", 1, False), Images("edit", 1, True)]
    for world in found('request.operation == "edit" && request.input_images > 3'):
        assert isinstance(request(world), ImageRequest)


@pytest.mark.parametrize("zone", ["Asia/Tokyo", "+09:00"])
def test_hours_are_looked_at_in_the_zone_of_the_condition(zone: str) -> None:
    worlds, _ = seen(f'now.getHours("{zone}") < 1')
    assert worlds["true"]["now"].astimezone(UTC).hour == 15


# ---- what a condition can be ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("condition", "expected"),
    [
        ('caller.tier == "free" && request.quality == "high"', "true false"),
        ("request.n > 4 && request.n < 2", "false"),
        ("request.n >= 1", "true"),
        ("request.n > 10", "false"),
        ("request.n * 3 == 10", "false"),
        ("request.n + request.partial_images > 13", "false"),
        ("request.n + request.partial_images > 12", "true false"),
        ('request.operation == "edit" && request.input_images == 0', "false"),
        ("scores.hate > 0.5 && scores.hate < 0.5", "false unavailable"),
        ("scores.hate > 0.5 || true", "true"),
        ('has(caller.cohort) && caller.cohort == "beta"', "true false"),
        ("request.pixels > 4194304", "true false error"),
        ("request.width > 2000 && request.height == 1024 && request.pixels < 3000000", "true false error"),
        ('request.prompt.matches("(?i)\\\\b(acme|globex)\\\\b")', "true false"),
        ("request.has_mask == (request.n > 1)", "true false"),
        ("answers.logo > 0.5 && scores.hate < 0.2", "true false unavailable"),
        ("answers.logo > 0.5 && answers.logo < 0.4", "false unavailable"),
        ("request.obfuscated", "true false"),
        ('request.obfuscated && request.prompt.contains("dog")', "true false"),
        ('request.obfuscated && request.prompt == "a cat"', "false"),
        ('now > timestamp("2026-11-24T12:00:00Z")', "true false"),
        ("now.getHours() < 6 && now.getDayOfWeek() == 0", "true false"),
        ('now > timestamp("2026-12-01T00:00:00Z") && now < timestamp("2026-11-01T00:00:00Z")', "false"),
        ("request.n == 3 ? scores.hate >= 1.0 : request.has_mask", "true false unavailable"),
    ],
)
def test_a_condition_is_what_it_can_be_and_that_is_exact(condition: str, expected: str) -> None:
    assert can_be(condition) == expected
    assert found(condition).exact


@pytest.mark.parametrize(
    "condition",
    [
        "scores.hate > scores.sexual",
        "caller.user == caller.tier",
        'request.prompt.contains("fox") && !request.prompt.contains("ox")',
        "request.pixels * request.n > 1000000",
        'caller.user < "m" && caller.user > "b"',
        'request.prompt.matches("[^\\\\x00-\\\\x{10FFFF}]")',
        "now.getMonth() == 1 && now.getDate() == 30",
        "scores.exists(c, scores[c] > 0.4) && scores.hate < 0.2",
    ],
)
def test_what_is_more_than_one_value_beside_literals_is_a_sample(condition: str) -> None:
    assert not found(condition).exact


def test_a_sample_that_saw_every_result_is_exact() -> None:
    loop = "scores.exists(c, scores[c] > 0.4)"
    assert (can_be(loop), found(loop).exact) == ("true false unavailable", True)


def test_given_values_are_the_only_ones() -> None:
    sizes = {"size": ["1024x1024", "1024x1536"]}
    assert can_be("request.pixels > 2000000", given=sizes) == "false"
    assert found("request.pixels * request.n > 1000000", given=sizes).exact


def test_beyond_the_limit_cases_are_a_sample_with_every_value_of_every_axis() -> None:
    wide = found("request.n > 1 && request.partial_images == 0 && scores.hate > 0.5 && scores.sexual > 0.2", limit=10)
    assert (wide.total, wide.exact) == (36, False)
    tried = list(wide)
    for axis in wide.axes:
        assert {repr(world[axis.subject]) for world in tried} == {repr(value) for value in axis.values}


def test_the_same_condition_has_the_same_cases_every_time() -> None:
    condition = 'request.prompt.contains("fox") || scores.exists(c, scores[c] > 0.4) || caller.user in ["b", "a"]'
    assert list(found(condition)) == list(found(condition))


# ---- worlds -----------------------------------------------------------------------------------------------


def test_a_world_becomes_a_verdict_of_what_is_looked_at() -> None:
    world = {**plain_world(HERE), "scores.hate": 0.4, "scores.sexual": None}
    seen = verdict(world, "omni", prompt=True, images=False)
    assert seen is not None
    assert (seen.scores["hate"], "sexual" in seen.scores) == (0.4, False)
    assert verdict(world, "omni", prompt=False, images=False) is None
    unseen = verdict({**world, "scored": "image"}, "omni", prompt=True, images=False)
    assert unseen is not None
    assert unseen.scores == dict.fromkeys(CATEGORIES, 0.0)


# ---- against many random inputs ---------------------------------------------------------------------------

NUMBERS = st.sampled_from([1, 2, 3, 5, 10])
ATOMS = st.one_of(
    st.builds("request.n {} {}".format, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]), NUMBERS),
    st.builds("scores.hate {} {}".format, st.sampled_from(["<", ">="]), st.sampled_from(["0.2", "0.5", "0.500001"])),
    st.builds("request.width {} {}".format, st.sampled_from(["<", ">="]), st.sampled_from([1024, 1500])),
    st.builds("request.pixels {} {}".format, st.sampled_from(["<", ">"]), st.sampled_from([1048576, 2000000])),
    st.builds('caller.tier {} "{}"'.format, st.sampled_from(["==", "!="]), st.sampled_from(["free", "pro"])),
    st.builds('(has(caller.cohort) && caller.cohort {} "x")'.format, st.sampled_from(["==", "!="])),
    st.just("request.has_mask"),
    st.just("request.obfuscated"),
    st.just("request.n + request.input_images > 5"),
)
CONDITIONS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds("({} && {})".format, inner, inner),
        st.builds("({} || {})".format, inner, inner),
        st.builds("!({})".format, inner),
    ),
    max_leaves=6,
)
WORLDS = st.fixed_dictionaries(
    {
        "n": st.integers(1, 10),
        "scores.hate": st.one_of(st.none(), st.floats(0, 1)),
        "size": st.builds(
            "{}x{}".format, st.integers(64, 240).map(lambda i: i * 16), st.sampled_from([768, 1024, 1536])
        ),
        "caller.tier": st.sampled_from(["free", "pro"]),
        "caller.cohort": st.sampled_from([None, "x", "y"]),
        "images": st.sampled_from([NO_IMAGES, Images("edit", 1, False), Images("edit", 7, True)]),
    }
)


def outcome(condition: str, world: Any) -> str:
    try:
        return str(compile_expression(condition, HERE)(inputs(world))).lower()
    except Unavailable:
        return "unavailable"
    except EvaluationError:
        return "error"


@settings(max_examples=100, deadline=None)
@generated(CONDITIONS, st.lists(WORLDS, min_size=20, max_size=20))
def test_where_exact_no_input_gives_what_was_not_found(condition: str, worlds: list[Any]) -> None:
    shown, exact = seen(condition)
    if exact:
        for world in worlds:
            assert outcome(condition, {**plain_world(HERE), **world}) in shown
    for name, world in shown.items():
        assert outcome(condition, world) == name


def test_time_is_an_argument() -> None:
    then = datetime(2030, 5, 1, tzinfo=UTC)
    assert found("request.n > 1", now=then).base["now"] == then

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moderation.upstream import CANARY, image
from moderation.upstream import step as question

from policyguard.flow.steps import Moderate
from policyguard.moderation.answers import Scorable, questions, read
from policyguard.moderation.merge import PartialVerdict
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, ImageRequest

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*CATEGORIES, "x"]), inner, max_size=4),
    max_leaves=12,
)
results = st.fixed_dictionaries(
    {},
    optional={
        "category_scores": st.dictionaries(st.sampled_from(CATEGORIES), json_values) | json_values,
        "category_applied_input_types": st.dictionaries(
            st.sampled_from(CATEGORIES), st.lists(st.sampled_from(["text", "image"])) | json_values
        ),
    },
)
bodies = (
    st.binary(max_size=40)
    | json_values.map(orjson.dumps)
    | st.fixed_dictionaries({"model": json_values, "results": st.lists(results, max_size=2) | json_values}).map(
        orjson.dumps
    )
)
asked = st.sampled_from([Scorable(text="a cat"), Scorable(text="a c4t", revealed="a cat"), Scorable(image=image())])


@given(asked, bodies)
def test_no_answer_whatever_it_is_fails_or_gives_a_score_beyond_0_to_1(asked: Scorable, body: bytes) -> None:
    part = read(asked, body, calls=1, request_id=None)
    assert all(0 <= score <= 1 for score in part.scores.values())
    assert (part.error is None) == (asked.expected <= part.scores.keys())


@given(asked, st.dictionaries(st.sampled_from(CATEGORIES), st.lists(st.sampled_from(["text", "image"]))))
def test_a_score_counts_only_where_the_answer_says_that_it_looked(asked: Scorable, applied: dict[str, Any]) -> None:
    result = {"category_scores": dict.fromkeys(CATEGORIES, 0.5), "category_applied_input_types": applied}
    part = read(asked, orjson.dumps({"results": [result] * asked.results}), calls=1, request_id=None)
    assert set(part.scores) == {category for category, kinds in applied.items() if asked.kind in kinds}


def test_the_prompt_and_each_image_and_the_mask_are_questions() -> None:
    request = ImageRequest(prompt="a cat", operation="edit", images=(image(b"1"), image(b"2")), mask=image(b"3"))
    asked = questions(Moderate("m", request, True, True, 1.0))
    assert [q.kind for q in asked] == ["text", "image", "image", "image"]
    assert [q.expected for q in asked] == [frozenset(CATEGORIES)] + [frozenset(IMAGE_CATEGORIES)] * 3


def test_only_what_the_policy_checks_is_asked() -> None:
    request = question(image()).request
    assert [q.kind for q in questions(Moderate("m", request, True, False, 1.0))] == ["text"]
    assert [q.kind for q in questions(Moderate("m", request, False, True, 1.0))] == ["image"]


def test_a_question_does_not_show_what_it_holds() -> None:
    assert [CANARY in repr(q) or "picture" in repr(q) for q in questions(question(image()))] == [False, False]


# ---- a prompt that hides its letters ----------------------------------------------------------------------

HIDDEN = ImageRequest(prompt="a d\u200bu\u200be\u200bl")
TWO = Scorable(text=HIDDEN.prompt, revealed="a duel")


def result(score: float | None, **others: float) -> dict[str, Any]:
    scores = {**dict.fromkeys(CATEGORIES, 0.0), "violence": score, **others}
    return {"category_scores": scores, "category_applied_input_types": {c: ["text"] for c in CATEGORIES}}


def answered(*results: Any) -> PartialVerdict:
    return read(TWO, orjson.dumps({"model": "m", "results": list(results)}), calls=1, request_id=None)


def test_a_prompt_that_hides_its_letters_is_asked_about_twice_in_one_call() -> None:
    (asked,) = questions(Moderate("m", HIDDEN, True, True, 1.0))
    assert (asked, asked.wire()) == (TWO, [HIDDEN.prompt, "a duel"])
    assert "duel" not in repr(asked)


def test_a_plain_prompt_is_asked_about_as_ever() -> None:
    (asked,) = questions(Moderate("m", ImageRequest(prompt="a duel"), True, True, 1.0))
    assert asked.wire() == "a duel"


def test_the_prompt_is_not_read_where_it_is_not_moderated() -> None:
    request = ImageRequest(prompt="a c\u200bat", operation="edit", images=(image(),))
    assert [q.kind for q in questions(Moderate("m", request, False, True, 1.0))] == ["image"]
    assert request._reading is None


def test_the_higher_score_of_the_two_holds_in_each_category() -> None:
    part = answered(result(0.1, hate=0.7), result(0.9, hate=0.2))
    assert (part.scores["violence"], part.scores["hate"], part.error) == (0.9, 0.7, None)


def test_a_category_that_one_of_the_two_does_not_score_is_not_assessed() -> None:
    part = answered(result(0.9), result(None))
    assert ("violence" in part.scores, part.error) == (False, "partial")


@pytest.mark.parametrize("results", [[], [result(0.1)], [result(0.1)] * 3, [result(0.1), None]])
def test_another_number_of_results_than_texts_is_no_answer(results: list[Any]) -> None:
    part = answered(*results)
    assert (part.scores, part.error) == ({}, "malformed")

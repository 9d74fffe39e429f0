from __future__ import annotations

from policyguard.moderation.merge import PartialVerdict, merge
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES

TEXT = PartialVerdict(
    expected=frozenset(CATEGORIES), scores=dict.fromkeys(CATEGORIES, 0.2), model="dated", request_id="req_1"
)


def test_the_highest_score_counts_whatever_the_order() -> None:
    image = PartialVerdict(
        expected=frozenset(IMAGE_CATEGORIES), scores=dict.fromkeys(IMAGE_CATEGORIES, 0.6), request_id="req_2"
    )
    assert merge("m", [TEXT, image], 5).scores == merge("m", [image, TEXT], 5).scores
    assert merge("m", [TEXT, image], 5).score("violence") == 0.6


def test_a_part_without_a_score_that_it_should_have_makes_the_category_incomplete() -> None:
    image = PartialVerdict(expected=frozenset(IMAGE_CATEGORIES), scores={}, error="timeout", calls=2)
    verdict = merge("m", [TEXT, image], 5)
    assert (verdict.incomplete, verdict.scores["violence"], verdict.score("violence")) == (
        frozenset(IMAGE_CATEGORIES),
        0.2,
        None,
    )
    assert (verdict.error, verdict.calls, verdict.request_ids) == ("timeout", 3, ("req_1",))


def test_the_model_is_the_one_that_answered_else_the_one_that_was_asked() -> None:
    assert merge("m", [TEXT], 5).model == "dated"
    assert merge("m", [], 5).model == "m"

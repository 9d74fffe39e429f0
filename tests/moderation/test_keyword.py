from __future__ import annotations

import pytest
from moderation.upstream import image
from moderation.upstream import step as question

from policyguard.flow.steps import Moderate
from policyguard.moderation.keyword import WORDS, KeywordModerator
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, ImageRequest, Verdict


def moderate(prompt: str) -> Verdict:
    return KeywordModerator().moderate(Moderate("keyword", ImageRequest(prompt=prompt), True, False, 1.0))


def flagged(prompt: str) -> set[str]:
    return {category for category, score in moderate(prompt).scores.items() if score}


def test_it_has_words_for_each_of_the_thirteen_categories() -> None:
    assert set(WORDS) == set(CATEGORIES)


@pytest.mark.parametrize(("category", "word"), [(c, w) for c, words in WORDS.items() for w in words])
def test_each_word_scores_1_in_its_category(category: str, word: str) -> None:
    assert category in flagged(f"a picture of {word}, in oil")


@pytest.mark.parametrize("prompt", ["a MURDER scene", "Murder", "«murder»!", "a murder-mystery poster"])
def test_case_and_punctuation_do_not_matter(prompt: str) -> None:
    assert flagged(prompt) == {"violence"}


def test_any_white_space_stands_between_the_words_of_an_entry() -> None:
    assert flagged("a fake \n passport") == {"illicit"}


@pytest.mark.parametrize(
    "prompt", ["a product mockup", "horses in a stable", "the gorge at dawn", "a category chart", "denuded trees"]
)
def test_a_part_of_a_word_is_no_word(prompt: str) -> None:
    assert flagged(prompt) == set()


def test_images_are_not_assessed() -> None:
    verdict = KeywordModerator().moderate(question(image(), model="keyword"))
    assert (verdict.incomplete, verdict.error) == (frozenset(IMAGE_CATEGORIES), "images_not_assessed")
    assert {c for c in CATEGORIES if verdict.score(c) is None} == frozenset(IMAGE_CATEGORIES)


def test_it_serves_no_model_of_anybody_else() -> None:
    assert KeywordModerator.models == {"keyword"}

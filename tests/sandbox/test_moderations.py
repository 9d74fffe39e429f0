from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from policyguard.request import CATEGORIES, IMAGE_CATEGORIES
from policyguard.sandbox.scores import WORDS, text_scores

IMAGE: Any = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}


def test_every_result_has_all_thirteen_categories(client: OpenAI) -> None:
    result = client.moderations.create(input="a calm harbour").results[0].to_dict()
    for name in ("categories", "category_scores", "category_applied_input_types"):
        assert set(CATEGORIES) == set(result[name])  # type: ignore[call-overload]
    assert result["flagged"] is False


def test_a_list_of_texts_has_one_result_each(client: OpenAI) -> None:
    results = client.moderations.create(input=["a calm harbour", "a swordfight on stage"]).results
    assert [result.flagged for result in results] == [False, True]


def test_a_list_of_parts_has_one_result(client: OpenAI) -> None:
    results = client.moderations.create(input=[{"type": "text", "text": "a duel"}, IMAGE]).results
    assert len(results) == 1
    assert results[0].category_applied_input_types.violence == ["image", "text"]
    assert results[0].category_applied_input_types.hate == ["text"]


def test_categories_that_look_at_text_only_are_0_for_a_picture_alone(client: OpenAI) -> None:
    scores: Any = client.moderations.create(input=[IMAGE]).results[0].to_dict()["category_scores"]
    assert set(CATEGORIES) - frozenset(IMAGE_CATEGORIES) == {name for name, score in scores.items() if score == 0}


def test_two_pictures_are_too_many(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        client.moderations.create(input=[IMAGE, IMAGE])
    assert caught.value.code == "too_many_images"


@pytest.mark.parametrize("given", [None, [], 1, ["a", {"type": "text"}]])
def test_other_input_is_a_400(http: httpx2.Client, given: Any) -> None:
    assert http.post("/v1/moderations", json={"input": given}).status_code == 400


def test_a_script_sets_scores(client: OpenAI) -> None:
    scores = client.moderations.create(input="x [sandbox: violence=0.91, sexual=0.4]").results[0].category_scores
    assert (scores.violence, scores.sexual) == (0.91, 0.4)


@pytest.mark.parametrize("word", WORDS)
def test_each_word_of_the_table_scores_as_it_says(word: str) -> None:
    scores = text_scores(f"A {word.upper()} on a poster")
    assert WORDS[word].items() <= scores.items()


def test_other_categories_carry_a_little_noise_that_never_changes() -> None:
    scores = text_scores("a calm harbour")
    assert scores == text_scores("a calm harbour")
    assert all(0.0001 <= score <= 0.02 for score in scores.values())


def test_decisions_answer_each_question_in_its_shape_and_order(client: OpenAI) -> None:
    questions: Any = [
        {"type": "predicate", "name": "minor", "instructions": "is it a minor?"},
        {"type": "choice", "instructions": "which?", "choices": [{"value": "a"}, {"value": True}]},
        {"type": "score", "instructions": "how good?", "levels": [{"label": "bad"}, {"label": "good"}]},
    ]
    decision = client.decisions.create(model="gpt-6-luna", input="a photo", questions=questions)
    answer: Any = decision.to_dict()
    assert [row["type"] for row in answer["answers"]] == ["predicate", "choice", "score"]
    predicate, choice, score = answer["answers"]
    assert predicate["name"] == "minor"
    assert 0 <= predicate["probability"] <= 1
    assert choice["choice"] in ["a", True]
    assert [row["value"] for row in choice["probabilities"]] == ["a", True]
    assert [row["label"] for row in score["probabilities"]] == ["bad", "good"]


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/moderations", {"model": "omni-moderation-9", "input": "a photo"}),
        ("/v1/decisions", {"model": "gpt-image-2", "input": "a photo", "questions": [{"type": "predicate"}]}),
    ],
)
def test_an_unknown_model_is_a_404(http: httpx2.Client, path: str, body: dict[str, Any]) -> None:
    answer = http.post(path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")


@pytest.mark.parametrize("question", [1, {"type": "essay"}, {"type": "choice", "choices": [{"value": "a"}]}])
def test_a_question_of_no_known_shape_is_a_400(http: httpx2.Client, question: Any) -> None:
    body = {"model": "gpt-6-luna", "input": "a photo", "questions": [question]}
    assert http.post("/v1/decisions", json=body).status_code == 400


def test_a_script_answers_a_predicate_by_its_name_or_refuses_it(client: OpenAI) -> None:
    questions: Any = [
        {"type": "predicate", "name": name, "instructions": "Is it?"} for name in ("logo", "real_person", "minor")
    ]
    text = "x [sandbox: real_person=0.93, minor=refusal]"
    answers = client.decisions.create(model="gpt-6-luna", input=text, questions=questions).answers
    assert [answer.type for answer in answers] == ["predicate", "predicate", "refusal"]
    assert (answers[0].probability <= 0.1, answers[1].probability) == (True, 0.93)  # type: ignore[union-attr]

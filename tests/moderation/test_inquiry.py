from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from moderation.test_answers import json_values
from moderation.upstream import CANARY, image

from policyguard.decision import Effect, Place
from policyguard.flow.steps import Inquire
from policyguard.moderation.answers import MAX_IMAGE_BYTES
from policyguard.moderation.inquiry import Inquiry
from policyguard.policy.model import Question
from policyguard.request import Answers, ImageRequest, InputImage

NAMES = ("logo", "real_person")


def step(text: str = f"a cat {CANARY}", *images: InputImage, timeout_s: float = 5.0) -> Inquire:
    asked = tuple(
        Question(name=name, ask=f"Is there a {name}?", when_unavailable=Effect.DENY, place=Place("a.yaml", 1))
        for name in NAMES
    )
    operation = "edit" if images else "generate"
    return Inquire(ImageRequest(prompt=text, operation=operation, images=images), asked, timeout_s)


def predicate(name: str, probability: Any) -> dict[str, Any]:
    return {"type": "predicate", "name": name, "probability": probability}


def read(*rows: Any, **more: Any) -> Answers:
    body = orjson.dumps({"model": "gpt-6-luna", "answers": list(rows), "usage": {"input_tokens": 12}, **more})
    return Inquiry(step()).read(body, calls=1, request_id="req_1")


def test_all_open_questions_are_one_call_about_prompt_and_images() -> None:
    assert Inquiry(step("a cat", image(b"1"))).arguments() == {
        "input": [
            {
                "role": "user",
                "content": [
                    {"type": "input_text", "text": "a cat"},
                    {"type": "input_image", "image_url": "data:image/png;base64,MQ=="},
                ],
            }
        ],
        "questions": [
            {"type": "predicate", "name": "logo", "instructions": "Is there a logo?"},
            {"type": "predicate", "name": "real_person", "instructions": "Is there a real_person?"},
        ],
    }


def test_a_prompt_that_hides_its_letters_is_shown_as_it_is_read_too() -> None:
    hidden = "a d\u200bu\u200be\u200bl"
    content = Inquiry(step(hidden)).arguments()["input"][0]["content"]
    assert [part["text"] for part in content] == [hidden, "The same text as a person reads it: a duel"]


def test_a_whole_answer_has_a_probability_for_each_question() -> None:
    found = read(predicate("logo", 0.25), predicate("real_person", 1))
    assert found == Answers(
        model="gpt-6-luna",
        probabilities={"logo": 0.25, "real_person": 1.0},
        calls=1,
        input_tokens=12,
        request_id="req_1",
    )


def test_a_refusal_is_no_answer_and_leaves_the_others() -> None:
    found = read(predicate("logo", 0.25), {"type": "refusal", "name": "real_person"})
    assert (found.probabilities, found.refused, found.error) == ({"logo": 0.25}, {"real_person"}, "refused")


@pytest.mark.parametrize(
    "rows",
    [
        [],
        [predicate("logo", 0.1)],
        [predicate("logo", 0.1)] * 2,
        [predicate("real_person", 0.1), predicate("logo", 0.1)],
        [predicate("logo", 0.1), predicate("real_person", 1.5)],
        [predicate("logo", 0.1), predicate("real_person", True)],
        [predicate("logo", 0.1), predicate("real_person", None)],
        [predicate("logo", 0.1), {"type": "choice", "name": "real_person", "choice": "yes", "probability": 0.1}],
        [predicate("logo", 0.1), "yes"],
        [predicate("logo", 0.1), predicate("real_person", 0.1), predicate("x", 0.1)],
    ],
)
def test_answers_of_another_kind_say_nothing_at_all(rows: list[Any]) -> None:
    found = read(*rows)
    assert (found.probabilities, found.error) == ({}, "malformed")


@pytest.mark.parametrize("usage", [None, {}, {"input_tokens": -1}, {"input_tokens": "many"}, {"input_tokens": True}])
def test_tokens_that_are_not_said_are_not_known(usage: Any) -> None:
    found = read(predicate("logo", 0.1), predicate("real_person", 0.1), usage=usage)
    assert (found.input_tokens, found.error) == (None, None)


@given(
    st.binary(max_size=40)
    | st.fixed_dictionaries({"answers": st.lists(json_values, max_size=3), "model": json_values}).map(orjson.dumps)
)
def test_no_answer_whatever_it_is_fails(body: bytes) -> None:
    found = Inquiry(step()).read(body, calls=1)
    assert found.probabilities.keys() <= set(NAMES)


def test_a_picture_beyond_the_endpoints_limit_is_not_sent() -> None:
    assert Inquiry(step("a cat", image(bytes(MAX_IMAGE_BYTES + 1)))).problem == "image_too_large"


def test_an_inquiry_does_not_show_what_it_asks_about() -> None:
    assert CANARY not in repr(Inquiry(step()))


def test_a_probability_that_is_none_is_refused_by_the_value_itself() -> None:
    with pytest.raises(ValueError, match="0 to 1"):
        Answers(model="m", probabilities={"logo": float("nan")})

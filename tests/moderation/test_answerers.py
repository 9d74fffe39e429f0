"""What every moderator that answers questions owes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import orjson
import pytest
from moderation.test_inquiry import NAMES, predicate, step
from moderation.upstream import CANARY, Side, error, image, moderator, ok

from policyguard.moderation import Answerer, KeywordModerator, ScriptedModerator
from policyguard.request import Answers
from policyguard.steps import Inquire

pytestmark = pytest.mark.anyio


def whole(request: httpx2.Request) -> httpx2.Response:
    asked = orjson.loads(request.content)
    assert (request.url.path, asked["model"]) == ("/v1/decisions", "gpt-6-luna")
    rows = [predicate(question["name"], 0.25) for question in asked["questions"]]
    return ok({"model": "gpt-6-luna", "answers": rows, "usage": {"input_tokens": 12}})


WORKING: dict[str, Callable[[], Any]] = {
    "openai": lambda: moderator(whole),
    "scripted": lambda: ScriptedModerator(answers=dict.fromkeys(NAMES, 0.25)),
}
BROKEN: dict[str, Callable[[], Any]] = {
    "status": lambda: moderator(lambda request: error(500)),
    "nonsense": lambda: moderator(lambda request: ok({"answers": "none"})),
    "no JSON": lambda: moderator(lambda request: ok(b"<html>")),
    "refused": lambda: moderator(lambda request: error(400)),
    "scripted": lambda: ScriptedModerator(error="down"),
}


async def ask(side: Side, made: Any, asked: Inquire) -> Answers:
    found: Answers = made.answer(asked) if side == "sync" else await made.aanswer(asked)
    return found


@pytest.mark.parametrize("name", WORKING)
async def test_every_question_has_its_probability(name: str, side: Side) -> None:
    made = WORKING[name]()
    assert isinstance(made, Answerer)
    found = await ask(side, made, step("a cat", image()))
    assert (found.probabilities, found.error) == (dict.fromkeys(NAMES, 0.25), None)
    made.close()


@pytest.mark.parametrize("name", BROKEN)
async def test_what_is_wrong_upstream_is_a_word_and_never_a_probability(name: str, side: Side) -> None:
    found = await ask(side, BROKEN[name](), step())
    assert (dict(found.probabilities), bool(found.error)) == ({}, True)
    assert CANARY not in repr(found)


async def test_what_failed_is_asked_once_more(side: Side) -> None:
    replies = [error(500)]
    found = await ask(side, moderator(lambda request: replies.pop() if replies else whole(request)), step())
    assert (found.calls, found.error) == (2, None)


async def test_nothing_takes_longer_than_the_policy_lets_it() -> None:
    async def slow(request: httpx2.Request) -> httpx2.Response:
        await anyio.sleep(30)
        return whole(request)

    with anyio.fail_after(5):
        found = await moderator(slow).aanswer(step(timeout_s=0.05))
    assert (found.error, dict(found.probabilities)) == ("timeout", {})


def test_a_refused_question_has_no_answer() -> None:
    found = ScriptedModerator(answers={"logo": None, "real_person": 0.5}).answer(step())
    assert (found.probabilities, found.refused) == ({"real_person": 0.5}, {"logo"})


def test_a_word_list_answers_no_questions() -> None:
    assert not isinstance(KeywordModerator(), Answerer)

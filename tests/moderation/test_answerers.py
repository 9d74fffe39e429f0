"""What every moderator that answers questions owes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import orjson
import pytest
from moderation.test_inquiry import NAMES, predicate, step
from moderation.upstream import CANARY, Side, error, image, ok, over_sdk, over_upstream
from patience import HANGS_S

from policyguard.flow.steps import Inquire
from policyguard.moderation import Answerer, KeywordModerator, ScriptedModerator
from policyguard.request import Answers

pytestmark = pytest.mark.anyio


def whole(request: httpx2.Request) -> httpx2.Response:
    asked = orjson.loads(request.content)
    assert (request.url.path, asked["model"]) == ("/v1/decisions", "gpt-6-luna")
    rows = [predicate(question["name"], 0.25) for question in asked["questions"]]
    return ok({"model": "gpt-6-luna", "answers": rows, "usage": {"input_tokens": 12}})


WORKING: dict[str, Callable[[], Any]] = {
    "openai": lambda: over_sdk(whole),
    "upstream": lambda: over_upstream(whole),
    "scripted": lambda: ScriptedModerator(answers=dict.fromkeys(NAMES, 0.25)),
}
LINES: dict[str, Callable[..., Any]] = {"openai": over_sdk, "upstream": over_upstream}
WRONG: dict[str, Callable[[httpx2.Request], httpx2.Response]] = {
    "status": lambda request: error(500),
    "refused": lambda request: error(400),
    "nonsense": lambda request: ok({"answers": "none"}),
    "no JSON": lambda request: ok(b"<html>"),
    "too much": lambda request: ok(b" " * 1_000_001),
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


@pytest.mark.parametrize("line", LINES)
@pytest.mark.parametrize("wrong", WRONG)
async def test_what_is_wrong_upstream_is_a_word_and_never_a_probability(line: str, wrong: str, side: Side) -> None:
    found = await ask(side, LINES[line](WRONG[wrong]), step())
    assert (dict(found.probabilities), bool(found.error)) == ({}, True)
    assert CANARY not in repr(found)


@pytest.mark.parametrize("line", LINES)
async def test_what_failed_is_asked_once_more(line: str, side: Side) -> None:
    replies = [error(500)]
    made = LINES[line](lambda request: replies.pop() if replies else whole(request))
    found = await ask(side, made, step())
    assert (found.calls, found.error) == (2, None)


@pytest.mark.parametrize("line", LINES)
async def test_nothing_takes_longer_than_the_policy_lets_it(line: str) -> None:
    async def slow(request: httpx2.Request) -> httpx2.Response:
        await anyio.sleep_forever()
        return whole(request)

    with anyio.fail_after(HANGS_S):
        found = await LINES[line](slow).aanswer(step(timeout_s=0.05))
    assert (found.error, dict(found.probabilities)) == ("timeout", {})


def test_a_script_that_is_down_answers_nothing() -> None:
    assert ScriptedModerator(error="down").answer(step()).error == "down"


def test_a_refused_question_has_no_answer() -> None:
    found = ScriptedModerator(answers={"logo": None, "real_person": 0.5}).answer(step())
    assert (found.probabilities, found.refused) == ({"real_person": 0.5}, {"logo"})


def test_a_word_list_answers_no_questions() -> None:
    assert not isinstance(KeywordModerator(), Answerer)

"""What every moderator owes, whatever it is made of."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest
from moderation.upstream import CANARY, Side, answer, ask, error, image, ok, over_sdk, over_upstream, step

from policyguard.moderation import KeywordModerator, Moderator, ScriptedModerator
from policyguard.request import CATEGORIES

pytestmark = pytest.mark.anyio

WORKING: dict[str, Callable[[], Moderator]] = {
    "openai": lambda: over_sdk(lambda request: ok(answer(request))),
    "upstream": lambda: over_upstream(lambda request: ok(answer(request))),
    "keyword": KeywordModerator,
    "scripted": ScriptedModerator,
}
BROKEN: dict[str, Callable[[], Moderator]] = {
    "openai": lambda: over_sdk(lambda request: error(500)),
    "upstream": lambda: over_upstream(lambda request: error(500)),
    "scripted": lambda: ScriptedModerator(error="down"),
}


@pytest.fixture(params=WORKING)
def working(request: pytest.FixtureRequest) -> Iterator[Moderator]:
    made = WORKING[request.param]()
    yield made
    made.close()


@pytest.fixture(params=BROKEN)
def broken(request: pytest.FixtureRequest) -> Iterator[Moderator]:
    made = BROKEN[request.param]()
    yield made
    made.close()


def named(moderator: Moderator) -> str:
    return min(moderator.models)


async def test_a_prompt_is_scored_from_0_to_1_in_all_thirteen_categories(working: Moderator, side: Side) -> None:
    verdict = await ask(side, working, step(model=named(working)))
    assert {c: verdict.score(c) is not None for c in CATEGORIES} == dict.fromkeys(CATEGORIES, True)
    assert all(0 <= score <= 1 for score in verdict.scores.values())
    assert verdict.error is None


@pytest.mark.parametrize("text", ["a m\u200bu\u200br\u200bd\u200be\u200br", "a murder"])
async def test_a_prompt_is_scored_as_it_is_read_too(text: str, side: Side) -> None:
    def upstream(request: Any) -> Any:
        asked = json.loads(request.content)["input"]
        found = answer(request)
        texts = asked if isinstance(asked, list) else [asked]
        found["results"] = [scored(found["results"][0], float("murder" in text)) for text in texts]
        return ok(found)

    for made in (over_sdk(upstream), over_upstream(upstream), KeywordModerator()):
        verdict = await ask(side, made, step(model=named(made), text=text))
        assert verdict.score("violence") == 1.0
        made.close()


def scored(result: dict[str, Any], score: float) -> dict[str, Any]:
    return {**result, "category_scores": {**result["category_scores"], "violence": score}}


async def test_the_verdict_names_a_model_that_the_moderator_serves(working: Moderator, side: Side) -> None:
    verdict = await ask(side, working, step(model=named(working)))
    assert verdict.model in working.models


async def test_nothing_asked_is_nothing_assessed_not_zero(side: Side) -> None:
    for made in (WORKING["openai"](), WORKING["upstream"](), KeywordModerator()):
        verdict = await ask(side, made, step(prompt=False))
        assert (verdict.scores, verdict.calls) == ({}, 0)


async def test_what_is_wrong_upstream_is_a_word_and_never_a_score(broken: Moderator, side: Side) -> None:
    verdict = await ask(side, broken, step())
    assert verdict.error is not None
    assert verdict.error.isascii()
    assert " " not in verdict.error
    assert [verdict.score(c) for c in CATEGORIES] == [None] * 13


async def test_no_verdict_repeats_the_prompt(working: Moderator, broken: Moderator, side: Side) -> None:
    for made in (working, broken):
        verdict: Any = await ask(side, made, step(image(), model=named(made)))
        assert CANARY not in repr(verdict)
        assert CANARY not in repr(made)


async def test_many_threads_may_ask_at_once(working: Moderator) -> None:
    question = step(image(), model=named(working))
    with ThreadPoolExecutor(8) as pool:
        verdicts = list(pool.map(working.moderate, [question] * 32))
    assert [replace(verdict, latency_ms=0) for verdict in verdicts] == [replace(verdicts[0], latency_ms=0)] * 32


async def test_closing_twice_is_closing_once(working: Moderator) -> None:
    working.close()
    working.close()
    await working.aclose()
    await working.aclose()

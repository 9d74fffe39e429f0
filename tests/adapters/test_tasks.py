"""Tasks of a queue: the caller travels with them, a refusal is returned, and what is raised can be pickled."""

from __future__ import annotations

import inspect
import json
import pickle
from collections.abc import Callable
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support import ORG, SURFACE

import policyguard
from policyguard import ConfigError, Guard, PolicyDenied, PolicyRefused, PolicyUnavailable
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.tasks import carried, task
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import CATEGORIES, Verdict

CONSTANTS = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1}
CANARY = "a canary in a prompt"
HELD = SURFACE + "review: {required: true, reviewers: [group:trust]}\n"


def made(guard: Guard, runs: list[str]) -> Any:
    @task
    @guard.enforce("avatars", constants=CONSTANTS)
    def draw(prompt: str) -> dict[str, Any]:
        runs.append(prompt)
        return {"usage": {"input_tokens": 10, "output_tokens": 196}}

    return draw


def sent(given: dict[str, Any]) -> dict[str, Any]:
    """As it comes out of a broker."""
    back: dict[str, Any] = json.loads(json.dumps(given))
    return back


def test_who_asks_travels_with_the_task(open_guard: Callable[..., Guard]) -> None:
    guard, runs = open_guard(), []
    with policyguard.caller(user="u1", tenant="acme"):
        given = sent(carried())
    assert given == {"policyguard": {"caller": {"user": "u1", "tenant": "acme"}, "review_id": None}}
    assert made(guard, runs)("a cat", **given) == {"usage": {"input_tokens": 10, "output_tokens": 196}}
    (decided, settled) = guard.store.events(limit=9)
    assert decided.event.dimensions["tenant"] == "acme"
    assert settled.event.type == "leg.settled"


def test_a_task_without_anybody_is_refused(open_guard: Callable[..., Guard]) -> None:
    runs: list[str] = []
    said = made(open_guard(), runs)("a cat")
    assert (said["refused"], said["reasons"], runs) == ("policy_caller_missing", ["caller.user"], [])


def test_a_refusal_is_returned_as_plain_values(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, runs = open_guard(), []
    unsafe = Verdict(model="m", scores={**dict.fromkeys(CATEGORIES, 0.0), "violence": 0.9})
    monkeypatch.setattr(moderator, "moderate", lambda step: unsafe)
    with policyguard.caller(user="u1"):
        said = made(guard, runs)(CANARY, **carried())
    assert sent(said) == said
    assert (said["refused"], said["status"], said["surface"], said["reasons"], said["review_id"], runs) == (
        "moderation_blocked",
        400,
        "avatars",
        ["moderation.violence"],
        None,
        [],
    )
    assert CANARY not in json.dumps(said)


def test_what_was_not_decidable_is_raised_so_that_the_queue_tries_again(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, runs = open_guard(), []
    monkeypatch.setattr(moderator, "moderate", lambda step: Verdict(model="m", error="down"))
    with policyguard.caller(user="u1"), pytest.raises(PolicyUnavailable):
        made(guard, runs)("a cat", **carried())
    assert runs == []


def test_what_the_function_raises_is_raised(open_guard: Callable[..., Guard]) -> None:
    @task
    @open_guard().enforce("avatars", constants=CONSTANTS)
    def draw(prompt: str) -> None:
        raise OSError("the disk is full")

    with policyguard.caller(user="u1"), pytest.raises(OSError, match="the disk is full"):
        draw("a cat", **carried())


def test_a_held_task_is_resumed_by_a_later_one_once(open_guard: Callable[..., Guard]) -> None:
    guard, runs = open_guard(avatars=HELD), []
    draw = made(guard, runs)
    with policyguard.caller(user="u1"):
        held = draw("a cat", **carried())
        assert (held["refused"], held["status"], runs) == ("policy_review_required", 403, [])
        early = draw("a cat", **carried(held["review_id"]))
        guard.store.vote(held["review_id"], "ada@example.com", "approve", "", guard.clock())
        done = draw("a cat", **sent(carried(held["review_id"])))
        again = draw("a cat", **carried(held["review_id"]))
    assert ("refused" in early, "usage" in done, "refused" in again, runs) == (True, True, True, ["a cat"])


def test_the_caller_of_the_request_around_travels_too(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    async def enqueue(request: Request) -> JSONResponse:
        return JSONResponse(carried())

    app = Starlette(routes=[Route("/v1/images/generations", enqueue, methods=["POST"])])
    client = TestClient(PolicyGuardMiddleware(app, guard=guard), client=("127.0.0.1", 5))
    headers = {"x-user-id": "u7", "x-plan": "pro"}
    said = client.post("/v1/images/generations", json={"prompt": "a cat"}, headers=headers).json()
    assert said["policyguard"]["caller"] == {"user": "u7", "tier": "pro"}


def test_a_task_takes_what_travels_beside_its_own_arguments() -> None:
    @task
    def draw(prompt: str, *, size: str = "1024x1024", **more: Any) -> None: ...

    kinds = [(name, parameter.kind.name) for name, parameter in inspect.signature(draw).parameters.items()]
    assert kinds == [
        ("prompt", "POSITIONAL_OR_KEYWORD"),
        ("size", "KEYWORD_ONLY"),
        ("policyguard", "KEYWORD_ONLY"),
        ("more", "VAR_KEYWORD"),
    ]


def test_what_cannot_be_a_task_says_so() -> None:
    async def later(prompt: str) -> None: ...

    def taken(prompt: str, policyguard: str) -> None: ...

    for function, says in ((later, "plain function"), (taken, "travels with a task")):
        with pytest.raises(ConfigError, match=says):
            task(function)


# ---- errors -----------------------------------------------------------------------------------------------


NO_LOW = SURFACE.replace("{allow: [low, medium, high], default: low}", "{allow: [high], default: high}")


@pytest.mark.parametrize("surface", [NO_LOW, HELD], ids=["denied", "held"])
def test_a_refusal_can_be_pickled_and_leaves_prompt_and_pictures_behind(
    open_guard: Callable[..., Guard], surface: str
) -> None:
    @open_guard(avatars=surface, org=ORG).enforce("avatars", constants=CONSTANTS)
    def draw(prompt: str) -> None: ...

    with policyguard.caller(user="u1"), pytest.raises(PolicyRefused) as caught:
        draw(CANARY)
    packed = pickle.dumps(caught.value)
    back = pickle.loads(packed)
    assert CANARY.encode() not in packed
    assert type(back) is type(caught.value)
    assert isinstance(back, PolicyDenied) is (back.review_id is None)
    for name in ("code", "status", "review_id"):
        assert getattr(back, name) == getattr(caught.value, name)
    assert [reason.id for reason in back.decision.reasons] == [r.id for r in caught.value.decision.reasons]
    assert (back.decision.id, str(back)) == (caught.value.decision.id, str(caught.value))

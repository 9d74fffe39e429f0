"""One leg for one picture: a guarded call inside an admitted request runs on the ticket of that request, once."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import httpx2
import pytest
from adapters.upstream import ANSWER, URL, png, rows
from openai import APIStatusError, AsyncOpenAI, OpenAI
from support import MODEL, SURFACE, write_policies

import policyguard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.transport import guarded
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator

pytestmark = pytest.mark.anyio
FULL: dict[str, Any] = {"model": MODEL, "size": "1024x1024", "quality": "low"}
OTHER = SURFACE.replace("surface: avatars", "surface: badges").replace("POST /v1/", "POST /badges/v1/")


class Upstream:
    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses) or [200]
        self.bodies: list[Any] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        self.bodies.append(request.read())
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        document = ANSWER if status == 200 else {"error": {"message": "no", "code": "slow_down"}}
        return httpx2.Response(status, json=document, headers={"retry-after-ms": "1"})

    def client(self, guard: Guard, surface: str = "avatars", **options: Any) -> OpenAI:
        below = httpx2.Client(transport=httpx2.MockTransport(self))
        plain = OpenAI(**{"api_key": "k", "base_url": URL, "http_client": below, "max_retries": 0, **options})
        return guarded(plain, guard, surface=surface)

    def async_client(self, guard: Guard) -> AsyncOpenAI:
        below = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return guarded(
            AsyncOpenAI(api_key="k", base_url=URL, http_client=below, max_retries=0), guard, surface="avatars"
        )


def ends(guard: Guard) -> list[tuple[str, str, Any]]:
    """How each leg ended, through which door it was admitted, and what OpenAI answered."""
    return [(event.type, event.body["door"], event.body["status"]) for event in rows(guard, "leg.")]


def decided(guard: Guard) -> list[tuple[str, str]]:
    return [(event.body["door"], event.outcome) for event in rows(guard, "request.decided")]


async def through(
    guard: Guard, endpoint: Callable[[bytes], Any], body: Any = None, after: Any = None, status: int = 200
) -> int:
    """POST `body` through the middleware to an app whose endpoint is called with what it got."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer = await endpoint((await receive())["body"])
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": answer})
        if after is not None:
            await after()

    sent = json.dumps(body or {"prompt": "a cat"}).encode()
    statuses: list[int] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": sent, "more_body": False}

    async def send(message: Any) -> None:
        statuses.append(message.get("status", 0))

    headers = [(b"content-type", b"application/json"), (b"x-user-id", b"u1")]
    scope = {"type": "http", "method": "POST", "path": "/v1/images/generations", "query_string": b""}
    await PolicyGuardMiddleware(app, guard=guard)(
        {**scope, "headers": headers, "client": ("127.0.0.1", 5)}, receive, send
    )
    return statuses[0]


# ---- inside the middleware --------------------------------------------------------------------------------


async def test_a_call_inside_the_request_is_the_same_leg_and_its_answer_settles_it(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator
) -> None:
    guard, upstream = open_guard(), Upstream()
    client = upstream.async_client(guard)

    async def endpoint(body: bytes) -> bytes:
        made = await client.images.with_raw_response.generate(**json.loads(body))
        return bytes(made.content)

    assert await through(guard, endpoint) == 200
    assert (decided(guard), ends(guard)) == ([("asgi", "allow")], [("leg.settled", "asgi", 200)])
    assert (moderator.calls, json.loads(upstream.bodies[0])["moderation"]) == (1, "auto")


async def test_a_sync_endpoint_in_a_thread_is_inside_too(open_guard: Callable[..., Guard]) -> None:
    guard, upstream = open_guard(), Upstream()
    client = upstream.client(guard)

    async def endpoint(body: bytes) -> bytes:
        await anyio.to_thread.run_sync(lambda: client.images.generate(**json.loads(body)))
        return b"done"

    await through(guard, endpoint)
    assert ends(guard) == [("leg.settled", "asgi", 200)]


async def test_a_definite_error_inside_releases_what_an_own_apps_error_could_not(
    open_guard: Callable[..., Guard],
) -> None:
    guard = open_guard()
    client = Upstream(429).client(guard)

    async def endpoint(body: bytes) -> bytes:
        with pytest.raises(APIStatusError):
            client.images.generate(**json.loads(body))
        return b"sorry"

    await through(guard, endpoint)
    assert ends(guard) == [("leg.released", "asgi", 429)]


async def test_without_a_guarded_call_the_apps_answer_settles_as_before(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    async def endpoint(body: bytes) -> bytes:
        return json.dumps(ANSWER).encode()

    await through(guard, endpoint)
    assert ends(guard) == [("leg.settled", "asgi", 200)]


async def test_a_second_call_is_admitted_anew_for_the_same_caller(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    client = Upstream().client(guard)

    async def endpoint(body: bytes) -> bytes:
        client.images.generate(**json.loads(body))
        client.images.generate(**json.loads(body))
        return b"done"

    await through(guard, endpoint)
    assert decided(guard) == [("asgi", "allow"), ("client", "allow")]
    assert ends(guard) == [("leg.settled", "asgi", 200), ("leg.settled", "client", 200)]
    assert len({event.dimensions["user"] for event in rows(guard, "leg.")}) == 1


async def test_a_retry_is_a_second_call(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    client = Upstream(500, 200).client(guard, max_retries=1)

    async def endpoint(body: bytes) -> bytes:
        client.images.generate(**json.loads(body))
        return b"done"

    await through(guard, endpoint)
    assert ends(guard) == [("leg.presumed", "asgi", 500), ("leg.settled", "client", 200)]
    first, again = rows(guard, "request.decided")
    assert again.body["retry_of"] == first.decision_id


async def test_two_calls_at_once_share_nothing(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    client = Upstream().async_client(guard)

    async def endpoint(body: bytes) -> bytes:
        async with anyio.create_task_group() as group:
            for _ in range(8):
                group.start_soon(lambda: client.images.generate(**json.loads(body)))
        return b"done"

    await through(guard, endpoint)
    assert sorted(ends(guard)) == [("leg.settled", "asgi", 200)] + [("leg.settled", "client", 200)] * 7


@pytest.mark.parametrize(
    "more",
    [{"n": 2}, {"size": "1536x1024"}, {"quality": "high"}, {"model": "gpt-image-2.5-flare-2026-09-08"}],
)
async def test_a_larger_call_is_admitted_anew(open_guard: Callable[..., Guard], more: dict[str, Any]) -> None:
    guard, upstream = open_guard(), Upstream()
    client = upstream.client(guard)

    async def endpoint(body: bytes) -> bytes:
        client.images.generate(**{**json.loads(body), **more})
        return b"done"

    await through(guard, endpoint)
    assert decided(guard) == [("asgi", "allow"), ("client", "allow")]
    assert {name: json.loads(upstream.bodies[0])[name] for name in more} == more
    assert ends(guard) == [("leg.settled", "client", 200), ("leg.presumed", "asgi", 200)]


@pytest.mark.parametrize("same", [True, False], ids=["as it was admitted", "another prompt"])
async def test_a_call_with_an_unknown_parameter_has_no_part_in_the_ticket(
    open_guard: Callable[..., Guard], same: bool
) -> None:
    """What the request around did not have is decided as without it: refused, and nothing is sent."""
    guard, upstream = open_guard(), Upstream()
    client = upstream.client(guard)

    async def endpoint(body: bytes) -> bytes:
        asked = json.loads(body) if same else {**json.loads(body), "prompt": "a dog"}
        with pytest.raises(APIStatusError, match="is not a parameter that this surface lets through"):
            client.images.generate(**asked, extra_body={"style_strength": 3})
        return b"done"

    await through(guard, endpoint)
    assert decided(guard) == [("asgi", "allow"), ("client", "deny")]
    assert upstream.bodies == []
    assert ends(guard) == [("leg.presumed", "asgi", 200)]


async def test_a_smaller_call_fits_and_what_it_leaves_out_is_what_was_decided(
    open_guard: Callable[..., Guard],
) -> None:
    guard, upstream = open_guard(), Upstream()
    client = upstream.client(guard)

    async def endpoint(body: bytes) -> bytes:
        client.images.generate(prompt="a cat", n=1)
        return b"done"

    await through(guard, endpoint, {"prompt": "a cat", "n": 2, "quality": "high"})
    sent = json.loads(upstream.bodies[0])
    assert (sent["n"], sent["quality"], sent["model"]) == (1, "high", MODEL)
    assert ends(guard) == [("leg.settled", "asgi", 200)]


async def test_a_changed_prompt_is_looked_at_again_on_the_same_leg(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator
) -> None:
    guard = open_guard()
    client = Upstream().client(guard)

    async def endpoint(body: bytes) -> bytes:
        client.images.generate(**{**json.loads(body), "prompt": "a dog"})
        return b"done"

    await through(guard, endpoint)
    assert (moderator.calls, ends(guard)) == (2, [("leg.settled", "asgi", 200)])
    first, second = rows(guard, "request.decided")
    assert (first.leg_id, second.leg_id, second.body["door"]) == (second.leg_id, first.leg_id, "client")


async def test_a_changed_prompt_that_is_refused_leaves_the_ticket_for_another_call(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator
) -> None:
    guard, upstream = open_guard(), Upstream()
    client = upstream.client(guard)

    async def endpoint(body: bytes) -> bytes:
        moderator.scores["violence"] = 0.9
        with pytest.raises(APIStatusError):
            client.images.generate(**{**json.loads(body), "prompt": "a fight"})
        client.images.generate(**json.loads(body))
        return b"done"

    await through(guard, endpoint)
    assert decided(guard) == [("asgi", "allow"), ("client", "deny")]
    assert (len(upstream.bodies), ends(guard)) == (1, [("leg.settled", "asgi", 200)])


async def test_a_changed_prompt_that_costs_more_is_admitted_anew(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    client = Upstream().client(guard)

    async def endpoint(body: bytes) -> bytes:
        client.images.generate(**{**json.loads(body), "prompt": "a dog " * 1000})
        return b"done"

    await through(guard, endpoint)
    assert ends(guard) == [("leg.settled", "client", 200), ("leg.presumed", "asgi", 200)]


async def test_an_edit_is_no_part_of_a_generation(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    client = Upstream().client(guard)

    async def endpoint(body: bytes) -> bytes:
        client.images.edit(prompt="a cat", image=("a.png", png(), "image/png"))
        return b"done"

    await through(guard, endpoint)
    assert decided(guard) == [("asgi", "allow"), ("client", "allow")]


async def test_what_runs_on_after_the_answer_is_admitted_anew(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    client = Upstream().client(guard)

    async def endpoint(body: bytes) -> bytes:
        return json.dumps(ANSWER).encode()

    async def after() -> None:
        client.images.generate(prompt="a cat")

    await through(guard, endpoint, after=after)
    assert sorted(ends(guard)) == [("leg.settled", "asgi", 200), ("leg.settled", "client", 200)]


async def test_a_call_that_outlives_the_request_settles_its_leg_by_itself(open_guard: Callable[..., Guard]) -> None:
    guard, go, arrived = open_guard(), anyio.Event(), anyio.Event()

    async def slow(request: httpx2.Request) -> httpx2.Response:
        arrived.set()
        await go.wait()
        return httpx2.Response(200, json=ANSWER)

    below = httpx2.AsyncClient(transport=httpx2.MockTransport(slow))
    client = guarded(AsyncOpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    tasks: list[asyncio.Task[Any]] = []

    async def endpoint(body: bytes) -> bytes:
        tasks.append(asyncio.create_task(client.images.generate(**json.loads(body))))
        await arrived.wait()
        return b"accepted"

    await through(guard, endpoint)
    assert ends(guard) == []
    go.set()
    await tasks[0]
    assert ends(guard) == [("leg.settled", "asgi", 200)]


async def test_another_surface_another_caller_and_another_guard_have_no_part_in_it(
    open_guard: Callable[..., Guard], tmp_path: Path
) -> None:
    guard, other = open_guard(), open_guard()
    write_policies(tmp_path / "policies0", avatars=SURFACE, badges=OTHER)
    guard.reload()
    clients = [Upstream().client(guard, "badges"), Upstream().client(guard), Upstream().client(other)]

    async def endpoint(body: bytes) -> bytes:
        clients[0].images.generate(**json.loads(body))
        with policyguard.caller(user="u2"):
            clients[1].images.generate(**json.loads(body))
            clients[2].images.generate(**json.loads(body))
        return json.dumps(ANSWER).encode()

    await through(guard, endpoint)
    assert decided(guard) == [("asgi", "allow"), *[("client", "allow")] * 3]


@pytest.mark.parametrize("status", [429, 500])
async def test_an_apps_error_releases_its_leg_only_where_a_guarded_call_inside_explains_it(
    open_guard: Callable[..., Guard], status: int
) -> None:
    guard = open_guard()
    client = Upstream(429).client(guard)

    async def larger(body: bytes) -> bytes:
        with pytest.raises(APIStatusError):
            client.images.generate(**{**json.loads(body), "n": 2})
        return b"{}"

    async def nothing(body: bytes) -> bytes:
        return b"{}"

    await through(guard, larger, status=status)
    await through(guard, nothing, status=status)
    explained = "leg.released" if status == 429 else "leg.presumed"
    assert ends(guard) == [
        ("leg.released", "client", 429),
        (explained, "asgi", status),
        ("leg.presumed", "asgi", status),
    ]


# ---- inside the decorator ---------------------------------------------------------------------------------


def test_a_call_inside_a_decorated_function_is_the_same_leg(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    client = Upstream().client(guard)

    @guard.enforce("avatars", constants={**FULL, "n": 1})
    def draw(prompt: str) -> Any:
        return client.images.generate(prompt=prompt)

    with policyguard.caller(user="u1"):
        draw("a cat")
    assert (decided(guard), ends(guard)) == ([("decorator", "allow")], [("leg.settled", "decorator", 200)])


@pytest.mark.parametrize("plain", [True, False])
async def test_a_call_inside_a_decorated_coroutine_is_the_same_leg(
    open_guard: Callable[..., Guard], plain: bool
) -> None:
    guard = open_guard()
    client = Upstream(429).async_client(guard)

    async def made(prompt: str) -> Any:
        return await client.images.generate(prompt=prompt)

    def hands_on(prompt: str) -> Any:
        return made(prompt)

    draw = guard.enforce("avatars", constants={**FULL, "n": 1})(hands_on if plain else made)
    with policyguard.caller(user="u1"), pytest.raises(APIStatusError):
        await draw("a cat")
    assert ends(guard) == [("leg.released", "decorator", 429)]


async def test_a_decorated_function_inside_a_request_hands_the_ticket_on(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    client = Upstream(429).async_client(guard)

    @guard.enforce("avatars", constants={**FULL, "n": 1})
    async def draw(prompt: str) -> Any:
        return await client.images.generate(prompt=prompt)

    async def endpoint(body: bytes) -> bytes:
        with pytest.raises(APIStatusError):
            await draw(json.loads(body)["prompt"])
        return b"sorry"

    await through(guard, endpoint)
    assert (decided(guard), ends(guard)) == ([("asgi", "allow")], [("leg.released", "asgi", 429)])


def test_a_decorated_function_without_a_guarded_call_settles_the_ticket_of_the_one_around(
    open_guard: Callable[..., Guard],
) -> None:
    guard = open_guard()

    @guard.enforce("avatars", constants={**FULL, "n": 1})
    def inner(prompt: str) -> Any:
        return ANSWER

    @guard.enforce("avatars", constants={**FULL, "n": 1})
    def outer(prompt: str) -> Any:
        return [inner(prompt), inner(prompt)]

    with policyguard.caller(user="u1"):
        outer("a cat")
    assert decided(guard) == [("decorator", "allow")] * 2
    assert ends(guard) == [("leg.settled", "decorator", 200)] * 2


def test_a_decorated_function_that_calls_nothing_is_settled_as_before(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    @guard.enforce("avatars", constants={**FULL, "n": 1})
    def draw(prompt: str) -> Any:
        return ANSWER

    with policyguard.caller(user="u1"):
        draw("a cat")
    assert ends(guard) == [("leg.settled", "decorator", 200)]

"""How legs of the client door end: by every answer, attempt, cancellation and thread, and once."""

from __future__ import annotations

import asyncio
import io
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx2
import openai
import pytest
from adapters.upstream import ANSWER, ERROR, URL, Upstream, ends, error, png, quietly, rows
from openai import AsyncOpenAI, OpenAI
from support import SURFACE

import policyguard
from policyguard.adapters.transport import guarded
from policyguard.guard.guard import Guard

pytestmark = pytest.mark.anyio


@pytest.fixture
def guard(open_guard: Callable[..., Guard]) -> Guard:
    return open_guard()


@pytest.fixture(autouse=True)
def _somebody() -> Iterator[None]:
    with policyguard.caller(user="u1"):
        yield


# ---- how legs end -----------------------------------------------------------------------------------------


BLOCKED = {"moderation_details": {"moderation_stage": "output", "categories": []}}


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ((200, ANSWER), ("leg.settled", None)),
        ((200, {"created": 1, "data": []}), ("leg.presumed", "no_usage")),
        ((400, error("invalid_value")), ("leg.released", "error")),
        ((401, error("invalid_api_key")), ("leg.released", "error")),
        ((429, error("rate_limit_exceeded")), ("leg.released", "error")),
        ((400, error("moderation_blocked", **BLOCKED)), ("leg.presumed", "error")),
        ((500, error()), ("leg.presumed", "error")),
        ((503, error("server_is_overloaded")), ("leg.released", "error")),
        ((503, {}), ("leg.presumed", "error")),
        (httpx2.ReadTimeout("slow"), ("leg.presumed", "timeout")),
        (httpx2.RemoteProtocolError("cut"), ("leg.presumed", "cut")),
        (httpx2.ConnectError("down"), ("leg.presumed", "cut")),
        (RuntimeError("of a hook"), ("leg.presumed", "error")),
    ],
)
@pytest.mark.parametrize("sync", [True, False])
async def test_every_end_upstream_is_one_end_of_the_leg(guard: Guard, answer: Any, end: Any, sync: bool) -> None:
    upstream = Upstream(answer)
    if sync:
        client = guarded(upstream.client(), guard, surface="avatars")
        quietly(lambda: client.images.generate(prompt="a cat"))
    else:
        aclient = guarded(upstream.async_client(), guard, surface="avatars")
        try:
            await aclient.images.generate(prompt="a cat")
        except (openai.OpenAIError, RuntimeError):
            assert end != ("leg.settled", None)
    assert ends(guard) == [end]


def test_an_answer_that_is_cut_is_presumed(guard: Guard) -> None:
    def cut() -> Iterator[bytes]:
        yield b'{"created": 1, '
        raise httpx2.ReadError("cut")

    below = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=cut())))
    client = guarded(OpenAI(api_key="k", base_url=URL, http_client=below, max_retries=0), guard, surface="avatars")
    with pytest.raises(openai.APIConnectionError):
        client.images.generate(prompt="a cat")
    assert ends(guard) == [("leg.presumed", "cut")]


def test_each_attempt_is_a_leg_of_its_own_and_says_of_which_call(guard: Guard) -> None:
    upstream = Upstream((500, ERROR), httpx2.ReadTimeout("slow"), (200, ANSWER))
    client = guarded(upstream.client(max_retries=2), guard, surface="avatars")
    client.images.generate(prompt="a cat")
    client.images.generate(prompt="a cat")
    first, *_ = decided = rows(guard, "request.decided")
    assert [event.body["retry_of"] for event in decided] == [None, first.decision_id, first.decision_id, None]
    legs = [(e.type, e.body["attempts"], e.body["retry_reasons"]) for e in rows(guard, "leg.")]
    assert legs == [
        ("leg.presumed", 1, []),
        ("leg.presumed", 2, ["500"]),
        ("leg.settled", 3, ["500", "timeout"]),
        ("leg.settled", 1, []),
    ]


def test_an_edit_that_is_tried_again_is_linked_too(guard: Guard) -> None:
    upstream = Upstream((500, ERROR), (200, ANSWER))
    client = guarded(upstream.client(max_retries=1), guard, surface="avatars")
    client.images.edit(prompt="a hat", image=io.BytesIO(png()))
    first, again = rows(guard, "request.decided")
    assert (again.body["retry_of"], [e.body["attempts"] for e in rows(guard, "leg.")]) == (first.decision_id, [1, 2])
    assert upstream.requests[0].content.count(png()) == upstream.requests[1].content.count(png()) == 1


def test_a_retry_that_the_budget_has_no_room_for_is_refused(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=SURFACE + "budgets: [{id: one, limit: 1 images / day}]\n")
    upstream = Upstream((500, ERROR))
    with pytest.raises(openai.RateLimitError) as caught:
        guarded(upstream.client(max_retries=5), guard, surface="avatars").images.generate(prompt="a cat")
    assert (caught.value.code, len(upstream.requests)) == ("policy_budget_exceeded", 1)


def test_an_upstream_that_keeps_failing_is_left_alone_for_a_while(guard: Guard) -> None:
    upstream = Upstream((500, ERROR))
    client = guarded(upstream.client(), guard, surface="avatars")
    for _ in range(21):
        quietly(lambda: client.images.generate(prompt="a cat"))
    with pytest.raises(openai.InternalServerError) as caught:
        client.images.generate(prompt="a cat")
    assert (caught.value.code, len(upstream.requests)) == ("policy_unavailable", 21)
    elsewhere = client.with_options(base_url="http://elsewhere.test/v1")
    quietly(lambda: elsewhere.images.generate(prompt="a cat"))
    assert upstream.requests[-1].url.host == "elsewhere.test"


@pytest.mark.parametrize("native", [True, False])
async def test_a_cancelled_call_is_presumed(guard: Guard, native: bool) -> None:
    arrived = asyncio.Event()

    async def never(request: httpx2.Request) -> httpx2.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    below = httpx2.AsyncClient(transport=httpx2.MockTransport(never))
    client = guarded(AsyncOpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    if native:
        task = asyncio.create_task(client.images.generate(prompt="a cat"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.images.generate(prompt="a cat"))
            await arrived.wait()
            group.cancel_scope.cancel()
    assert ends(guard) == [("leg.presumed", "cancelled")]


def test_thirty_two_threads_share_one_client(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=SURFACE + "budgets: [{id: ten, limit: 10 images / day}]\n")
    upstream = Upstream()
    client = guarded(upstream.client(), guard, surface="avatars", caller=lambda: {"user": "u1"})

    def ask(number: int) -> str | None:
        try:
            client.images.generate(prompt=f"a cat {number}")
        except openai.RateLimitError as refused:
            return refused.code
        return None

    with ThreadPoolExecutor(32) as pool:
        codes = Counter(pool.map(ask, range(32)))
    assert codes == {None: 10, "policy_budget_exceeded": 22}
    assert (len(upstream.requests), ends(guard)) == (10, [("leg.settled", None)] * 10)


def test_nothing_private_is_logged(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = guarded(Upstream((400, error("invalid_value"))).client(), guard, surface="avatars")
    with policyguard.caller(user="canary-user"):
        quietly(lambda: client.images.generate(prompt="canary prompt"))
        quietly(lambda: client.images.generate(prompt="canary prompt", n=9))
        quietly(lambda: client.images.edit(prompt="canary prompt", image=b"canary"))
    assert caplog.records
    assert "canary" not in caplog.text

"""A picture of six megabytes on its way through: what a door keeps of it while it passes, and afterwards.

Counted are the bytes that Python allocates, beyond the answer itself, which stands before the count begins.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
import random
import tracemalloc
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from PIL import Image
from proxy.wire_upstream import wire_upstream

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.guard.guard import Guard
from policyguard.proxy.moderator import UpstreamModerator
from policyguard.proxy.proxy import Proxy
from policyguard.proxy.upstream import Upstream

pytestmark = pytest.mark.anyio
GENERATIONS = "/v1/images/generations"
CHUNK = 64 * 1024


def noise() -> bytes:
    """A PNG that cannot be compressed."""
    buffer = io.BytesIO()
    Image.frombytes("RGB", (1250, 1200), random.Random(6).randbytes(1250 * 1200 * 3)).save(buffer, "PNG")
    return buffer.getvalue()


PICTURE = base64.b64encode(noise())  # six megabytes, as it is sent
USAGE = b'"usage": {"input_tokens": 10, "output_tokens": 196, "total_tokens": 206}'
ANSWER = b'{"created": 1, "data": [{"b64_json": "' + PICTURE + b'"}], ' + USAGE + b"}"
MOST = len(ANSWER) // 4  # that a door may hold: a few chunks, and what one request needs anyway


def pieces(body: bytes) -> list[bytes]:
    return [body[start : start + CHUNK] for start in range(0, len(body), CHUNK)]


async def ask(door: Any, *headers: tuple[bytes, bytes]) -> int:
    """How many bytes came; they are not kept."""
    bodies = [json.dumps({"prompt": "a cat"}).encode()]
    came = 0

    async def receive() -> Any:
        if bodies:
            return {"type": "http.request", "body": bodies.pop(), "more_body": False}
        return await asyncio.Event().wait()  # the client stays

    async def send(message: Any) -> None:
        nonlocal came
        came += len(message.get("body", b""))

    scope = {"type": "http", "method": "POST", "path": GENERATIONS, "query_string": b"", "client": ("127.0.0.1", 5)}
    await door({**scope, "headers": [(b"content-type", b"application/json"), *headers]}, receive, send)
    return came


async def growth(call: Callable[[], Awaitable[int]]) -> tuple[int, int]:
    """The most bytes allocated during a call, and those left after it, the second time it is made."""
    assert await call() == len(ANSWER)
    gc.collect()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        assert await call() == len(ANSWER)
        gc.collect()
        after, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    return peak - before, after - before


def app_of(*parts: bytes) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for number, part in enumerate(parts, start=1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})

    return app


@pytest.mark.parametrize("parts", [pieces(ANSWER), [ANSWER]], ids=["in pieces", "at once"])
async def test_the_middleware_lets_a_large_answer_pass_without_keeping_it(
    open_guard: Callable[..., Guard], parts: list[bytes]
) -> None:
    guard = open_guard()
    door = PolicyGuardMiddleware(app_of(*parts), guard=guard)
    most, left = await growth(lambda: ask(door, (b"x-user-id", b"u1")))
    print(f"at most {most:,} bytes, {left:,} left")
    assert most < MOST
    assert left < 200_000
    assert [row.event.type for row in guard.store.events(limit=10, type="leg.settled")] == ["leg.settled"] * 2


async def test_the_proxy_lets_a_large_answer_pass_without_keeping_it(open_guard: Callable[..., Guard]) -> None:
    async with wire_upstream() as upstream:
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(ANSWER)}\r\n\r\n"
        upstream.answers[GENERATIONS] = [head.encode(), *pieces(ANSWER)]
        seam = Upstream(key="sk-upstream", base_url=upstream.url)
        guard = open_guard(moderator=UpstreamModerator(seam))
        guard.store.proxy_keys.create(
            "sk-1",
            name="t",
            surfaces=("avatars",),
            caller={"user": "u1"},
            names_user=False,
            by="ada",
            now=datetime.now(UTC),
        )
        door = Proxy(guard, seam, pages=None, open_paths=frozenset())  # type: ignore[arg-type]
        most, left = await growth(lambda: ask(door, (b"authorization", b"Bearer sk-1")))
        await seam.aclose()
    print(f"at most {most:,} bytes, {left:,} left")
    assert most < MOST
    assert left < 200_000
    assert [row.event.type for row in guard.store.events(limit=10, type="leg.settled")] == ["leg.settled"] * 2

"""Streams through the client door: passed on event by event, one leg each, settled when the stream ends."""

from __future__ import annotations

import asyncio
import base64
import gc
import io
import json
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import anyio
import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from PIL import Image

import policyguard
from policyguard.adapters.transport import guarded
from policyguard.guard.guard import Guard

pytestmark = pytest.mark.anyio
URL = "http://api.test/v1"
USAGE = {"input_tokens": 10, "output_tokens": 196, "total_tokens": 206}


def event(kind: str, **more: Any) -> bytes:
    document = {"type": f"image_generation.{kind}", "b64_json": "aGk=", **more}
    return f"event: image_generation.{kind}\ndata: {json.dumps(document)}\n\n".encode()


PARTIAL = event("partial_image", partial_image_index=0)
COMPLETED = event("completed", usage=USAGE)
ERROR = b'event: error\ndata: {"error": {"message": "no", "code": "server_error"}}\n\n'


class Body(httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Chunks, or an exception in between; knows how far it was read and whether it was closed."""

    def __init__(self, *chunks: bytes | Exception) -> None:
        self.chunks = chunks
        self.read = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self.chunks:
            self.read += 1
            if isinstance(chunk, Exception):
                raise chunk
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True

    def answer(self, request: httpx2.Request) -> httpx2.Response:
        headers = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "req_7"}
        return httpx2.Response(200, headers=headers, stream=self)


@pytest.fixture
def guard(open_guard: Callable[..., Guard]) -> Iterator[Guard]:
    with policyguard.caller(user="u1"):
        yield open_guard()


def sync(guard: Guard, body: Body) -> OpenAI:
    below = httpx2.Client(transport=httpx2.MockTransport(body.answer))
    return guarded(OpenAI(api_key="k", base_url=URL, http_client=below, max_retries=0), guard, surface="avatars")


def ends(guard: Guard) -> list[tuple[str, Any]]:
    rows = [row.event for row in guard.store.events(limit=100) if row.event.type.startswith("leg.")]
    return [(event.type, event.body["failure"]) for event in rows]


SETTLED, CANCELLED = ("leg.settled", None), ("leg.presumed", "cancelled")


def test_events_pass_one_by_one_and_the_end_settles(guard: Guard) -> None:
    body = Body(PARTIAL, COMPLETED)
    seen = []
    for item in sync(guard, body).images.generate(prompt="a cat", stream=True):
        seen.append((item.type, body.read, ends(guard)))
    assert seen == [("image_generation.partial_image", 1, []), ("image_generation.completed", 2, [])]
    assert (ends(guard), body.closed) == ([SETTLED], True)


@pytest.mark.parametrize(
    ("chunks", "read", "end"),
    [
        ((PARTIAL, COMPLETED), 1, CANCELLED),
        ((PARTIAL, COMPLETED), 2, SETTLED),
        ((PARTIAL,), 9, ("leg.presumed", "no_usage")),
        ((PARTIAL, ERROR), 9, ("leg.presumed", "error")),
        ((PARTIAL, httpx2.ReadError("cut")), 9, ("leg.presumed", "cut")),
        ((PARTIAL, httpx2.ReadTimeout("slow")), 9, ("leg.presumed", "timeout")),
        ((COMPLETED, httpx2.ReadError("cut")), 9, SETTLED),
    ],
)
@pytest.mark.parametrize("is_async", [False, True])
async def test_however_a_stream_ends_its_leg_ends_once(
    guard: Guard, chunks: Any, read: int, end: Any, is_async: bool
) -> None:
    body = Body(*chunks)
    try:
        if is_async:
            below = httpx2.AsyncClient(transport=httpx2.MockTransport(body.answer))
            plain = AsyncOpenAI(api_key="k", base_url=URL, http_client=below, max_retries=0)
            astream = await guarded(plain, guard, surface="avatars").images.generate(prompt="a cat", stream=True)
            async with astream:
                async for _ in astream:
                    if body.read >= read:
                        break
        else:
            with sync(guard, body).images.generate(prompt="a cat", stream=True) as stream:
                for _ in stream:
                    if body.read >= read:
                        break
    except (openai.OpenAIError, httpx2.TransportError):
        assert len(chunks) == 2
    assert (ends(guard), body.closed) == ([end], True)


def test_a_stream_lives_until_it_ends_or_is_forgotten(guard: Guard, monkeypatch: pytest.MonkeyPatch) -> None:
    renewed: list[str] = []
    monkeypatch.setattr(guard.store, "renew", lambda leg_id, *_: renewed.append(leg_id) or True)
    client = sync(guard, Body(PARTIAL, COMPLETED))
    stream: Any = client.images.generate(prompt="a cat", stream=True)
    for _ in range(2):
        guard._renewal.beat()
    assert len(renewed) == 1
    stream.close()
    stream = client.images.generate(prompt="a cat", stream=True)
    del stream
    gc.collect()
    for _ in range(3):
        guard._renewal.beat()
    assert (len(renewed), ends(guard)) == (1, [CANCELLED])


async def test_a_cancelled_stream_is_presumed(guard: Guard) -> None:
    class Endless(Body):
        async def __aiter__(self) -> AsyncIterator[bytes]:
            yield PARTIAL
            await asyncio.Event().wait()

    below = httpx2.AsyncClient(transport=httpx2.MockTransport(Endless().answer))
    client = guarded(AsyncOpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    async with anyio.create_task_group() as group:
        stream = await client.images.generate(prompt="a cat", stream=True)
        with anyio.CancelScope() as scope:
            async for _ in stream:
                scope.cancel()
        await stream.close()
        group.cancel_scope.cancel()
    assert ends(guard) == [CANCELLED]


def test_a_stream_can_be_read_raw_and_says_the_decision(guard: Guard) -> None:
    with sync(guard, Body(PARTIAL, COMPLETED)).images.with_streaming_response.generate(
        prompt="a cat", stream=True
    ) as raw:
        assert raw.headers["x-policyguard-decision"].startswith("dec_")
        assert b"".join(raw.http_response.iter_raw()) == PARTIAL + COMPLETED
    assert ends(guard) == [SETTLED]


def test_a_stream_that_was_asked_for_and_refused_upstream_is_an_error(guard: Guard) -> None:
    def refuse(request: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(429, json={"error": {"message": "no", "code": "slow_down"}})

    below = httpx2.Client(transport=httpx2.MockTransport(refuse))
    client = guarded(OpenAI(api_key="k", base_url=URL, http_client=below, max_retries=0), guard, surface="avatars")
    with pytest.raises(openai.RateLimitError):
        client.images.generate(prompt="a cat", stream=True)
    assert ends(guard) == [("leg.released", "error")]


def test_an_edit_as_json_is_decided_like_a_form(guard: Guard) -> None:
    sent = []

    def answer(request: httpx2.Request) -> httpx2.Response:
        sent.append(json.loads(request.read()))
        return httpx2.Response(200, json={"data": [], "usage": USAGE})

    below = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = guarded(OpenAI(api_key="k", base_url=URL, http_client=below, max_retries=0), guard, surface="avatars")
    pixel = io.BytesIO()
    Image.new("RGB", (16, 16), "teal").save(pixel, "PNG")
    picture = "data:image/png;base64," + base64.b64encode(pixel.getvalue()).decode()
    edit = {"prompt": "a hat", "images": [{"image_url": picture}], "moderation": "low"}
    client.post("/images/edits", body=edit, cast_to=object)
    with pytest.raises(openai.BadRequestError):
        client.post("/images/edits", body={**edit, "images": [{"file_id": "file_1"}]}, cast_to=object)
    assert [(body["moderation"], body["images"]) for body in sent] == [("auto", [{"image_url": picture}])]
    assert ends(guard) == [SETTLED]

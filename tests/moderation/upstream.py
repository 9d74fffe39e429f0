"""A moderation endpoint in memory: what it answers, what it was asked, and moderators that ask it.

The same tests run over both lines to it: the SDK, and the upstream of the proxy. `over` chooses which.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from types import SimpleNamespace
from typing import Any, Literal

import aiohttp
import anyio
import anyio.to_thread
import httpx2
from openai import AsyncOpenAI, OpenAI

from policyguard.flow.steps import Moderate
from policyguard.moderation.openai import OpenAIModerator
from policyguard.proxy.moderator import UpstreamModerator
from policyguard.proxy.upstream import UpstreamAnswer, UpstreamFailed
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Failure, ImageRequest, InputImage, Verdict

Side = Literal["sync", "async"]
Line = Literal["sdk", "upstream"]
LINES: tuple[Line, ...] = ("sdk", "upstream")
Handler = Callable[[httpx2.Request], Any]
MODEL = "omni-moderation-latest"
DATED = "omni-moderation-2024-09-26"
CANARY = "canary-4711"
BASE_URL = "http://upstream.test/v1"


def image(data: bytes = b"picture") -> InputImage:
    return InputImage(data, "image/png")


def step(
    *images: InputImage,
    prompt: bool = True,
    timeout_s: float = 5.0,
    model: str = MODEL,
    text: str = f"a cat {CANARY}",
) -> Moderate:
    request = ImageRequest(prompt=text, operation="edit" if images else "generate", images=images)
    return Moderate(model, request, prompt, bool(images), timeout_s)


def is_image(request: httpx2.Request) -> bool:
    return isinstance(first(request), dict)


def first(request: httpx2.Request) -> Any:
    """What is asked about; the first part of it where there are several."""
    asked = json.loads(request.content)["input"]
    return asked[0] if isinstance(asked, list) else asked


def count(request: httpx2.Request) -> int:
    """How many results an answer has: one for each text."""
    asked = json.loads(request.content)["input"]
    return len(asked) if isinstance(asked, list) and not is_image(request) else 1


def answer(request: httpx2.Request, scores: Mapping[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A whole answer; about an image, the categories that only text can have are 0 and were not looked at."""
    kind, seen = ("image", frozenset(IMAGE_CATEGORIES)) if is_image(request) else ("text", frozenset(CATEGORIES))
    result = {
        "flagged": False,
        "categories": dict.fromkeys(CATEGORIES, False),
        "category_scores": {**{c: 0.01 if c in seen else 0 for c in CATEGORIES}, **(scores or {})},
        "category_applied_input_types": {c: [kind] if c in seen else [] for c in CATEGORIES},
        **changes,
    }
    return {"id": "modr-1", "model": DATED, "results": [result] * count(request)}


def ok(body: Any, request_id: str = "req_1") -> httpx2.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx2.Response(
        200, content=content, headers={"content-type": "application/json", "x-request-id": request_id}
    )


def error(status: int, **headers: str) -> httpx2.Response:
    """An error answer that repeats the prompt, as upstreams may."""
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    body = {"error": {"message": f"no: {CANARY}", "type": "server_error", "param": None, "code": None}}
    return httpx2.Response(status, json=body, headers={"x-request-id": f"req_{status}", **names})


_line: Line = "sdk"


@contextmanager
def over(line: Line) -> Iterator[None]:
    """Moderators that are made meanwhile ask over this line."""
    global _line
    before, _line = _line, line
    try:
        yield
    finally:
        _line = before


def moderator(handler: Handler, *, retry_wait_s: float = 0.0) -> Any:
    """Both sides ask `handler`, which is a sync or an async function."""
    return (over_sdk if _line == "sdk" else over_upstream)(handler, retry_wait_s)


def over_sdk(handler: Handler, retry_wait_s: float = 0.0) -> OpenAIModerator:
    transport = httpx2.MockTransport(handler)
    return OpenAIModerator(
        OpenAI(api_key="sk-test", base_url=BASE_URL, http_client=httpx2.Client(transport=transport)),
        AsyncOpenAI(api_key="sk-test", base_url=BASE_URL, http_client=httpx2.AsyncClient(transport=transport)),
        retry_wait_s=retry_wait_s,
    )


def over_upstream(handler: Handler, retry_wait_s: float = 0.0) -> UpstreamModerator:
    upstream: Any = Scripted(handler)
    return UpstreamModerator(upstream, retry_wait_s=retry_wait_s)


class Scripted:
    """The proxy's upstream, answered by `handler`."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler

    @asynccontextmanager
    async def post(
        self, path: str, headers: Mapping[str, str], body: bytes, *, within_s: float
    ) -> AsyncGenerator[UpstreamAnswer]:
        request = httpx2.Request("POST", BASE_URL + path, headers=headers, content=body)
        try:
            with anyio.fail_after(within_s):
                response = await self._answer(request)
                content = SimpleNamespace(iter_any=lambda: _chunks(response))
                found: Any = SimpleNamespace(headers=response.headers, content=content)
                yield UpstreamAnswer(response.status_code, [], found)
        except (httpx2.TimeoutException, TimeoutError):
            raise UpstreamFailed(Failure.TIMEOUT) from None
        except httpx2.TransportError:
            raise UpstreamFailed(Failure.CUT) from None

    async def _answer(self, request: httpx2.Request) -> httpx2.Response:
        if inspect.iscoroutinefunction(self._handler):
            answer: httpx2.Response = await self._handler(request)
            return answer
        return await anyio.to_thread.run_sync(self._handler, request, abandon_on_cancel=True)

    async def aclose(self) -> None:
        """Nothing is open."""


async def _chunks(response: httpx2.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in response.aiter_bytes():
            yield chunk
    except httpx2.TransportError:
        raise aiohttp.ClientPayloadError from None


async def ask(side: Side, moderator: Any, step: Moderate) -> Verdict:
    if side == "sync":
        verdict: Verdict = moderator.moderate(step)
        return verdict
    answer: Verdict = await moderator.amoderate(step)
    return answer

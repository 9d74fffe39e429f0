"""What must be seen nowhere, everything that a guard writes, and the doors by which a request comes in.

Each door is called the same: with a guard and an upstream that answers, raises or is never reached.
"""

from __future__ import annotations

import base64
import io
import json
import logging
from collections.abc import Callable, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import anyio
import httpx2
import openai
from audit.test_webhook import SECRET
from openai import AsyncOpenAI, OpenAI
from PIL import Image, PngImagePlugin
from support import MODEL, NOW
from telemetry.listening import Heard

import policyguard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.transport import guarded
from policyguard.audit.batch import Batch
from policyguard.audit.export import event_document
from policyguard.audit.seal import seal
from policyguard.audit.webhook import Webhook
from policyguard.decision import PolicyRefused
from policyguard.guard.guard import Guard
from policyguard.logs import JsonFormatter, TextFormatter

PROMPT = "canaryprompt a cat"
USER = "canaryuser@example.com"
KEY = "sk-canarykey"
PIXELS = b"canarypixels"
WHO = {"user": USER, "tenant": "acme", "tier": "free"}
ANSWER = {"created": 1, "data": [{"b64_json": "aGk="}], "usage": {"input_tokens": 10, "output_tokens": 196}}


def picture() -> bytes:
    """A PNG with the canary in it as bytes."""
    buffer, notes = io.BytesIO(), PngImagePlugin.PngInfo()
    notes.add_text("comment", PIXELS.decode())
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG", pnginfo=notes)
    return buffer.getvalue()


PICTURE = picture()
_AT = PICTURE.index(PIXELS)
# As it is, in a URL, and within base64, wherever it begins there.
SIGNS = (
    PROMPT.split()[0],
    USER,
    quote(USER),
    KEY,
    PIXELS.decode(),
    base64.b64encode(PICTURE)[(_AT // 3 + 1) * 4 : (_AT // 3 + 3) * 4].decode(),
)


def found_in(text: str) -> set[str]:
    return {sign for sign in SIGNS if sign in text}


# ---- what is written --------------------------------------------------------------------------------------


def written(guard: Guard, heard: Heard) -> Iterator[tuple[str, str]]:
    """Everything but the log."""
    for span in heard.spans:
        yield f"span {span.name}", span.to_json()
    yield "metrics", str(heard.points())
    for row in guard.store.events(limit=1000):
        yield f"event {row.event.type}", repr(row.event)
    yield "webhook", sent_by_webhook(guard)


def sent_by_webhook(guard: Guard) -> str:
    sent: list[bytes] = []

    def receive(request: httpx2.Request) -> httpx2.Response:
        sent.append(request.content)
        return httpx2.Response(204)

    seal(guard.store, guard.vault, NOW)
    events = [event_document(row) for row in guard.store.seals.sealed(0, 1000)]
    webhook = Webhook("https://example.com/hook", SECRET)
    webhook.close()
    webhook._client = httpx2.Client(transport=httpx2.MockTransport(receive))
    webhook.send(Batch("siem", 0, len(events), [event for event in events if event], {}), NOW)
    webhook.close()
    return sent[0].decode()


def logged(record: logging.LogRecord) -> str:
    """All that any handler could make of a record of ours: also what stands in it unformatted."""
    lines = JsonFormatter().format(record), TextFormatter().format(record), str(record.__dict__)
    return "\n".join(lines)


# ---- doors ------------------------------------------------------------------------------------------------

Upstream = Callable[[], Mapping[str, Any]]  # answers with the API's JSON, or raises
Said = str  # what the caller gets to see from us: a body, or the words of an exception of ours
Call = Callable[[Guard, Upstream, dict[str, Any]], Said]


def refused(call: Callable[[], Any]) -> Said:
    """An exception of the app's own is the app's own: it goes through as it is."""
    try:
        call()
    except PolicyRefused as error:
        return f"{error!r} {error} {error.answer!r}"
    except openai.APIStatusError as error:
        return f"{error} {error.response.text}" if "x-policyguard" in error.response.text else ""
    except Exception:
        return ""
    return ""


def middleware(guard: Guard, upstream: Upstream, asked: dict[str, Any]) -> Said:
    body = {"model": MODEL, "size": "1024x1024", "quality": "low", "n": 1, "prompt": PROMPT, **asked}
    path, answers = "/v1/images/generations", []
    if body.pop("picture", None):
        path = "/v1/images/edits"
        body["images"] = [{"image_url": f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"}]

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        answer = json.dumps(upstream()).encode()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": answer})

    async def receive() -> Any:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: Any) -> None:
        answers.append(repr(message))

    headers = {"content-type": "application/json", "x-user-id": USER, "x-tenant": "acme", "authorization": KEY}
    raw = [(name.encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": raw, "client": ("127.0.0.1", 5)}
    door = PolicyGuardMiddleware(app, guard=guard)
    refused(lambda: anyio.run(door, {**scope, "query_string": b""}, receive, send))
    return "".join(answers)


def _call(client: Any, asked: dict[str, Any]) -> Any:
    given = {"model": MODEL, "size": "1024x1024", "quality": "low", "n": 1, "prompt": PROMPT, **asked}
    if given.pop("picture", None):
        return client.images.edit(image=("canary.png", PICTURE, "image/png"), **given)
    return client.images.generate(**given)


def client(guard: Guard, upstream: Upstream, asked: dict[str, Any]) -> Said:
    below = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json=upstream())))
    sdk = OpenAI(api_key=KEY, base_url="http://api.test/v1", http_client=below, max_retries=0)
    with below:
        return refused(lambda: _call(guarded(sdk, guard, surface="avatars", caller=lambda: WHO), asked))


def async_client(guard: Guard, upstream: Upstream, asked: dict[str, Any]) -> Said:
    async def run() -> None:
        below = httpx2.AsyncClient(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, json=upstream())))
        sdk = AsyncOpenAI(api_key=KEY, base_url="http://api.test/v1", http_client=below, max_retries=0)
        async with below:
            await _call(guarded(sdk, guard, surface="avatars", caller=lambda: WHO), asked)

    return refused(lambda: anyio.run(run))


def decorator(guard: Guard, upstream: Upstream, asked: dict[str, Any]) -> Said:
    @guard.enforce("avatars")
    def draw(prompt: str, model: Any, size: Any, quality: Any, n: Any, image: Any = None) -> Any:
        return upstream()

    with policyguard.caller(**WHO):
        return refused(lambda: draw(**_arguments(asked)))


def async_decorator(guard: Guard, upstream: Upstream, asked: dict[str, Any]) -> Said:
    @guard.enforce("avatars")
    async def draw(prompt: str, model: Any, size: Any, quality: Any, n: Any, image: Any = None) -> Any:
        return upstream()

    async def run() -> None:
        await draw(**_arguments(asked))

    with policyguard.caller(**WHO):
        return refused(lambda: anyio.run(run))


def _arguments(asked: dict[str, Any]) -> dict[str, Any]:
    given = {"model": MODEL, "size": "1024x1024", "quality": "low", "n": 1, "prompt": PROMPT, **asked}
    if given.pop("picture", None):
        given["image"] = PICTURE
    return given


DOORS: Mapping[str, Call] = {
    "middleware": middleware,
    "client": client,
    "async client": async_client,
    "decorator": decorator,
    "async decorator": async_decorator,
}

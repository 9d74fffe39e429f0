"""One request through each door of a surface that looks at output, and what the caller gets to see of it."""

from __future__ import annotations

import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import httpx2
import openai
from adapters.test_asgi import ask
from adapters.upstream import URL, png
from openai import AsyncOpenAI, OpenAI

import policyguard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.transport import guarded
from policyguard.decision import PolicyRefused
from policyguard.guard.guard import Guard

PICTURE = png()
ENCODED = base64.b64encode(PICTURE).decode()
USAGE = {"input_tokens": 10, "output_tokens": 196}
ANSWER = {"created": 1, "data": [{"b64_json": ENCODED}], "usage": USAGE}
OWN_ANSWER = {"pictures": [{"content": ENCODED}], "cost": USAGE}
OWN = (
    "{route: POST /api/avatars, fields: {prompt: body.text}, usage: response.cost, "
    "images: 'response.pictures[].content', "
    "constants: {model: gpt-image-2-2026-04-21, size: 1024x1024, quality: low, n: 1, moderation: auto}}"
)
CONSTANTS: dict[str, Any] = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1}
USER = (b"x-user-id", b"u1")


def event(kind: str, **more: Any) -> bytes:
    document = {"type": f"image_generation.{kind}", **more}
    return f"event: image_generation.{kind}\ndata: {json.dumps(document)}\n\n".encode()


PARTIAL = event("partial_image", partial_image_index=0, b64_json=base64.b64encode(b"partial").decode())
COMPLETED = event("completed", b64_json=ENCODED, usage=USAGE)


@dataclass(frozen=True)
class Seen:
    """What came back. `picture`: the bytes of the picture were in it."""

    status: int
    code: str | None = None
    stage: str | None = None
    review_id: str | None = None
    picture: bool = False
    partial: bool = False

    @classmethod
    def of(cls, status: int, body: bytes) -> Seen:
        error = json.loads(body).get("error", {}) if status >= 400 else {}
        details = error.get("moderation_details") or {}
        review_id = (error.get("policy") or {}).get("review_id")
        found = ENCODED.encode() in body
        return cls(status, error.get("code"), details.get("moderation_stage"), review_id, found, b"partial_im" in body)


Door = Callable[[Guard, str | None], Awaitable[Seen]]


class App:
    """An ASGI app that answers in two pieces."""

    def __init__(self, body: bytes, content_type: str = "application/json", status: int = 200) -> None:
        self.body, self.content_type, self.status = body, content_type, status
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.bodies.append((await receive())["body"])
        headers = [(b"content-type", self.content_type.encode())]
        await send({"type": "http.response.start", "status": self.status, "headers": headers})
        middle = len(self.body) // 2
        await send({"type": "http.response.body", "body": self.body[:middle], "more_body": True})
        await send({"type": "http.response.body", "body": self.body[middle:]})


async def through_app(guard: Guard, review_id: str | None, app: App, path: str, document: Any) -> Seen:
    messages: list[Any] = []

    async def keep(message: Any) -> None:
        messages.append(message)

    headers = [(b"content-type", b"application/json"), USER]
    headers += [(b"x-policyguard-review", review_id.encode())] if review_id else []
    door = PolicyGuardMiddleware(app, guard=guard)
    await ask(door, json.dumps(document).encode(), path=path, headers=headers, send=keep)
    body = b"".join(m.get("body", b"") for m in messages[1:])
    declared = dict(messages[0]["headers"]).get(b"content-length")
    assert declared in (None, str(len(body)).encode())
    return Seen.of(messages[0]["status"], body)


async def asgi(guard: Guard, review_id: str | None) -> Seen:
    app = App(json.dumps(ANSWER).encode())
    return await through_app(guard, review_id, app, "/v1/images/generations", {"prompt": "a cat"})


async def asgi_stream(guard: Guard, review_id: str | None) -> Seen:
    app = App(PARTIAL + COMPLETED, "text/event-stream; charset=utf-8")
    asked = {"prompt": "a cat", "stream": True, "partial_images": 1}
    return await through_app(guard, review_id, app, "/v1/images/generations", asked)


async def own_route(guard: Guard, review_id: str | None) -> Seen:
    app = App(json.dumps(OWN_ANSWER).encode())
    return await through_app(guard, review_id, app, "/api/avatars", {"text": "a cat"})


def upstream(request: httpx2.Request) -> httpx2.Response:
    asked = json.loads(request.read())
    if not asked.get("stream"):
        return httpx2.Response(200, json=ANSWER)
    return httpx2.Response(200, content=PARTIAL + COMPLETED, headers={"content-type": "text/event-stream"})


def _headers(review_id: str | None) -> dict[str, str]:
    return {"x-policyguard-review": review_id} if review_id else {}


def _refused(error: openai.APIStatusError) -> Seen:
    return Seen.of(error.status_code, error.response.content)


async def client(guard: Guard, review_id: str | None) -> Seen:
    below = httpx2.Client(transport=httpx2.MockTransport(upstream))
    sdk = guarded(OpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    with policyguard.caller(user="u1"):
        try:
            raw = sdk.images.with_raw_response.generate(prompt="a cat", extra_headers=_headers(review_id))
        except openai.APIStatusError as error:
            return _refused(error)
    return Seen.of(raw.status_code, raw.http_response.content)


async def async_client(guard: Guard, review_id: str | None) -> Seen:
    below = httpx2.AsyncClient(transport=httpx2.MockTransport(upstream))
    sdk = guarded(AsyncOpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    with policyguard.caller(user="u1"):
        try:
            raw = await sdk.images.with_raw_response.generate(prompt="a cat", extra_headers=_headers(review_id))
        except openai.APIStatusError as error:
            return _refused(error)
    return Seen.of(raw.status_code, raw.http_response.content)


async def client_stream(guard: Guard, review_id: str | None) -> Seen:
    below = httpx2.Client(transport=httpx2.MockTransport(upstream))
    sdk = guarded(OpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    with policyguard.caller(user="u1"):
        try:
            stream = sdk.images.generate(
                prompt="a cat", stream=True, partial_images=1, extra_headers=_headers(review_id)
            )
        except openai.APIStatusError as error:
            return _refused(error)
        events = list(stream)
    return Seen(
        200,
        picture=any(getattr(e, "b64_json", "") == ENCODED for e in events),
        partial=any(e.type.endswith("partial_image") for e in events),
    )


def _images(result: Any) -> list[str]:
    return [image["b64_json"] for image in result["data"]]


def _restore(images: list[bytes]) -> Any:
    return {"data": [{"b64_json": base64.b64encode(image).decode()} for image in images]}


async def decorator(guard: Guard, review_id: str | None) -> Seen:
    @guard.enforce("avatars", constants=CONSTANTS, images=_images, restore=_restore)
    def draw(prompt: str) -> Any:
        return ANSWER

    with policyguard.caller(user="u1"), policyguard.resume(review_id or ""):
        try:
            result = draw("a cat")
        except PolicyRefused as refused:
            return _raised(refused)
    return Seen(200, picture=_images(result) == [ENCODED])


async def async_decorator(guard: Guard, review_id: str | None) -> Seen:
    @guard.enforce("avatars", constants=CONSTANTS, images=_images, restore=_restore)
    async def draw(prompt: str) -> Any:
        return ANSWER

    with policyguard.caller(user="u1"), policyguard.resume(review_id or ""):
        try:
            result = await draw("a cat")
        except PolicyRefused as refused:
            return _raised(refused)
    return Seen(200, picture=_images(result) == [ENCODED])


def _raised(refused: PolicyRefused) -> Seen:
    stage = getattr(refused.answer, "stage", None) if refused.code == "moderation_blocked" else None
    return Seen(refused.status, refused.code, stage, refused.review_id)


DOORS: dict[str, Door] = {
    "asgi": asgi,
    "asgi stream": asgi_stream,
    "own route": own_route,
    "client": client,
    "async client": async_client,
    "client stream": client_stream,
    "decorator": decorator,
    "async decorator": async_decorator,
}

"""Streams and edits as JSON through the middleware: nothing is kept back, and each leg ends once."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest
from PIL import Image
from starlette.background import BackgroundTask
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, StreamingResponse
from support import SURFACE

from policyguard import pricing
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.flow import rows
from policyguard.flow.steps import Moderate
from policyguard.guard.guard import Guard
from policyguard.moderation.answers import questions
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Size, Verdict
from policyguard.wire.edits_json import read_json_edit

pytestmark = pytest.mark.anyio
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
HEADERS = [(b"content-type", b"application/json"), (b"x-user-id", b"u1")]
STREAMED = SURFACE.replace("{max: 2}", "{max: 2}\n  partial_images: {max: 2}")
ASKED = {"prompt": "a cat", "stream": True, "partial_images": 1}
PARTIAL = b'data: {"type": "image_generation.partial_image", "b64_json": "eA=="}\n\n'
COMPLETED = (
    b'data: {"type": "image_generation.completed", "b64_json": "eA==", '
    b'"usage": {"input_tokens": 10, "output_tokens": 296}}\n\n'
)


def url(colour: str = "teal") -> str:
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 48), colour).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


class Client:
    """Sends one body; `left` is set when it goes away."""

    def __init__(self, document: Any = ASKED, path: str = GENERATIONS) -> None:
        self.left = anyio.Event()
        self.messages: list[Any] = []
        self.scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "headers": HEADERS,
            "client": ("127.0.0.1", 5),
            "asgi": {"spec_version": "2.3"},
        }
        self._body: bytes | None = json.dumps(document).encode()

    async def receive(self) -> Any:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Any) -> None:
        self.messages.append(message)

    @property
    def chunks(self) -> list[bytes]:
        return [m["body"] for m in self.messages[1:] if m.get("body")]


def streams(events: AsyncIterator[bytes]) -> Any:
    """An app that answers with `events`, as Starlette does it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await StreamingResponse(events, media_type="text/event-stream")(scope, receive, send)

    return app


def ends(guard: Guard) -> list[Any]:
    rows = [row.event for row in guard.store.events(limit=100) if row.event.type.startswith("leg.")]
    return [(event.type, event.body["failure"]) for event in rows]


async def ask(guard: Guard, app: Any, client: Client) -> None:
    await PolicyGuardMiddleware(app, guard=guard)(client.scope, client.receive, client.send)


# ---- streams ----------------------------------------------------------------------------------------------


async def test_each_event_is_passed_on_before_the_next_one_is_made(open_guard: Callable[..., Guard]) -> None:
    guard, client = open_guard(avatars=STREAMED), Client()
    seen: list[int] = []

    async def events() -> AsyncIterator[bytes]:
        for event in (PARTIAL[:20], PARTIAL[20:], COMPLETED):
            yield event
            seen.append(len(client.chunks))

    await ask(guard, streams(events()), client)
    assert (seen, client.chunks) == ([1, 2, 3], [PARTIAL[:20], PARTIAL[20:], COMPLETED])
    assert ends(guard) == [("leg.settled", None)]


async def test_a_leg_ends_with_the_last_byte_and_not_with_what_the_app_does_then(
    open_guard: Callable[..., Guard],
) -> None:
    guard, client = open_guard(), Client({"prompt": "a cat"})
    told: list[Any] = []

    async def later() -> None:
        told.extend(ends(guard))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        answer = {"data": [{"b64_json": "eA=="}], "usage": {"input_tokens": 10, "output_tokens": 196}}
        await JSONResponse(answer, background=BackgroundTask(later))(scope, receive, send)

    await ask(guard, app, client)
    assert told == ends(guard) == [("leg.settled", None)]


@pytest.mark.parametrize(
    ("before", "end"),
    [
        ([PARTIAL], ("leg.presumed", "cancelled")),
        ([PARTIAL, COMPLETED[:-30]], ("leg.presumed", "cancelled")),
        ([PARTIAL, COMPLETED], ("leg.settled", None)),
    ],
)
async def test_a_client_that_leaves_stops_the_app_and_is_charged_by_what_was_seen(
    open_guard: Callable[..., Guard], before: list[bytes], end: Any
) -> None:
    guard, client = open_guard(avatars=STREAMED), Client()
    closed: list[bool] = []

    async def events() -> AsyncIterator[bytes]:
        try:
            for event in before:
                yield event
            client.left.set()
            await anyio.sleep_forever()
        finally:
            closed.append(True)

    with anyio.fail_after(10):
        await ask(guard, streams(events()), client)
    assert (ends(guard), closed) == ([end], [True])


async def test_an_app_that_goes_on_when_the_client_has_left_is_settled_by_its_usage(
    open_guard: Callable[..., Guard],
) -> None:
    guard, client = open_guard(avatars=STREAMED), Client()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PARTIAL, "more_body": True})
        client.left.set()
        assert (await receive())["type"] == "http.disconnect"
        await send({"type": "http.response.body", "body": COMPLETED, "more_body": False})

    await ask(guard, app, client)
    assert ends(guard) == [("leg.settled", None)]


async def test_a_server_that_cannot_send_any_more_means_that_the_client_left(open_guard: Callable[..., Guard]) -> None:
    guard, client = open_guard(avatars=STREAMED), Client()

    async def gone(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client left")

    async def events() -> AsyncIterator[bytes]:
        yield PARTIAL
        yield COMPLETED

    client.scope["asgi"] = {"spec_version": "2.4"}
    with pytest.raises(ClientDisconnect):
        await PolicyGuardMiddleware(streams(events()), guard=guard)(client.scope, client.receive, gone)
    assert ends(guard) == [("leg.presumed", "cancelled")]


async def test_a_stream_that_the_app_leaves_open_is_cut_not_cancelled(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=STREAMED)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": PARTIAL, "more_body": True})

    await ask(guard, app, Client())
    assert ends(guard) == [("leg.presumed", "cut")]


@pytest.mark.parametrize(("events", "end"), [(1, ("leg.presumed", "no_usage")), (2, ("leg.settled", None))])
async def test_a_stream_of_two_images_is_settled_when_both_are_completed(
    open_guard: Callable[..., Guard], events: int, end: Any
) -> None:
    async def made() -> AsyncIterator[bytes]:
        for _ in range(events):
            yield COMPLETED

    guard = open_guard(avatars=STREAMED)
    await ask(guard, streams(made()), Client({**ASKED, "n": 2}))
    assert ends(guard) == [end]


async def test_a_stream_is_priced_with_its_partial_images_and_says_so(open_guard: Callable[..., Guard]) -> None:
    async def none() -> AsyncIterator[bytes]:
        yield b""

    guard = open_guard(avatars=STREAMED)
    for partial_images in (0, 2):
        await ask(guard, streams(none()), Client({**ASKED, "partial_images": partial_images}))
    bodies = [r.event.body for r in guard.store.events(limit=100) if r.event.type == "request.decided"]
    assert bodies[1]["estimated_micros"] - bodies[0]["estimated_micros"] == 200 * 30
    assert [(body["request"]["stream"], body["request"]["partial_images"]) for body in bodies] == [(True, 0), (True, 2)]


async def test_a_surface_that_names_no_partial_images_streams_without(open_guard: Callable[..., Guard]) -> None:
    guard, bodies = open_guard(), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append(json.loads((await receive())["body"]))

    await ask(guard, app, Client({"prompt": "a cat", "stream": True}))
    assert (bodies[0]["stream"], bodies[0]["partial_images"]) == (True, 0)
    refused = Client()
    await ask(guard, app, refused)
    assert (refused.messages[0]["status"], len(bodies)) == (400, 1)


# ---- edits as JSON ----------------------------------------------------------------------------------------


async def test_the_pictures_of_json_are_moderated_counted_and_priced(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, bodies, looked = open_guard(), [], []

    async def look(step: Moderate) -> Verdict:
        looked.append([image.data for image in step.request.images] if step.images else [])
        return moderator.moderate(step)

    monkeypatch.setattr(moderator, "amoderate", look)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])

    images = [{"image_url": url()}, {"image_url": url("red")}]
    await ask(guard, app, Client({"prompt": "a hat", "images": images}, EDITS))
    (decided,) = (r.event.body for r in guard.store.events(limit=100) if r.event.type == "request.decided")
    assert looked == [[base64.b64decode(image["image_url"].partition(",")[2]) for image in images]]
    assert decided["input_images"] == 2
    assert decided["estimated_micros"] > 2 * pricing.input_image_tokens(Size(64, 48)) * 8
    assert json.loads(bodies[0])["images"] == images


async def test_too_many_pictures_are_refused_like_in_a_form(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=SURFACE.replace("{max: 2}", "{max: 2}\n  input_images: {max: 1, max_bytes: 1MB}"))
    client = Client({"prompt": "a hat", "images": [{"image_url": url()}] * 2}, EDITS)
    await ask(guard, None, client)
    error = json.loads(client.messages[1]["body"])["error"]
    assert (error["code"], error["policy"]["reasons"][0]["id"]) == ("policy_violation", "request.input_images")


ELSEWHERE = {"image_url": "https://images.example.com/a.png"}
TRUSTING = SURFACE.replace("{max: 2}", "{max: 2}\n  input_images: {hosts: [images.example.com]}")


async def test_a_picture_elsewhere_is_moderated_by_its_address_where_its_host_is_named(
    open_guard: Callable[..., Guard], moderator: ScriptedModerator, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, bodies, looked = open_guard(avatars=TRUSTING), [], []

    async def look(step: Moderate) -> Verdict:
        looked.extend(question.wire() for question in questions(step) if question.image)
        return moderator.moderate(step)

    monkeypatch.setattr(moderator, "amoderate", look)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])

    await ask(guard, app, Client({"prompt": "a hat", "images": [ELSEWHERE, {"image_url": url()}]}, EDITS))
    assert looked[0] == [{"type": "image_url", "image_url": {"url": ELSEWHERE["image_url"]}}]
    assert json.loads(bodies[0])["images"][0] == ELSEWHERE


@pytest.mark.parametrize(
    ("surface", "address", "code"),
    [
        (SURFACE, ELSEWHERE["image_url"], "policy_violation"),
        (TRUSTING, "https://images.example.com.evil.example/a.png", "policy_violation"),
        (TRUSTING, "https://evil.example/images.example.com", "policy_violation"),
        (TRUSTING, "https://images.example.com@evil.example/a.png", "invalid_request"),
        (TRUSTING, "http://images.example.com/a.png", "invalid_request"),
    ],
)
async def test_a_picture_elsewhere_is_refused_otherwise(
    open_guard: Callable[..., Guard], surface: str, address: str, code: str
) -> None:
    client = Client({"prompt": "a hat", "images": [{"image_url": address}]}, EDITS)
    await ask(open_guard(avatars=surface), None, client)
    error = json.loads(client.messages[1]["body"])["error"]
    assert (client.messages[0]["status"], error["code"]) == (400, code)
    assert "evil" not in json.dumps(error)


def test_an_approval_is_bound_to_the_pictures_of_json() -> None:
    def digest(colour: str, mask: str | None = None) -> str:
        masked = {"mask": {"image_url": url(mask)}} if mask else {}
        body = {"prompt": "a hat", "images": [{"image_url": url(colour)}], **masked}
        return rows.request_digest(read_json_edit(json.dumps(body).encode(), "application/json").request)

    assert len({digest("teal"), digest("red"), digest("teal", "red"), digest("teal", "teal")}) == 4
    assert digest("teal") == digest("teal")

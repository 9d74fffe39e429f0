"""A request's body within limits, its replay to the app, and how either side says that it has ended.

Only bytes and ASGI messages here; what they mean is read in `wire`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import Any

import anyio

from policyguard.errors import InvalidRequest
from policyguard.request import Failure
from policyguard.wire.refusals import Rendered

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]


class ClientLeft(Exception):
    """The client went away before its request was complete: there is nothing to decide."""


class AppFailed(Exception):
    """Raised by an app that says why it has no answer, or not the whole of it; who decided its request is put on."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.value)
        self.failure = failure
        self.decision_id: str | None = None


async def read_body(receive: Receive, declared: str | None, *, limit: int, timeout_s: float) -> bytes:
    """The whole body. Raises `InvalidRequest` (413, or 400 for one that does not come to an end), `ClientLeft`."""
    if declared is not None and declared.isdecimal() and int(declared) > limit:
        raise too_large(limit)
    chunks: list[bytes] = []
    size = 0
    try:
        with anyio.fail_after(timeout_s):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise ClientLeft
                chunk = message.get("body", b"")
                size += len(chunk)
                if size > limit:
                    raise too_large(limit)
                chunks.append(chunk)
                if not message.get("more_body", False):
                    return b"".join(chunks)
    except TimeoutError:
        raise InvalidRequest(f"the body did not arrive within {timeout_s:g} seconds") from None


def too_large(limit: int) -> InvalidRequest:
    return InvalidRequest(f"the body is larger than {limit:,} bytes", status=413)


def raw(headers: Iterable[tuple[str, str]]) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]


async def respond(answer: Rendered, send: Send) -> None:
    """A whole answer of our own."""
    await send({"type": "http.response.start", "status": answer.status, "headers": raw(answer.headers)})
    await send({"type": "http.response.body", "body": answer.body})


class Replay:
    """`body` once, then whatever the server says, so that a disconnect still arrives. `left`: it did."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self.left = False
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        message = await self._receive()
        self.left = self.left or message["type"] == "http.disconnect"
        return message

"""What the proxy does with a request that was admitted: one call upstream, and its answer back as it comes.

An ASGI app behind a guarded request, like the app behind the middleware. It tries nothing again, because each attempt
may be billed; clients do, and each of their attempts is decided anew. When the client leaves, the call ends.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import anyio

from policyguard.adapters.body import Message, Receive, Send, raw
from policyguard.proxy.addresses import BASE
from policyguard.proxy.upstream import RawHeader, Upstream, UpstreamAnswer, to_upstream
from policyguard.wire.errors import render_error


class Forwarder:
    """Sends to `upstream`. `identity` says which headers say who somebody is; they stay here."""

    def __init__(self, upstream: Upstream, identity: Callable[[], frozenset[bytes]]) -> None:
        self._upstream = upstream
        self._identity = identity

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        message = await receive()
        headers = to_upstream(scope["headers"], self._identity())
        path = scope["path"].removeprefix(BASE)
        with anyio.CancelScope() as call:
            watching = asyncio.create_task(_leave(receive, call))
            try:
                async with self._upstream.post(path, headers, message["body"]) as answer:
                    await _pass(answer, send)
            finally:
                watching.cancel()


async def _pass(answer: UpstreamAnswer, send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": _streamed(answer)})
    declared = answer.names.get("content-length", "")
    left = int(declared) if declared.isdecimal() else None
    more = True
    async for chunk in answer.chunks():
        left = None if left is None else left - len(chunk)
        more = left != 0
        await send({"type": "http.response.body", "body": chunk, "more_body": more})
    if more:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


def _streamed(answer: UpstreamAnswer) -> list[RawHeader]:
    """Of a stream, that nobody between here and the client gathers or keeps it."""
    if not answer.names.get("content-type", "").lower().startswith("text/event-stream"):
        return answer.headers
    kept = [(name, value) for name, value in answer.headers if name not in (b"cache-control", b"x-accel-buffering")]
    return [*kept, (b"cache-control", b"no-store"), (b"x-accel-buffering", b"no")]


async def _leave(receive: Receive, call: anyio.CancelScope) -> None:
    """End the call when its client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
    call.cancel()


class ToClient:
    """The last step before the client. An upstream that does not take our key is no matter of the client's key, and its
    words may hold a part of ours.
    """

    def __init__(self, send: Send) -> None:
        self.started = False
        self._send = send
        self._hiding = False

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.started = True
            self._hiding = message["status"] == 401
            if self._hiding:
                await self._hide(message)
                return
        if not self._hiding:
            await self._send(message)

    async def _hide(self, start: Message) -> None:
        ours = [(n, v) for n, v in start["headers"] if n.startswith(b"x-policyguard-") or n == b"x-request-id"]
        error = render_error(
            502, "server_error", "upstream_key_refused", "the upstream refused the proxy's own key", NO_RETRY
        )
        await self._send(
            {"type": "http.response.start", "status": error.status, "headers": [*raw(error.headers), *ours]}
        )
        await self._send({"type": "http.response.body", "body": error.body})


NO_RETRY = ("x-should-retry", "false")

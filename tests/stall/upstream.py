"""The sandbox, which answers one prompt with line ends without end: `python upstream.py`. Prints its address."""

from __future__ import annotations

import socket
from typing import Any

import uvicorn
from stall.kinds import LINE_ENDS

from policyguard.sandbox import create_app

MEGABYTES = 2
ENDS = b"\n" * 1_000_000


class Upstream:
    def __init__(self) -> None:
        self._sandbox = create_app()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["path"] != "/v1/images/generations":
            await self._sandbox(scope, receive, send)
            return
        first = await receive()
        if LINE_ENDS.encode() in first["body"]:
            await _line_ends(send)
            return
        messages = iter([first])

        async def again() -> Any:
            return next(messages, None) or await receive()

        await self._sandbox(scope, again, send)


async def _line_ends(send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    for _ in range(MEGABYTES):
        await send({"type": "http.response.body", "body": ENDS, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


if __name__ == "__main__":
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.bind(("127.0.0.1", 0))
    listening.listen(100)
    print(f"http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
    uvicorn.Server(uvicorn.Config(Upstream(), log_level="error", ws="none")).run([listening])

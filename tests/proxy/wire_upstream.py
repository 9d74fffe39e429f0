"""An upstream on a real socket that keeps the bytes it was sent and answers with bytes that a test wrote."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from policyguard.request import CATEGORIES

USAGE = {"created": 1, "data": [], "usage": {"input_tokens": 10, "output_tokens": 196}}


def http(status: int, document: Any, *more: str) -> bytes:
    """A whole answer."""
    body = json.dumps(document).encode()
    lines = (f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(body)}", *more)
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def scores(**higher: float) -> bytes:
    result = {
        "category_scores": {**dict.fromkeys(CATEGORIES, 0.0), **higher},
        "category_applied_input_types": {name: ["text", "image"] for name in CATEGORIES},
    }
    return http(200, {"id": "modr-1", "model": "omni-moderation-2024-09-26", "results": [result]})


class Seen:
    """One request as it came."""

    def __init__(self, head: bytes, body: bytes) -> None:
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.path, _ = first.split(" ")
        self.headers = {n.lower(): v for n, _, v in (line.partition(": ") for line in lines if line)}
        self.body = body


class WireUpstream:
    """`answers` by path; an answer is bytes, or a list of bytes and events that are waited for; then it may be cut."""

    def __init__(self) -> None:
        self.url, self.port = "", 0
        self.seen: list[Seen] = []
        self.connections = 0
        self.left = asyncio.Event()  # a client went away while its answer was still to come
        self.answers: dict[str, Any] = {"/v1/moderations": scores(), "/v1/images/generations": http(200, USAGE)}

    @property
    def images(self) -> list[Seen]:
        return [one for one in self.seen if "moderations" not in one.path]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while await self._one(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
        one = Seen(head, await reader.readexactly(int(length or 0)))
        self.seen.append(one)
        answer = self.answers.get(one.path, http(404, {"error": {"message": "no", "type": "x", "code": None}}))
        for part in answer if isinstance(answer, list) else [answer]:
            if isinstance(part, asyncio.Event):
                gone = asyncio.ensure_future(reader.read(1))
                waited = asyncio.ensure_future(part.wait())
                await asyncio.wait({gone, waited}, return_when=asyncio.FIRST_COMPLETED)
                waited.cancel()
                if gone.done():
                    self.left.set()
                    return False
                gone.cancel()
            else:
                writer.write(part)
                await writer.drain()
        return not isinstance(answer, list)  # an answer in parts ends with its connection


@asynccontextmanager
async def wire_upstream(port: int = 0) -> AsyncIterator[WireUpstream]:
    upstream = WireUpstream()
    server = await asyncio.start_server(upstream.serve, "127.0.0.1", port)
    upstream.port = server.sockets[0].getsockname()[1]
    upstream.url = f"http://127.0.0.1:{upstream.port}/v1"
    try:
        yield upstream
    finally:
        server.close()

"""Connections before there is a request, over real sockets."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn
from patience import HANGS_S
from uvicorn.server import ServerState

from policyguard.adapters.http_limits import ConnectionLimits, LimitedProtocol

pytestmark = pytest.mark.anyio
ASK = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{}"


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": b"ok"})


@asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[int]:
    config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
    config.load()
    state, found = ServerState(), ConnectionLimits(**limits)
    server = await asyncio.get_running_loop().create_server(
        lambda: LimitedProtocol(found, config=config, server_state=state, app_state={}), "127.0.0.1", 0
    )
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for connection in list(state.connections):
            connection.transport.close()


async def answer(port: int, *sent: bytes) -> tuple[int, bytes]:
    """The status and all that comes until the other side closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    async with asyncio.timeout(HANGS_S):
        for part in sent:
            writer.write(part)
            await writer.drain()
        writer.write_eof()
        said = await reader.read()
    writer.close()
    head, _, body = said.partition(b"\r\n\r\n")
    return int(head.split(b" ")[1]) if head else 0, body


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(ASK)
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    return await reader.readexactly(2)


async def test_requests_are_answered_one_after_another_on_one_connection() -> None:
    async with serving(header_bytes=1_000) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        assert [await ask(reader, writer) for _ in range(50)] == [b"ok"] * 50
        writer.close()


async def test_headers_without_end_are_refused_and_the_connection_closed() -> None:
    async with serving(header_bytes=1_000) as port:
        status, body = await answer(port, b"POST / HTTP/1.1\r\n", *[b"x-more: " + b"x" * 100 + b"\r\n"] * 20)
    assert (status, json.loads(body)["error"]["code"]) == (431, "invalid_request")


async def test_a_large_body_is_no_header() -> None:
    async with serving(header_bytes=1_000) as port:
        head = b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 50000\r\nconnection: close\r\n\r\n"
        assert await answer(port, head, b"x" * 25_000, b"x" * 25_000) == (200, b"ok")


@pytest.mark.parametrize("sent", [b"", b"POST / HTTP/1.1\r\nhost:"])
async def test_headers_have_a_time_to_arrive_in(sent: bytes) -> None:
    async with serving(header_s=0.1) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        async with asyncio.timeout(HANGS_S):
            said = await reader.read()
        writer.close()
    assert said.startswith(b"HTTP/1.1 408 ")


async def test_what_is_no_http_is_answered_in_the_one_shape() -> None:
    async with serving() as port:
        status, body = await answer(port, b"hello\r\n\r\n")
    assert (status, json.loads(body)["error"]["message"]) == (400, "this is no HTTP request")


async def test_connections_beyond_the_limit_are_closed_and_a_free_place_is_taken_again() -> None:
    async with serving(connections=2) as port:
        kept = [await asyncio.open_connection("127.0.0.1", port) for _ in range(2)]
        assert [await ask(*one) for one in kept] == [b"ok"] * 2
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        async with asyncio.timeout(HANGS_S):
            with suppress(ConnectionError):  # closed, by either way of saying so
                assert await reader.read() == b""
        writer.close()
        kept[0][1].close()
        await kept[0][1].wait_closed()
        await asyncio.sleep(0)
        again = await asyncio.open_connection("127.0.0.1", port)
        assert await ask(*again) == b"ok"
        for _, open_ in (*kept, again):
            open_.close()

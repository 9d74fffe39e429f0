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

from policyguard.proxy.http_limits import ConnectionLimits, LimitedProtocol

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


async def closed(port: int, host: str) -> bool:
    """Whether a new connection from `host` is closed at once, by either way of saying so."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
    async with asyncio.timeout(HANGS_S):
        with suppress(ConnectionError):
            writer.write(ASK)
            found = await reader.read(1)
            writer.close()
            return not found
    return True


async def test_connections_have_a_limit_of_which_one_address_gets_half() -> None:
    async with serving(connections=4) as port:
        first, second = "127.0.0.1", "127.0.0.2"
        kept = [
            await asyncio.open_connection("127.0.0.1", port, local_addr=(host, 0))
            for host in (first, first, second, second)
        ]
        assert [await ask(*one) for one in kept[:2]] == [b"ok"] * 2
        assert await closed(port, first)
        assert [await ask(*one) for one in kept[2:]] == [b"ok"] * 2
        assert await closed(port, "127.0.0.3")
        kept[0][1].close()
        await kept[0][1].wait_closed()
        await asyncio.sleep(0)
        assert not await closed(port, first)
        for _, open_ in kept:
            open_.close()


class Transport(asyncio.Transport):
    """A connection whose client reads what the test says."""

    def __init__(self) -> None:
        super().__init__({"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)})
        self.left, self.aborted = 100, False

    def get_write_buffer_size(self) -> int:
        return self.left

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.aborted

    def close(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


async def test_a_client_that_reads_nothing_is_cut_off_and_a_slow_one_is_not() -> None:
    config = uvicorn.Config(app, log_level="critical", lifespan="off", ws="none")
    config.load()
    waits: list[Any] = []

    class Loop:
        """Time passes when the test says so."""

        def __getattr__(self, name: str) -> Any:
            return getattr(asyncio.get_running_loop(), name)

        def call_later(self, seconds: float, call: Any, *args: Any) -> Any:
            waits.append((seconds, call, args))
            return asyncio.get_running_loop().call_later(3_600, lambda: None)

    connection = LimitedProtocol(ConnectionLimits(write_s=7), config=config, server_state=ServerState(), app_state={})
    connection.loop = Loop()  # type: ignore[assignment]
    transport = Transport()
    connection.connection_made(transport)
    connection.pause_writing()
    for left, aborted in ((60, False), (59, False), (59, True)):
        seconds, look, args = waits.pop()
        transport.left = left
        look(*args)
        assert (seconds, transport.aborted) == (7, aborted)
    connection.connection_lost(None)

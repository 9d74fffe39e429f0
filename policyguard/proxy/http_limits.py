"""What a connection may do before there is a request: uvicorn's HTTP protocol, with bounds that it has not.

Headers have a size and a time to arrive in, a process has only so many connections, and what is no HTTP is answered in
the one shape of errors.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from policyguard.proxy.proxy import headers_too_large
from policyguard.wire.errors import render_error
from policyguard.wire.refusals import Rendered


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """`header_s`: seconds from the first byte of a request, or from the connection, until its headers are there.

    `write_s`: seconds in which a client takes nothing of what is written to it, before it is cut off. One address gets
    half of `connections`.
    """

    connections: int = 2_000
    write_s: float = 60.0
    header_bytes: int = 32_768
    header_s: float = 20.0

    @property
    def each(self) -> int:
        """Connections of one address."""
        return -(-self.connections // 2)


class LimitedProtocol(HttpToolsProtocol):
    """One connection."""

    def __init__(self, limits: ConnectionLimits, **uvicorn: Any) -> None:
        super().__init__(**uvicorn)
        self._limits = limits
        self._head_bytes: int | None = 0  # of a request whose headers are still to come; None: they are there
        self._late: asyncio.TimerHandle | None = None
        self._stuck: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._limits.connections or self._of_this_address() > self._limits.each:
            transport.abort()
            return
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        self._headers_are_there()
        self._moves()
        super().connection_lost(exc)

    def _of_this_address(self) -> int:
        """Counted only where there are many: it looks at every connection."""
        if len(self.connections) <= self._limits.each or not self.client:
            return 0
        peers = (getattr(other, "client", None) for other in self.connections)
        return sum(peer is not None and peer[0] == self.client[0] for peer in peers)

    # ---- a client that reads nothing --------------------------------------------------------------------------

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_writing()

    def resume_writing(self) -> None:
        super().resume_writing()
        self._moves()

    def _watch_writing(self) -> None:
        left = self.transport.get_write_buffer_size()
        self._stuck = self.loop.call_later(self._limits.write_s, self._look_at_writing, left)

    def _look_at_writing(self, before: int) -> None:
        """A slow client is none that reads nothing."""
        if self.transport.get_write_buffer_size() >= before:
            self.transport.abort()
        else:
            self._watch_writing()

    def _moves(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()
            self._stuck = None

    def data_received(self, data: bytes) -> None:
        before = self._head_bytes
        super().data_received(data)
        if before is not None and self._head_bytes is not None and not self.transport.is_closing():
            self._head_bytes = before + len(data)
            if self._head_bytes > self._limits.header_bytes:
                self._end(headers_too_large(self._limits.header_bytes))

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._head_bytes = 0
        self._wait_for_headers()

    def on_headers_complete(self) -> None:
        self._headers_are_there()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        self._end(render_error(400, "invalid_request_error", "invalid_request", "this is no HTTP request"))

    def _wait_for_headers(self) -> None:
        if self._late is None:
            self._late = self.loop.call_later(self._limits.header_s, self._timed_out)

    def _headers_are_there(self) -> None:
        self._head_bytes = None
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _timed_out(self) -> None:
        words = f"the headers did not arrive within {self._limits.header_s:g} seconds"
        self._end(render_error(408, "invalid_request_error", "invalid_request", words))

    def _end(self, answer: Rendered) -> None:
        """Say it, and close: nobody knows what comes next on this connection."""
        self._headers_are_there()
        if self.transport.is_closing():
            return
        if self.cycle is None or self.cycle.response_complete:  # else another answer is on its way
            head = f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
            lines = "".join(f"{name}: {value}\r\n" for name, value in (*answer.headers, ("connection", "close")))
            self.transport.write(f"{head}{lines}\r\n".encode("latin-1") + answer.body)
        self.transport.close()

"""The bodies in flight have a bound together, and one holder gets half of it: nobody locks everybody out."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import AVATARS

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.room import Full, Room
from policyguard.guard.guard import Guard

PATH = "/avatars/v1/images/generations"
EDITS = "/avatars/v1/images/edits"


@given(st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 60), st.booleans()), max_size=60))
def test_what_is_taken_never_exceeds_the_bounds_and_all_comes_back(steps: list[tuple[str, int, bool]]) -> None:
    room, inside = Room(100, 9), []
    for holder, size, leaves in steps:
        if leaves and inside:
            inside.pop(0)[0].leave()
            continue
        try:
            guest = room.enter(holder)
        except Full:
            assert room.requests.left == 0 or sum(one[1] == holder for one in inside) >= 5
            continue
        inside.append((guest, holder))
        try:
            asyncio.run(guest.counted(arriving(size))())
        except Full:
            assert room.bytes.left < size or guest._room.bytes._of[holder] + size > 50
        assert room.bytes.left >= 0
        assert all(taken <= 50 for taken in room.bytes._of.values())
    for guest, _ in inside:
        guest.leave()
    assert (room.bytes.left, room.requests.left) == (100, 9)
    assert not room.bytes._of
    assert not room.requests._of


def arriving(size: int) -> Callable[[], Any]:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"x" * size, "more_body": True}

    return receive


class Upload:
    """A request whose body does not end before the test says so."""

    def __init__(self, app: Any, address: str, path: str = EDITS, sent: bytes = b"x" * 1_000) -> None:
        self.status = 0
        self.over, self.waits = asyncio.Event(), asyncio.Event()
        self._sent = [sent]
        kind = b"multipart/form-data; boundary=b" if path == EDITS else b"application/json"
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(b"content-type", kind), (b"x-user-id", b"u1")],
            "client": (address, 1),
        }
        self.task = asyncio.create_task(app(scope, self._receive, self._send))

    async def _receive(self) -> dict[str, Any]:
        if self._sent:
            return {"type": "http.request", "body": self._sent.pop(), "more_body": True}
        self.waits.set()
        await self.over.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: dict[str, Any]) -> None:
        self.status = message.get("status", self.status)

    async def begun(self) -> int:
        """Its status so far: 0 while it waits for more of its body."""
        waiting = asyncio.create_task(self.waits.wait())
        await asyncio.wait({waiting, self.task}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        return self.status


async def no_app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": json.dumps({"created": 1, "data": []}).encode()})


@pytest.mark.anyio
async def test_unfinished_uploads_of_one_address_leave_room_for_others(open_guard: Callable[..., Guard]) -> None:
    app = PolicyGuardMiddleware(no_app, guard=open_guard(avatars=AVATARS), max_bodies_bytes=8_000)
    stuck = [Upload(app, "203.0.113.1") for _ in range(4)]
    assert [await one.begun() for one in stuck] == [0] * 4
    fifth, other = Upload(app, "203.0.113.1"), Upload(app, "203.0.113.2")
    assert (await fifth.begun(), await other.begun()) == (503, 0)
    stuck[0].over.set()
    await stuck[0].task
    again = Upload(app, "203.0.113.1")
    assert await again.begun() == 0
    for one in (*stuck, other, again):
        one.over.set()
        await one.task
    assert app._room.bytes.left == 8_000


@pytest.mark.anyio
async def test_what_nobody_claims_is_read_up_to_a_limit_of_its_own(open_guard: Callable[..., Guard]) -> None:
    app = PolicyGuardMiddleware(no_app, guard=open_guard(avatars=AVATARS), max_unclaimed_bytes=500)
    long, short = Upload(app, "203.0.113.1", "/v1/responses"), Upload(app, "203.0.113.1", "/v1/responses", b'{"a": ')
    await long.task
    assert (long.status, await short.begun()) == (413, 0)
    short.over.set()
    await short.task

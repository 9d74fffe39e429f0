"""What the requests in flight may take of a process: together, and each holder (a key, or an address) of it.

One holder gets at most half, so that nobody locks everybody out with uploads that never end, or with many small ones.
"""

from __future__ import annotations

import sys
from collections import Counter

from policyguard.adapters.body import Message, Receive
from policyguard.wire.errors import render_error
from policyguard.wire.refusals import Rendered

BODIES_BYTES = 512 * 1024 * 1024
REQUESTS = 1_000


class Full(Exception):
    """There is no room now, for this holder or at all."""


class _Share:
    """So much of one thing, and how much each holder has of it."""

    def __init__(self, most: int) -> None:
        self.left, self._each = most, -(-most // 2)
        self._of: Counter[str] = Counter()

    def take(self, holder: str, amount: int) -> None:
        """Raises `Full`."""
        if amount > self.left or self._of[holder] + amount > self._each:
            raise Full
        self.left -= amount
        self._of[holder] += amount

    def give_back(self, holder: str, amount: int) -> None:
        self.left += amount
        self._of[holder] -= amount
        if not self._of[holder]:
            del self._of[holder]


class Room:
    """Bytes of bodies, and requests, in flight."""

    def __init__(self, bodies_bytes: int = BODIES_BYTES, requests: int = sys.maxsize) -> None:
        self.bytes, self.requests = _Share(bodies_bytes), _Share(requests)

    def enter(self, holder: str) -> Guest:
        """One more request; say `leave` at its end. Raises `Full`."""
        self.requests.take(holder, 1)
        return Guest(self, holder)


class Guest:
    """One request in the room. Its body counts from when it arrives until the request ends."""

    def __init__(self, room: Room, holder: str) -> None:
        self._room, self._holder = room, holder
        self._taken = 0

    def counted(self, receive: Receive) -> Receive:
        """`receive`, which raises `Full` for what there is no room for."""

        async def counting() -> Message:
            message = await receive()
            size = len(message.get("body", b""))
            self._room.bytes.take(self._holder, size)
            self._taken += size
            return message

        return counting

    def leave(self) -> None:
        self._room.bytes.give_back(self._holder, self._taken)
        self._room.requests.give_back(self._holder, 1)


def too_many() -> Rendered:
    """The answer where there is no room."""
    words = "there is as much in flight as this process takes, together or of one client"
    return render_error(503, "service_unavailable_error", "policy_unavailable", words, ("retry-after", "1"))

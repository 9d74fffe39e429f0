"""Ids that sort by time: a prefix, 48 bits of milliseconds and 80 random bits in Crockford's base 32 (a ULID).

The random bytes are taken from the system for many ids at once. Each question to the system lets other threads in
between, and getting back can take longer than the rest of a request's work. Every thread has bytes of its own, and a
forked process never goes on with those of its parent.
"""

from __future__ import annotations

import os
import threading
from datetime import datetime

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"
_PAIRS = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS = tuple(range(120, -1, -10))
_AT_ONCE = 4096  # random bytes


def new_id(prefix: str, now: datetime, random: bytes) -> str:
    """`random` is 10 bytes; `now` is aware. For example `dec_01JD9Z6Q5T...`, 26 characters after the prefix."""
    value = (int(now.timestamp() * 1000) << 80) | int.from_bytes(random)
    return f"{prefix}_" + "".join([_PAIRS[(value >> shift) & 1023] for shift in _SHIFTS])


class _Drawn(threading.local):
    pid = 0
    left = b""


_drawn = _Drawn()


def draw(count: int) -> bytes:
    """`count` bytes that nobody else gets."""
    pid = os.getpid()
    if _drawn.pid != pid or len(_drawn.left) < count:
        _drawn.pid, _drawn.left = pid, os.urandom(max(_AT_ONCE, count))
    found, _drawn.left = _drawn.left[:count], _drawn.left[count:]
    return found

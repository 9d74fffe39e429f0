"""Random bytes for ids, taken from the system for many ids at once.

Each question to the system lets other threads in between, and getting back can take longer than the rest of a
request's work. Every thread has bytes of its own, and a forked process never goes on with those of its parent.
"""

from __future__ import annotations

import os
import threading

_AT_ONCE = 4096


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

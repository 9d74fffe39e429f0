"""Blocking calls of async code: on threads of our own.

An app whose sync endpoints wait for images must not keep others from being refused or settled.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")

_THREADS = 16
_limiter: RunVar[anyio.CapacityLimiter] = RunVar("policyguard_threads")
_reader: RunVar[anyio.CapacityLimiter] = RunVar("policyguard_reader")


async def in_thread(call: Callable[[Unpack[Arguments]], T], *args: *Arguments) -> T:
    """Run a call off the event loop."""
    return await anyio.to_thread.run_sync(call, *args, limiter=_limited(_limiter, _THREADS))


async def in_turn(call: Callable[[Unpack[Arguments]], T], *args: *Arguments) -> T:
    """Run a call that computes for long off the event loop, one after the other.

    Two at once would not be done sooner, and each of them keeps the event loop from its turn.
    """
    return await anyio.to_thread.run_sync(call, *args, limiter=_limited(_reader, 1))


def _limited(place: RunVar[anyio.CapacityLimiter], most: int) -> anyio.CapacityLimiter:
    limiter = place.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(most)
        place.set(limiter)
    return limiter

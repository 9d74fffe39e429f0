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


async def in_thread(call: Callable[[Unpack[Arguments]], T], *args: *Arguments) -> T:
    """Run a call off the event loop."""
    limiter = _limiter.get(None)
    if limiter is None:
        limiter = anyio.CapacityLimiter(_THREADS)
        _limiter.set(limiter)
    return await anyio.to_thread.run_sync(call, *args, limiter=limiter)

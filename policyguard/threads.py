"""Blocking calls of async code, and calls that may never end: on threads of our own.

An app whose sync endpoints wait for images must not keep others from being refused or settled.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from contextvars import copy_context
from threading import Thread
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


def within(seconds: float, call: Callable[[Unpack[Arguments]], T], *args: *Arguments) -> T:
    """The result of a call that may hang: it is left behind then, on a thread that no process waits for at its end.

    Raises TimeoutError.
    """
    done: Future[T] = Future()

    def run() -> None:
        try:
            done.set_result(call(*args))
        except Exception as error:
            done.set_exception(error)
        except BaseException as error:  # what would end the thread must not end the caller
            done.set_exception(RuntimeError(type(error).__name__))

    Thread(target=copy_context().run, args=(run,), name="policyguard-within", daemon=True).start()
    return done.result(seconds)

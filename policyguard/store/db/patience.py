"""How long a caller waits for the store: one patience for all steps of a request, a bound for everything else.

It is a part of the context, as the deadlines of RPC libraries are, so that no call has to hand it on. Only waiting for
the store uses it up: what a request waits for in between (moderation, its body) does not.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, TypeVar, TypeVarTuple, Unpack

import anyio

from policyguard.errors import ConfigError, StoreUnavailable
from policyguard.settings import setting
from policyguard.threads import in_thread

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
LIMIT_S = 30.0  # for one call outside of a request: verbs, upkeep
FOR_EVER = math.inf  # a migration may take its time


class Patience:
    """Seconds of waiting that are left."""

    __slots__ = ("left_s",)

    def __init__(self, seconds: float) -> None:
        self.left_s = seconds

    def deadline(self) -> float:
        """When it is over, by the monotonic clock, for somebody who begins to wait now."""
        return time.monotonic() + max(0.0, self.left_s)

    def waited(self, deadline: float) -> None:
        """The waiting that was to end at `deadline` is over."""
        self.left_s = deadline - time.monotonic()


_current: ContextVar[Patience | None] = ContextVar("policyguard_patience", default=None)


@contextmanager
def patience(seconds: float, *, within: bool = False) -> Iterator[None]:
    """All calls of the store inside wait so long, taken together. `within`: where one runs already it stays."""
    if within and _current.get() is not None:
        yield
        return
    token = _current.set(Patience(seconds))
    try:
        yield
    finally:
        _current.reset(token)


def waiting(seconds: float, call: Callable[..., T], *args: Any) -> T:
    """`call` with a patience of its own."""
    with patience(seconds):
        return call(*args)


def current() -> Patience:
    return _current.get() or Patience(LIMIT_S)


async def off_loop(call: Callable[[Unpack[Arguments]], T], *args: *Arguments) -> T:
    """On a thread, for whose turn nobody waits longer than for its answer."""
    try:
        with anyio.fail_after(max(0.0, current().left_s)):
            return await in_thread(call, *args)
    except TimeoutError:
        raise StoreUnavailable("the store cannot answer: every thread waits for it") from None


def request_s() -> float:
    """The setting: how long all store steps of one request may take. Raises `ConfigError` for what is no time."""
    given = setting("store_timeout") or ""
    try:
        seconds = float(given)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise ConfigError(f"POLICYGUARD_STORE_TIMEOUT is a number of seconds above 0, not `{given}`")
    return seconds

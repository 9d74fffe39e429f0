"""Who asks, and which review is resumed, for the code that runs now: blocks of `with`, kept in a context variable.

They follow the code through threads started with a copied context, tasks and awaits. A block may end in another context
than it began in, as when an async generator is abandoned: then it counts nowhere any more. FastAPI runs a plain
dependency with `yield` in a thread whose context is thrown away at once; such a block counts for the request, which the
middleware opens.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from types import FrameType

from policyguard.errors import ConfigError
from policyguard.request import Caller, IdentityValue
from policyguard.text.identity import value_of

_numbers = count()


@dataclass(slots=True, eq=False)
class _Block:
    """What one `with` says, from when on, and whether it has ended where its own context could not be told."""

    values: Mapping[str, str | None]
    review_id: str | None = None
    ended: bool = False
    number: int = field(default_factory=lambda: next(_numbers))


_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("policyguard_blocks", default=())
_request: ContextVar[list[_Block] | None] = ContextVar("policyguard_request", default=None)


@contextmanager
def caller(**values: IdentityValue) -> Iterator[None]:
    """Say who asks, by the names that `org.yaml` declares: `with policyguard.caller(user="u1", tenant="acme"):`.

    An inner `with` adds to the outer one; None takes a value away, and a whole number counts as its digits. Works in
    sync and async code. Raises `ConfigError` for a value that is neither; a name that org.yaml does not declare is one
    when the request is decided.
    """
    with _opened(_Block({name: value_of(name, value) for name, value in values.items()})):
        yield


@contextmanager
def resume(review_id: str) -> Iterator[None]:
    """Send an approved request again: `with policyguard.resume(review_id): make_image(...)`."""
    with _opened(_Block({}, review_id)):
        yield


def current_caller() -> Caller:
    """The values of the `caller` blocks around the running code."""
    around = _around()
    if not around:  # as in most requests that come over HTTP
        return _NOBODY
    said: dict[str, IdentityValue] = {}
    for block in around:
        said.update(block.values)
    return Caller.of(said)


_NOBODY = Caller()


def current_review() -> str | None:
    reviews = [block.review_id for block in _around() if block.review_id is not None]
    return reviews[-1] if reviews else None


@contextmanager
def one_request() -> Iterator[None]:
    """What runs inside belongs to one request of a server."""
    token = _request.set([])
    try:
        yield
    finally:
        with suppress(ValueError):  # the server gave it up elsewhere; its context is gone
            _request.reset(token)


# ---- blocks -----------------------------------------------------------------------------------------------


def _around() -> list[_Block]:
    """The blocks around the running code, the outermost first."""
    blocks = [block for block in (*_blocks.get(), *(_request.get() or ())) if not block.ended]
    return sorted(blocks, key=lambda block: block.number)


@contextmanager
def _opened(block: _Block) -> Iterator[None]:
    if _is_all_of_a_thread(sys._getframe()):
        with _for_the_request(block):
            yield
        return
    token = _blocks.set((*(before for before in _blocks.get() if not before.ended), block))
    try:
        yield
    finally:
        left = tuple(other for other in _blocks.get() if other is not block)
        try:
            _blocks.reset(token)  # nothing else tells whether this is the context in which the block began
        except ValueError:
            block.ended = True
        _blocks.set(left)


@contextmanager
def _for_the_request(block: _Block) -> Iterator[None]:
    opened = _request.get()
    if opened is None:
        raise ConfigError(
            "this block would be lost: a dependency with `yield` that is no `async def` runs in a thread of its own, "
            "so write it with `async def`, or add `PolicyGuardMiddleware` to the app"
        )
    opened.append(block)
    try:
        yield
    finally:
        opened.remove(block)


def _is_all_of_a_thread(frame: FrameType | None) -> bool:
    """Whether a worker thread was started for nothing but to enter this block: its context ends before the block does.

    Only generators and context managers stand between the thread and the block then.
    """
    while frame is not None and (
        frame.f_code.co_flags & inspect.CO_GENERATOR or frame.f_globals.get("__name__") == "contextlib"
    ):
        frame = frame.f_back
    return frame is not None and frame.f_globals.get("__name__") == "anyio._backends._asyncio"

"""Who asks, and which review is resumed, for the code that runs now: two context variables.

They follow the code through threads started with a copied context, tasks and awaits. The module is not called `caller`,
because `policyguard.caller` is the function.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from policyguard.request import Caller

_caller: ContextVar[Mapping[str, str | None] | None] = ContextVar("policyguard_caller", default=None)
_review: ContextVar[str | None] = ContextVar("policyguard_review", default=None)


@contextmanager
def caller(**values: str | None) -> Iterator[None]:
    """Say who asks, by the names that `org.yaml` declares: `with policyguard.caller(user="u1", tenant="acme"):`.

    An inner `with` adds to the outer one; None takes a value away. Works in sync and async code.
    """
    token = _caller.set({**(_caller.get() or {}), **values})
    try:
        yield
    finally:
        _caller.reset(token)


@contextmanager
def resume(review_id: str) -> Iterator[None]:
    """Send an approved request again: `with policyguard.resume(review_id): make_image(...)`."""
    token = _review.set(review_id)
    try:
        yield
    finally:
        _review.reset(token)


def current_caller() -> Caller:
    """The values of the `caller` blocks around the running code."""
    return Caller.of(_caller.get() or {})


def current_review() -> str | None:
    return _review.get()

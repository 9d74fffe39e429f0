"""For Celery, RQ and other queues: who asks travels with a task, and a refusal is its answer, never a reason to retry.

A guard survives a fork, so the one of the module serves every worker process. Neither queue is imported: a task is a
function here, and what travels is one keyword of plain values.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, ParamSpec, TypedDict, TypeVar

from policyguard.decision import PolicyRefused, PolicyUnavailable
from policyguard.errors import ConfigError
from policyguard.guard.current import caller, resume
from policyguard.guard.offer import caller_around

P = ParamSpec("P")
R = TypeVar("R")
KEYWORD = "policyguard"


class RefusedTask(TypedDict):
    """What a task returns that was not let through. With a `review_id` it was held: send it again once approved."""

    refused: str
    status: int
    surface: str | None
    decision_id: str
    reasons: list[str]
    review_id: str | None


def carried(review_id: str | None = None) -> dict[str, Any]:
    """Who asks here and now, to travel with a task: `draw.delay("a fox", **carried())`.

    In a request that the middleware admitted that is its caller, with what `policyguard.caller` says beside it. With a
    `review_id` the task runs the approved request.
    """
    return {KEYWORD: {"caller": dict(caller_around().items()), "review_id": review_id}}


def task(function: Callable[P, R]) -> Callable[..., R | RefusedTask]:
    """Between the queue's own decorator and `@guard.enforce(...)`: takes what `carried` gave, and returns refusals.

    A refusal is final and returned as a `RefusedTask`. `PolicyUnavailable` is raised: nothing was decided or spent, so
    the queue may try again. So is what the function itself raises; each try is admitted and paid for by itself.
    """
    if inspect.iscoroutinefunction(function):
        raise ConfigError("a task is a plain function; run async code inside it")

    @functools.wraps(function)
    def run(*args: Any, policyguard: Mapping[str, Any] | None = None, **kwargs: Any) -> R | RefusedTask:
        try:
            with _within(policyguard or {}):
                return function(*args, **kwargs)
        except PolicyUnavailable:
            raise
        except PolicyRefused as refused:
            return _told(refused)

    run.__signature__ = _signature(function)  # type: ignore[attr-defined]  # queues check arguments when they are sent
    return run


def _signature(function: Callable[..., Any]) -> inspect.Signature:
    signature = inspect.signature(function)
    own = list(signature.parameters.values())
    if KEYWORD in signature.parameters:
        raise ConfigError(f"`{KEYWORD}` is what travels with a task, so no argument of it can have that name")
    more = inspect.Parameter(KEYWORD, inspect.Parameter.KEYWORD_ONLY, default=None)
    at = len(own) - (bool(own) and own[-1].kind is inspect.Parameter.VAR_KEYWORD)
    return signature.replace(parameters=[*own[:at], more, *own[at:]])


@contextmanager
def _within(given: Mapping[str, Any]) -> Iterator[None]:
    values, review_id = given.get("caller") or {}, given.get("review_id")
    with ExitStack() as around:
        around.enter_context(caller(**values))
        if review_id is not None:
            around.enter_context(resume(review_id))
        yield


def _told(refused: PolicyRefused) -> RefusedTask:
    decision = refused.decision
    return {
        "refused": refused.code,
        "status": refused.status,
        "surface": decision.surface,
        "decision_id": decision.id,
        "reasons": list(dict.fromkeys(reason.id for reason in decision.reasons if reason.enforced)),
        "review_id": refused.review_id,
    }

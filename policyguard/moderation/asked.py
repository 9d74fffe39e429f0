"""A moderator asked so that whatever it does is a verdict: nothing passes unseen because somebody's code raised."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable

from policyguard.logs import say
from policyguard.request import Verdict
from policyguard.steps import Moderate


def verdict(step: Moderate, moderate: Callable[[Moderate], Verdict]) -> Verdict:
    try:
        return _said(moderate(step))
    except Exception as error:
        return _broken(step, error)


async def averdict(step: Moderate, moderate: Callable[[Moderate], Awaitable[Verdict]]) -> Verdict:
    """`verdict` for async code."""
    try:
        return _said(await moderate(step))
    except Exception as error:
        return _broken(step, error)


def _said(answer: object) -> Verdict:
    """Nothing at all would read as a policy that has nothing looked at, and pass."""
    if not isinstance(answer, Verdict):
        raise TypeError("a moderator answers with a verdict")
    return answer


def _broken(step: Moderate, error: Exception) -> Verdict:
    raised = type(error).__name__
    say(logging.ERROR, "moderator.broken", "the moderator raised %s; counted as unavailable", raised, raised=raised)
    return Verdict(model=step.model, error="moderator_error")

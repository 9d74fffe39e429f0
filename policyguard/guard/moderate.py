"""Moderation and questions at the same time: one network stage before money is spent.

Whatever a moderator of somebody else's does, nothing passes unseen: what it raises, or answers that is no answer,
counts as unavailable.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import anyio

from policyguard.flow.steps import Inquire, Look, Moderate
from policyguard.logs import say
from policyguard.moderation import Answerer, Moderator
from policyguard.request import Answers, Verdict

Seen = tuple[Verdict | None, Answers]
_NOBODY = Answers(model="none", error="not_answered")


def look(step: Look, moderator: Moderator) -> Seen:
    """Both from sync code; the questions are asked from a thread where there is something to moderate, too."""
    if step.moderate is None:
        return None, answered(step.inquire, moderator)
    with ThreadPoolExecutor(1, "policyguard-questions") as pool:
        asked = pool.submit(answered, step.inquire, moderator)
        return verdict(step.moderate, moderator), asked.result()


async def alook(step: Look, moderator: Moderator) -> Seen:
    """Both from async code."""
    found: list[Answers] = []

    async def ask() -> None:
        found.append(await aanswered(step.inquire, moderator))

    seen = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        if step.moderate is not None:
            seen = await averdict(step.moderate, moderator)
    return seen, found[0]


# ---- scores -----------------------------------------------------------------------------------------------


def verdict(step: Moderate, moderator: Moderator) -> Verdict:
    try:
        return _said(moderator.moderate(step))
    except Exception as error:
        return _broken(step, error)


async def averdict(step: Moderate, moderator: Moderator) -> Verdict:
    try:
        return _said(await moderator.amoderate(step))
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


# ---- answers ----------------------------------------------------------------------------------------------


def answered(step: Inquire, moderator: Moderator) -> Answers:
    try:
        return _answers(moderator.answer(step)) if isinstance(moderator, Answerer) else _NOBODY
    except Exception as error:
        return _unanswered(error)


async def aanswered(step: Inquire, moderator: Moderator) -> Answers:
    try:
        return _answers(await moderator.aanswer(step)) if isinstance(moderator, Answerer) else _NOBODY
    except Exception as error:
        return _unanswered(error)


def _answers(answer: object) -> Answers:
    if not isinstance(answer, Answers):
        raise TypeError("questions are answered with answers")
    return answer


def _unanswered(error: Exception) -> Answers:
    raised = type(error).__name__
    say(logging.ERROR, "answerer.broken", "the moderator raised %s at a question; unavailable", raised, raised=raised)
    return Answers(model="none", error="moderator_error")

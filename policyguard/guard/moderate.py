"""Moderation and questions at the same time: one network stage before money is spent.

Whatever a moderator of somebody else's does, nothing passes unseen: what it raises, what it answers that is no answer,
and what comes too late counts as unavailable. Nothing that it says in words of its own gets into the record.
"""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import anyio

from policyguard.flow.steps import Inquire, Look, Moderate
from policyguard.logs import say
from policyguard.moderation import Answerer, Moderator
from policyguard.request import CATEGORIES, Answers, Verdict, is_name
from policyguard.threads import within

Assessed = tuple[Verdict | None, Answers]
_NOBODY = Answers(model="none", error="not_answered")
_CATEGORIES = frozenset(CATEGORIES)
_LATE_S = 0.5  # a moderator keeps the time itself, and then says what it knows; this is for one that does not


def assess(step: Look, moderator: Moderator) -> Assessed:
    """Both from sync code; the questions are asked from a thread where there is something to moderate, too."""
    if step.moderate is None:
        return None, answered(step.inquire, moderator)
    with ThreadPoolExecutor(1, "policyguard-questions") as pool:
        asked = pool.submit(answered, step.inquire, moderator)
        return verdict(step.moderate, moderator), asked.result()


async def alook(step: Look, moderator: Moderator) -> Assessed:
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
        return _said(step, within(step.timeout_s + _LATE_S, moderator.moderate, step))
    except Exception as error:
        return _broken(step, error)


async def averdict(step: Moderate, moderator: Moderator) -> Verdict:
    try:
        with anyio.fail_after(step.timeout_s + _LATE_S):
            return _said(step, await moderator.amoderate(step))
    except Exception as error:
        return _broken(step, error)


def _said(step: Moderate, answer: object) -> Verdict:
    """A verdict of plain values; raises for anything else.

    Nothing at all would read as a policy that has nothing looked at, and pass. Scores beside an error are only lower
    bounds, where nothing is said to be incomplete.
    """
    if not isinstance(answer, Verdict) or not answer.incomplete <= _CATEGORIES:
        raise TypeError("a moderator answers with a verdict")
    scores = {category: answer.scores[category] for category in CATEGORIES if category in answer.scores}
    return Verdict(
        model=answer.model if is_name(answer.model) else step.model,
        scores=scores,
        incomplete=frozenset(answer.incomplete or (scores if answer.error else ())),
        error=answer.error,
        calls=int(answer.calls),
        latency_ms=int(answer.latency_ms),
        request_ids=tuple(filter(is_name, answer.request_ids)),
    )


def _broken(step: Moderate, error: Exception) -> Verdict:
    raised = type(error).__name__
    say(logging.ERROR, "moderator.broken", "the moderator raised %s; counted as unavailable", raised, raised=raised)
    return Verdict(model=step.model, error=_word(error))


def _word(error: Exception) -> str:
    return "timeout" if isinstance(error, TimeoutError) else "moderator_error"


# ---- answers ----------------------------------------------------------------------------------------------


def answered(step: Inquire, moderator: Moderator) -> Answers:
    try:
        if not isinstance(moderator, Answerer):
            return _NOBODY
        return _answers(within(step.timeout_s + _LATE_S, moderator.answer, step))
    except Exception as error:
        return _unanswered(error)


async def aanswered(step: Inquire, moderator: Moderator) -> Answers:
    try:
        if not isinstance(moderator, Answerer):
            return _NOBODY
        with anyio.fail_after(step.timeout_s + _LATE_S):
            return _answers(await moderator.aanswer(step))
    except Exception as error:
        return _unanswered(error)


def _answers(answer: object) -> Answers:
    if not isinstance(answer, Answers):
        raise TypeError("questions are answered with answers")
    return answer


def _unanswered(error: Exception) -> Answers:
    raised = type(error).__name__
    say(logging.ERROR, "answerer.broken", "the moderator raised %s at a question; unavailable", raised, raised=raised)
    return Answers(model="none", error=_word(error))

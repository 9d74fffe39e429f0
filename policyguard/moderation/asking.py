"""All questions of one request at once, for async code: who sends one is an argument, everything else is here.

The time limit is for all of it; what came in time counts, and the rest is a timeout.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import monotonic
from typing import Any, TypeVar

import anyio

from policyguard.flow.steps import Moderate
from policyguard.moderation.answers import Scorable, questions
from policyguard.moderation.exchange import CallAnswered, CallFailed, Exchange, exchange
from policyguard.moderation.inquiry import Inquiry
from policyguard.moderation.merge import PartialVerdict, merge
from policyguard.request import Answers, Verdict

MAX_CONCURRENT = 8  # calls of one request at a time
MAX_BODY_BYTES = 1_000_000  # of one answer
MODELS = frozenset({"omni-moderation-latest", "omni-moderation-2024-09-26"})
T = TypeVar("T")
Sender = Callable[
    [Exchange[Any], str, float], Awaitable[CallAnswered | CallFailed]
]  # the model, and the seconds for the call


async def ask_all(step: Moderate, send: Sender, retry_wait_s: float) -> Verdict:
    """The verdict on what `step` asks for."""
    started = monotonic()
    deadline = started + step.timeout_s
    asked = questions(step)
    parts = [timed_out(question) for question in asked]
    with anyio.move_on_after(step.timeout_s):
        if len(asked) == 1:  # the common case, without a task of its own
            parts[0] = await _ask(asked[0], step.model, send, deadline, retry_wait_s)
        else:
            limit = anyio.CapacityLimiter(MAX_CONCURRENT)

            async def ask(index: int, question: Scorable) -> None:
                async with limit:
                    parts[index] = await _ask(question, step.model, send, deadline, retry_wait_s)

            async with anyio.create_task_group() as tasks:
                for index, question in enumerate(asked):
                    tasks.start_soon(ask, index, question)
    return merge(step.model, parts, round((monotonic() - started) * 1000))


async def answer_all(inquiry: Inquiry, send: Sender, retry_wait_s: float) -> Answers:
    """The answers to all questions of one inquiry, which are one call."""
    started, timeout_s = monotonic(), inquiry.step.timeout_s
    found = inquiry.failed("timeout", calls=1)
    with anyio.move_on_after(timeout_s):
        found = await _ask(inquiry, inquiry.model, send, started + timeout_s, retry_wait_s)
    return replace(found, latency_ms=round((monotonic() - started) * 1000))


async def _ask(question: Exchange[T], model: str, send: Sender, deadline: float, retry_wait_s: float) -> T:
    steps = exchange(question, deadline, retry_wait_s)
    try:
        asked = next(steps)
        while True:
            if asked.wait_s:
                await anyio.sleep(asked.wait_s)
            asked = steps.send(await send(question, model, asked.timeout_s))
    except StopIteration as end:
        found: T = end.value
        return found


def timed_out(question: Scorable) -> PartialVerdict:
    problem = question.problem
    return question.failed(problem or "timeout", calls=0 if problem else 1)

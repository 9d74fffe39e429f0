"""The two drivers of generators that yield what they need: one for sync code, one for async. All there is of either.

What is asked and who answers is not known here: the steps of the flow and those of a door are run alike. `watched`
stands between a generator and its driver, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from contextlib import AbstractContextManager
from typing import Any, Protocol, TypeVar

A = TypeVar("A")
S = TypeVar("S")  # what is asked: the steps of the flow, or those of a door


def drive(steps: Generator[S, Any, A], perform: Callable[[S], Any]) -> A:
    """Run a flow to its end from sync code. What a step raises is raised in the flow, where it asked."""
    try:
        step = next(steps)
        while True:
            try:
                answer = perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        value: A = end.value
        return value


async def adrive(steps: Generator[S, Any, A], perform: Callable[[S], Awaitable[Any]]) -> A:
    """Run a flow to its end from async code."""
    try:
        step = next(steps)
        while True:
            try:
                answer = await perform(step)
            except BaseException as error:
                step = steps.throw(error)
            else:
                step = steps.send(answer)
    except StopIteration as end:
        value: A = end.value
        return value


class Watcher(Protocol):
    """Sees steps and answers pass. What it raises itself ends the flow's driver, never the flow."""

    def asked(self, step: Any) -> AbstractContextManager[object]:
        """The flow asks for a step. What this returns is around whoever performs it."""

    def answered(self, step: Any, answer: Any) -> None:
        """The flow goes on with this answer."""

    def failed(self, step: Any) -> None:
        """What the step raised goes into the flow."""


def watched(steps: Generator[S, Any, A], watcher: Watcher) -> Generator[S, Any, A]:
    """The same steps and answers, told to `watcher` as they pass."""
    given: Any = None
    raised: BaseException | None = None
    while True:
        try:
            step = steps.send(given) if raised is None else steps.throw(raised)
        except StopIteration as end:
            answer: A = end.value
            return answer
        finally:
            raised = None
        around = watcher.asked(step)
        try:
            with around:
                given = yield step
        except BaseException as error:
            raised = error
            watcher.failed(step)
        else:
            watcher.answered(step, given)

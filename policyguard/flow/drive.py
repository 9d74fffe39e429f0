"""The two drivers of generators that yield what they need: one for sync code, one for async. All there is of either.

What is asked and who answers is not known here: the steps of the flow and those of a door are run alike.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator
from typing import Any, TypeVar

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

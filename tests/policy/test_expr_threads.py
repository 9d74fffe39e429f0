"""Four threads, each with its own requests: no answer may come from another thread's request, condition or literals.

All threads ask the same conditions and compile new ones of the same shapes, while the plans and the code that those
share are forgotten again and again. The answers are known beforehand, from one thread.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from itertools import cycle, islice
from threading import Barrier, Event
from typing import Any

import pytest

from policyguard.policy.expr import (
    CallerType,
    Compiled,
    Environment,
    EvaluationError,
    Unavailable,
    compile_expression,
    forget,
)
from policyguard.request import CATEGORIES, ImageRequest

THREADS, EVALUATIONS, BETWEEN = 4, 100_000, 500  # a new condition is compiled after so many evaluations
ENVIRONMENT = Environment({"user": CallerType(False), "team": CallerType(True)})
SHAPES = (
    "caller.user == 'u{0}' && request.n == {1}",
    "request.n > {1} || caller.user == 'u{0}'",
    "request.prompt.contains('u{0}')",
    "[{0}, {1}].exists(x, x == request.n)",
    "scores.hate > 0.{1}5 && caller.user == 'u{0}'",
    "request.n * {1} + {0} == 6",
    "has(caller.team) && caller.team == 't{0}'",
    "caller.user + '{1}' == 'u{0}{1}'",
    "request.n / ({0} - {1}) == 1 || caller.user == 'u{0}'",
    "[{0}, {1}].map(x, x * request.n) == [{0}, 4]",
)
SOURCES = [shape.format(user, n) for shape in SHAPES for user in range(4) for n in (1, 2)]
SOURCES += ["scores.exists(c, scores[c] > 0.5)", "scores.violence > 0.5 || request.n == 3"]


def world(number: int) -> dict[str, Any]:
    return {
        "request": ImageRequest(prompt=f"a fox of u{number % 4}", model="m", quality="low", n=1 + number % 3),
        "caller": {"user": f"u{number % 4}", **({"team": f"t{number % 4}"} if number % 2 else {})},
        "scores": None if number % 16 == 15 else {**dict.fromkeys(CATEGORIES, 0.0), "hate": (number % 5) / 5},
        "surface": "s",
        "now": datetime(2026, 11, 24, tzinfo=UTC),
    }


def said(condition: Compiled, inputs: Mapping[str, Any]) -> bool | str:
    try:
        return condition(inputs)
    except (Unavailable, EvaluationError) as error:
        return str(error)


WORLDS = [world(number) for number in range(32)]


@pytest.fixture(autouse=True)
def _hurried() -> Iterator[None]:
    """Threads change after ten microseconds, in the middle of an evaluation."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


def test_four_threads_get_the_answers_of_one() -> None:
    conditions = [compile_expression(source, ENVIRONMENT) for source in SOURCES]
    answers = {(c.source, w): said(c, WORLDS[w]) for c in conditions for w in range(len(WORLDS))}
    assert {True, False, "`scores.hate` is unavailable", "division_by_zero"} <= set(answers.values())
    started, done = Barrier(THREADS), Event()

    def ask(thread: int) -> tuple[int, list[tuple[str, int]]]:
        """Worlds that no other thread has, every condition, and now and then a condition compiled anew."""
        mine = range(thread, len(WORLDS), THREADS)
        pairs = cycle([(condition, number) for number in mine for condition in conditions])
        fresh = cycle(SOURCES[thread * 7 :] + SOURCES[: thread * 7])
        asked, wrong = 0, []
        started.wait()
        while asked < EVALUATIONS:
            new = compile_expression(next(fresh), ENVIRONMENT)
            for condition, number in (*islice(pairs, BETWEEN - 1), (new, mine[asked % len(mine)])):
                if said(condition, WORLDS[number]) != answers[condition.source, number]:
                    wrong.append((condition.source, number))
            asked += BETWEEN
        return asked, wrong

    def forget_often() -> int:
        times = 0
        while not done.wait(0.001):
            forget()
            times += 1
        return times

    with ThreadPoolExecutor(THREADS + 1) as pool:
        forgotten = pool.submit(forget_often)
        found = list(pool.map(ask, range(THREADS)))
        done.set()
    assert found == [(EVALUATIONS, [])] * THREADS
    assert forgotten.result() > 10


def test_threads_that_compile_the_same_conditions_at_once_get_the_same_conditions() -> None:
    started = Barrier(THREADS)

    def compile_all(_: int) -> list[tuple[str, frozenset[str], list[bool | str]]]:
        started.wait()
        made = [compile_expression(source, ENVIRONMENT) for source in SOURCES]
        return [(one.source, one.reads, [said(one, inputs) for inputs in WORLDS[:8]]) for one in made]

    alone = [compile_expression(source, ENVIRONMENT) for source in SOURCES]
    expected = [(one.source, one.reads, [said(one, inputs) for inputs in WORLDS[:8]]) for one in alone]
    for _ in range(5):
        forget()
        with ThreadPoolExecutor(THREADS) as pool:
            assert list(pool.map(compile_all, range(THREADS))) == [expected] * THREADS

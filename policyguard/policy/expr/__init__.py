"""CEL conditions: parsed by cel-python's grammar, checked statically against what a rule may read, compiled to Python.

A condition that loads cannot misspell a name, compare apples with pears or read a value that may be absent without a
guard. What can still go wrong when it runs is an input that is down (`Unavailable`) or arithmetic (`EvaluationError`);
`&&` and `||` absorb both as CEL says. Nothing from a request ever stands in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from policyguard.policy.expr import emit, share
from policyguard.policy.expr.check import check
from policyguard.policy.expr.checked import Plan
from policyguard.policy.expr.emit import Evaluate
from policyguard.policy.expr.evaluate import evaluate
from policyguard.policy.expr.fields import field_of
from policyguard.policy.expr.parse import parse
from policyguard.policy.expr.runtime import EvaluationError, Unavailable
from policyguard.policy.expr.types import CODES, CallerType, Environment, ExpressionErrors, Problem

__all__ = [
    "CODES",
    "CallerType",
    "Compiled",
    "Environment",
    "EvaluationError",
    "ExpressionErrors",
    "Problem",
    "Unavailable",
    "compile_expression",
    "field_of",
    "forget",
]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A condition. `reads` are the dotted names that it can look at, for example `scores.sexual/minors`.

    `run` is the condition as a plain function, for who calls it very often.
    """

    source: str
    reads: frozenset[str]
    run: Evaluate = field(repr=False, compare=False)

    def __call__(self, inputs: Mapping[str, Any]) -> bool:
        """True or False. Raises `Unavailable` or `EvaluationError`, nothing else."""
        return self.run(inputs)


@lru_cache(maxsize=4096)  # many surfaces have some rules to the letter in common
def compile_expression(source: str, environment: Environment) -> Compiled:
    """Parse and check `source`, which must be true or false. Raises `ExpressionErrors` with every problem found."""
    text = share.text_of(source, environment)
    known = share.shared(text) if text else None
    if known is not None:
        return _compiled(source, *known)
    try:
        parsed = parse(source)
        plan = check(parsed, environment)
    except RecursionError:
        raise ExpressionErrors((Problem(1, 1, "PG409", "the expression is nested too deeply"),)) from None
    if text:
        share.remember(text, parsed, plan)
    return _compiled(source, plan, plan.bind([slot.value for slot in parsed.slots]))


def forget() -> None:
    """As in a new process."""
    compile_expression.cache_clear()
    share.forget()
    emit.forget()


def _compiled(source: str, plan: Plan, values: tuple[Any, ...]) -> Compiled:
    exactly = partial(evaluate, plan.root, values)
    return Compiled(source, plan.reads, exactly if plan.code is None else emit.function(plan.code, values, exactly))

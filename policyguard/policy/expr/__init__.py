"""CEL conditions: parsed by cel-python, checked statically against what a rule may read, compiled to Python closures.

A condition that loads cannot misspell a name, compare apples with pears or read a value that may be absent without a
guard. What can still go wrong when it runs is an input that is down (`Unavailable`) or arithmetic (`EvaluationError`);
`&&` and `||` absorb both as CEL says. Nothing from a request ever stands in an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policyguard.policy.expr.check import compile_tree
from policyguard.policy.expr.runtime import EvaluationError, RequestFacts, Unavailable
from policyguard.policy.expr.syntax import parse
from policyguard.policy.expr.types import CODES, CallerType, Environment, ExpressionErrors, Problem, Run

__all__ = [
    "CODES",
    "CallerType",
    "Compiled",
    "Environment",
    "EvaluationError",
    "ExpressionErrors",
    "Problem",
    "RequestFacts",
    "Unavailable",
    "compile_expression",
]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A condition. `reads` are the dotted names that it can look at, for example `scores.sexual/minors`."""

    source: str
    reads: frozenset[str]
    _run: Run = field(repr=False)

    def __call__(self, inputs: Mapping[str, Any]) -> bool:
        """True or False. Raises `Unavailable` or `EvaluationError`, nothing else."""
        try:
            return bool(self._run(inputs))
        except (Unavailable, EvaluationError):
            raise
        except Exception:
            raise EvaluationError("internal") from None  # the cause could quote the prompt


def compile_expression(source: str, environment: Environment) -> Compiled:
    """Parse and check `source`, which must be true or false. Raises `ExpressionErrors` with every problem found."""
    try:
        run, reads = compile_tree(parse(source), environment)
    except RecursionError:
        raise ExpressionErrors((Problem(1, 1, "PG409", "the expression is nested too deeply"),)) from None
    return Compiled(source, reads, run)

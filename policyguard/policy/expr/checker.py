"""What every part of the static check shares: the checked part, and the checker that collects problems.

A problem never stops the check: the part becomes `ANYTHING`, which goes with everything, so that one run shows all
mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from policyguard.policy.expr import syntax
from policyguard.policy.expr.checked import Apply, Checked, Demand, Truth, Value
from policyguard.policy.expr.operations import Operation
from policyguard.policy.expr.syntax import At, Literal
from policyguard.policy.expr.types import ANYTHING, BOOL, Environment, Problem, Type

Known = frozenset[str]
NOTHING: Known = frozenset()


@dataclass(frozen=True, slots=True)
class Part:
    """A checked part. Without a caller value that `when_true` names it is certainly false, whatever else is down.

    `when_false` names those without which it is certainly true.
    """

    type: Type
    node: Checked
    at: At
    literal: Literal | None = None
    items: tuple[Part, ...] = ()
    when_true: Known = NOTHING
    when_false: Known = NOTHING


@dataclass(slots=True)
class Checker:
    """One expression's check. `variables` are those of the loops around the part at hand, from the outside.

    `around` is how many loops work on one another up to the part at hand, `most` the most of them so far.
    """

    environment: Environment
    literals: int
    problems: list[Problem]
    checks: Mapping[type, Callable[[Checker, Any, Known], Part]]
    demands: list[Demand] = field(init=False)
    extras: list[str | tuple[int, ...]] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    variables: dict[str, Type] = field(default_factory=dict)
    around: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.demands = [Demand() for _ in range(self.literals)]

    def part(self, node: syntax.Node, known: Known) -> Part:
        return self.checks[type(node)](self, node, known)

    def boolean(self, node: syntax.Node, known: Known, sign: str) -> Part:
        part = self.part(node, known)
        if part.type not in (BOOL, ANYTHING):
            return self.problem(node.at, "PG405", f"`{sign}` needs true or false, got {named(part.type)}")
        return part

    def problem(self, at: At, code: str, message: str, hint: str = "") -> Part:
        self.problems.append(Problem(at.line, at.column, code, message, hint))
        return wrong(at)

    def applied(self, at: At, operation: Operation | None, *parts: Part) -> Part:
        if operation is None or any(part.type is ANYTHING for part in parts):
            return wrong(at)
        return Part(operation.gives, Apply(operation, tuple(part.node for part in parts)), at)

    def parameter(self, extra: str | tuple[int, ...]) -> Value:
        """A parameter beside the literals."""
        if extra not in self.extras:
            self.extras.append(extra)
        return Value(self.literals + self.extras.index(extra))


def wrong(at: At) -> Part:
    return Part(ANYTHING, Truth(False), at)


def named(type_: Type) -> str:
    article = "an" if type_.name[0] in "aeiou" else "a"
    return f"{article} {type_}"

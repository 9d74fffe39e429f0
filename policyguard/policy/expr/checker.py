"""What every part of the static check shares: the checked part, and the checker that collects problems.

A problem never stops the check: the part becomes `ANYTHING`, which goes with everything, so that one run shows all
mistakes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from policyguard.policy.expr import syntax
from policyguard.policy.expr.checked import Apply, Checked, Demand, Operand, Truth
from policyguard.policy.expr.operations import Operator
from policyguard.policy.expr.syntax import At, Literal
from policyguard.policy.expr.types import ANYTHING, BOOL, Environment, Problem, Type

PresentNames = frozenset[str]
NOTHING: PresentNames = frozenset()


@dataclass(frozen=True, slots=True)
class CheckedPart:
    """A checked part. Without a caller value that `when_true` names it is certainly false, whatever else is down.

    `when_false` names those without which it is certainly true.
    """

    type: Type
    node: Checked
    at: At
    literal: Literal | None = None
    items: tuple[CheckedPart, ...] = ()
    when_true: PresentNames = NOTHING
    when_false: PresentNames = NOTHING


@dataclass(slots=True)
class Checker:
    """One expression's check. `variables` are those of the loops around the part at hand, from the outside.

    `around` is how many loops work on one another up to the part at hand, `most` the most of them so far.
    """

    environment: Environment
    literals: int
    problems: list[Problem]
    checks: Mapping[type, Callable[[Checker, Any, PresentNames], CheckedPart]]
    demands: list[Demand] = field(init=False)
    extras: list[str | tuple[int, ...]] = field(default_factory=list)
    reads: set[str] = field(default_factory=set)
    variables: dict[str, Type] = field(default_factory=dict)
    around: int = 0
    most: int = 0

    def __post_init__(self) -> None:
        self.demands = [Demand() for _ in range(self.literals)]

    def part(self, node: syntax.Node, known: PresentNames) -> CheckedPart:
        return self.checks[type(node)](self, node, known)

    def boolean(self, node: syntax.Node, known: PresentNames, sign: str) -> CheckedPart:
        part = self.part(node, known)
        if part.type not in (BOOL, ANYTHING):
            return self.problem(node.at, "PG405", f"`{sign}` needs true or false, got {named(part.type)}")
        return part

    def problem(self, at: At, code: str, message: str, hint: str = "") -> CheckedPart:
        self.problems.append(Problem(at.line, at.column, code, message, hint))
        return wrong(at)

    def applied(self, at: At, operation: Operator | None, *parts: CheckedPart) -> CheckedPart:
        if operation is None or any(part.type is ANYTHING for part in parts):
            return wrong(at)
        return CheckedPart(operation.gives, Apply(operation, tuple(part.node for part in parts)), at)

    def parameter(self, extra: str | tuple[int, ...]) -> Operand:
        """A parameter beside the literals."""
        if extra not in self.extras:
            self.extras.append(extra)
        return Operand(self.literals + self.extras.index(extra))


def wrong(at: At) -> CheckedPart:
    return CheckedPart(ANYTHING, Truth(False), at)


def named(type_: Type) -> str:
    article = "an" if type_.name[0] in "aeiou" else "a"
    return f"{article} {type_}"

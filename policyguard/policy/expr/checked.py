"""The checked tree: every name resolved, every operation chosen by type, literals by number.

Both forms of a condition are made from it: `emit` writes Python source, `evaluate` walks it. Conditions that differ in
their literals alone share one `Plan`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from policyguard.policy.expr.operations import Operator


@dataclass(frozen=True, slots=True)
class Operand:
    """A parameter: a literal, a name that is looked up, or a list of literals."""

    index: int


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool


@dataclass(frozen=True, slots=True)
class RequestField:
    name: str


@dataclass(frozen=True, slots=True)
class CallerValue:
    """`name` is the number of the parameter that holds the name."""

    name: Operand


@dataclass(frozen=True, slots=True)
class CallerHas:
    name: Operand


@dataclass(frozen=True, slots=True)
class Root:
    """`surface`, `now`, `scores`, `output`, `answers`; `categories` or `pictured` for a loop over scores or output."""

    name: str


@dataclass(frozen=True, slots=True)
class Variable:
    """A loop's variable; loops around it are counted from 0."""

    depth: int


@dataclass(frozen=True, slots=True)
class Apply:
    operation: Operator
    arguments: tuple[Checked, ...]


@dataclass(frozen=True, slots=True)
class ListOf:
    items: tuple[Checked, ...]


@dataclass(frozen=True, slots=True)
class Junction:
    """`||` is decided by True, `&&` by False."""

    decides: bool
    operands: tuple[Checked, ...]


@dataclass(frozen=True, slots=True)
class If:
    condition: Checked
    yes: Checked
    no: Checked


@dataclass(frozen=True, slots=True)
class Loop:
    """`body` is the test; `gives` is what `map` makes of each item."""

    macro: str
    items: Checked
    depth: int
    body: Checked
    gives: Checked | None = None


Checked = (
    Operand | Truth | RequestField | CallerValue | CallerHas | Root | Variable | Apply | ListOf | Junction | If | Loop
)


@dataclass(slots=True)
class Demand:
    """What a literal must be, whatever condition of the shape it stands in.

    `fixed`: the plan holds for this value only, because it names what is read.
    """

    fixed: bool = False
    allowed: list[Callable[[Any], bool]] = field(default_factory=list)
    prepare: Callable[[str], Any] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that conditions of one shape share. Parameters are the literals, then `extras`.

    An extra is a name that is looked up, or the numbers of the literals that make a list.
    """

    root: Checked
    reads: frozenset[str]
    demands: tuple[Demand, ...]
    extras: tuple[str | tuple[int, ...], ...]
    code: CodeType | None

    def bind(self, literals: Sequence[Any]) -> tuple[Any, ...]:
        """The parameters for these literals. Raises ValueError where one of them is not possible here."""
        values: list[Any] = []
        for literal, demand in zip(literals, self.demands, strict=True):
            if not all(allows(literal) for allows in demand.allowed):
                raise ValueError("not possible here")
            values.append(demand.prepare(literal) if demand.prepare else literal)
        for extra in self.extras:
            values.append(extra if isinstance(extra, str) else tuple(values[i] for i in extra))
        return tuple(values)

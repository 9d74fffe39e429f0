"""The syntax tree of a condition: what is written and where, before anything is known of its meaning.

Precedence levels of the grammar, brackets and comments are gone; chains of one operator are one node, so that the tree
is never deeper than the nesting that a person sees. Every node knows its line and column, counted from 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal as OneOf
from typing import NamedTuple

LiteralKind = OneOf["text", "int", "double"]


class At(NamedTuple):
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Literal:
    """A value that is written out. `slot` counts them from the left; true and false have none."""

    at: At
    value: str | int | float | bool
    slot: int | None = None


@dataclass(frozen=True, slots=True)
class Name:
    at: At
    name: str


@dataclass(frozen=True, slots=True)
class Field:
    at: At
    operand: Node
    name: str
    name_at: At


@dataclass(frozen=True, slots=True)
class Index:
    at: At
    operand: Node
    index: Node


@dataclass(frozen=True, slots=True)
class Items:
    """A list that is written out."""

    at: At
    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """`name(arguments)`, or `target.name(arguments)`."""

    at: At
    name: str
    name_at: At
    target: Node | None
    arguments: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Unary:
    at: At
    sign: str
    operand: Node


@dataclass(frozen=True, slots=True)
class Logic:
    """All operands of one chain of `&&` or `||`."""

    at: At
    sign: str
    operands: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Relation:
    at: At
    sign: str
    left: Node
    right: Node


@dataclass(frozen=True, slots=True)
class Arithmetic:
    """A chain of `+` and `-`, or of `*`, `/` and `%`, from the left."""

    at: At
    first: Node
    rest: tuple[tuple[str, Node], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    at: At
    condition: Node
    yes: Node
    no: Node


@dataclass(frozen=True, slots=True)
class Wrong:
    """A part whose problem is already said."""

    at: At


Node = Literal | Name | Field | Index | Items | FunctionCall | Unary | Logic | Relation | Arithmetic | Choice | Wrong


class TextSpan(NamedTuple):
    """Where a literal stands in the text, without its sign."""

    start: int
    end: int
    kind: LiteralKind


@dataclass(frozen=True, slots=True)
class Slot:
    """One literal that can differ between conditions of the same shape."""

    span: TextSpan
    negative: bool
    value: str | int | float
    at: At

"""A condition taken apart: its atoms, what each reads, and the literals in it.

An atom is a part that is true or false and no `&&`, `||`, `!` or conditional of others. The result of a condition is a
function of the results of its atoms, so inputs on which every atom agrees are decided alike.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import tzinfo
from typing import Any, Literal

from policyguard.policy.expr import operations
from policyguard.policy.expr.check import check
from policyguard.policy.expr.checked import (
    Apply,
    CallerHas,
    CallerValue,
    Checked,
    If,
    Junction,
    ListOf,
    Loop,
    Operand,
    RequestField,
    Root,
    Truth,
)
from policyguard.policy.expr.evaluate import evaluate
from policyguard.policy.expr.operations import CATEGORY_KNOWN, CATEGORY_SCORE, NOT, Operator
from policyguard.policy.expr.parse import parse
from policyguard.policy.expr.runtime import EvaluationError, Unavailable
from policyguard.policy.expr.types import BOOL, LOOPED, REQUEST, STRING, TIMESTAMP, Environment
from policyguard.zones import zone

TruthValue = Literal["true", "false", "unavailable", "error"]
_SIGNS = ("==", "!=", "<", "<=", ">", ">=")
_SAME = tuple(operations.comparison(sign, STRING) for sign in ("==", "!="))
_COMPARE = tuple(operations.comparison(sign, STRING) for sign in _SIGNS)
_MEMBER = (operations.MEMBER, operations.MEMBER_OF_DOUBLES)
_UTC = zone("UTC")
_SIZES = operations.FUNCTIONS["size"]
_PARTS: Mapping[Operator, str] = {
    form: name for name, forms in operations.FUNCTIONS.items() if name.startswith(".get") for form in forms
}


@dataclass(frozen=True, slots=True)
class ConditionTree:
    """A checked condition with its parameters."""

    root: Checked
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Atom:
    """`reads` are dotted names; a loop over scores reads `scores`. `direct`: one name, compared with literals.

    `parts` are the parts of `now` that it looks at, with their zones; `length`: it looks at the length of a text.
    """

    tree: ConditionTree
    reads: frozenset[str]
    literals: tuple[Any, ...]
    direct: bool
    parts: frozenset[tuple[str, tzinfo]]
    length: bool
    key: str = field(compare=False)

    def __call__(self, inputs: Mapping[str, Any]) -> TruthValue:
        return result(self.tree, inputs)


def tree(source: str, environment: Environment) -> ConditionTree:
    """The checked tree of a condition that loads. Raises `ExpressionErrors` for any other."""
    parsed = parse(source)
    plan = check(parsed, environment)
    return ConditionTree(plan.root, plan.bind([slot.value for slot in parsed.slots]))


def result(condition: ConditionTree, inputs: Mapping[str, Any]) -> TruthValue:
    """What a condition gives for these inputs, by the exact form."""
    try:
        return "true" if evaluate(condition.root, condition.values, inputs) else "false"
    except Unavailable:
        return "unavailable"
    except EvaluationError:
        return "error"


def atoms(condition: ConditionTree) -> tuple[Atom, ...]:
    """Every atom of a condition, each once."""
    found: dict[str, Atom] = {}
    for node in _split(condition.root):
        atom = _atom(ConditionTree(node, condition.values))
        found.setdefault(atom.key, atom)
    return tuple(found.values())


def _split(node: Checked) -> Iterator[Checked]:
    match node:
        case Truth():
            return
        case Junction(_, operands):
            parts: tuple[Checked, ...] = operands
        case If(condition, yes, no) if _is_boolean(yes):
            parts = (condition, yes, no)
        case Apply(operation, arguments) if operation == NOT or (
            operation in _SAME and all(map(_is_boolean, arguments))
        ):
            parts = arguments
        case _:
            yield node
            return
    for part in parts:
        yield from _split(part)


def _is_boolean(node: Checked) -> bool:
    match node:
        case Truth() | Junction() | CallerHas():
            return True
        case RequestField(name):
            return REQUEST[name] == BOOL
        case If(_, yes, _):
            return _is_boolean(yes)
        case Apply(operation, _):
            return operation.gives == BOOL
        case Loop(macro):
            return macro in ("exists", "all", "exists_one")
        case _:
            return False


def _atom(condition: ConditionTree) -> Atom:
    seen = _WalkSeen(condition.values)
    seen.walk(condition.root)
    return Atom(
        condition,
        frozenset(seen.reads),
        tuple(seen.literals),
        _is_direct(condition.root),
        frozenset(seen.parts),
        seen.length,
        _key(condition.root, condition.values),
    )


_OVER = {loop: root for root, loop in LOOPED.items()}


class _WalkSeen:
    """What a walk through an atom came by."""

    def __init__(self, values: tuple[Any, ...]) -> None:
        self.values = values
        self.reads: set[str] = set()
        self.literals: list[Any] = []
        self.parts: set[tuple[str, tzinfo]] = set()
        self.length = False

    def walk(self, node: Checked) -> None:
        match node:
            case Operand(index):
                value = self.values[index]
                self.literals += value if isinstance(value, tuple) else [value]
            case RequestField(name):
                self.reads.add(f"request.{name}")
            case CallerValue(name) | CallerHas(name):
                self.reads.add(f"caller.{self.values[name.index]}")
            case Apply(operation, (Root(name), Operand(index))) if operation in (CATEGORY_SCORE, CATEGORY_KNOWN):
                self.reads.add(f"{name}.{self.values[index]}")
            case Root(name):
                self.reads.add(_OVER.get(name, name))
            case Apply(operation, arguments) if operation in _PARTS:
                zones = [self.values[part.index] for part in arguments[1:] if isinstance(part, Operand)]
                self.parts.add((_PARTS[operation], zones[0] if zones else _UTC))
                self.walk(arguments[0])
            case _:
                self.length |= isinstance(node, Apply) and node.operation == _SIZES[0]
                for part in _below(node):
                    self.walk(part)


def _below(node: Checked) -> tuple[Checked, ...]:
    match node:
        case Apply(_, parts) | ListOf(parts) | Junction(_, parts):
            return parts
        case If(condition, yes, no):
            return (condition, yes, no)
        case Loop(_, items, _, body, gives):
            return (items, body) if gives is None else (items, body, gives)
        case _:
            return ()


def _is_direct(node: Checked) -> bool:
    match node:
        case RequestField() | CallerHas():
            return True
        case Apply(operation, (_, Operand())) if operation == CATEGORY_KNOWN:
            return True
        case Apply(operation, (left, right)) if _is_literal(right) and operation in (*_COMPARE, *_MEMBER):
            return _is_term(left, operation)
        case Apply(operation, (left, right)) if _is_literal(left) and operation in _COMPARE:
            return _is_term(right, operation)
        case _:
            return False


def _is_literal(node: Checked) -> bool:
    """A value that is written out, a time or duration included."""
    match node:
        case Apply(operation, (Operand(),)):
            return operation.prepare is not None
        case _:
            return isinstance(node, Operand)


def _is_term(node: Checked, operation: Operator) -> bool:
    """What is read as it is. Texts in order are no points: between any two of them lie others."""
    equal = operation in _SAME or operation in _MEMBER
    match node:
        case RequestField(name):
            return equal or REQUEST[name] != STRING
        case CallerValue() | Root("surface"):
            return equal
        case Root("now"):
            return True
        case Apply(applied, (RequestField() | CallerValue(), *_)):
            return applied == _SIZES[0]
        case Apply(applied, (Root(), Operand())) if applied == CATEGORY_SCORE:
            return True
        case Apply(applied, (Root("now"), *_)):
            return applied in _PARTS and applied.takes[0] == TIMESTAMP
        case _:
            return False


def _key(node: Checked, values: tuple[Any, ...]) -> str:
    """A text that is the same for the same atom, whatever condition it stands in."""
    match node:
        case Operand(index):
            value = values[index]
            return repr(getattr(value, "pattern", value))
        case CallerValue(name) | CallerHas(name):
            return f"{type(node).__name__}({values[name.index]})"
        case Apply(operation, arguments):
            return operation.python.format(*(_key(part, values) for part in arguments))
        case Loop(macro, _, depth):
            return f"{macro}{depth}({', '.join(_key(part, values) for part in _below(node))})"
        case ListOf() | Junction() | If():
            inner = ", ".join(_key(part, values) for part in _below(node))
            return f"{type(node).__name__}{getattr(node, 'decides', '')}({inner})"
        case _:
            return repr(node)

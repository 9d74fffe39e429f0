"""The static check of comparison and arithmetic: types that go together, and literals that a field can have.

A comparison that can never be true is a mistake of the author, and is said so here.
"""

from __future__ import annotations

from functools import partial

from policyguard.policy.expr import names, operations, syntax
from policyguard.policy.expr.checked import Apply, Root
from policyguard.policy.expr.checker import CheckedPart, Checker, PresentNames, named, wrong
from policyguard.policy.expr.syntax import Literal
from policyguard.policy.expr.types import (
    ANYTHING,
    BOOL,
    DOUBLE,
    INT,
    SCORED,
    Type,
    common,
    is_single,
    possible,
    varies,
)
from policyguard.request import parse_size
from policyguard.text.suggest import did_you_mean, shown

_ORDERED = ("int", "double", "string", "timestamp", "duration")
_FLIPPED = {"<": ">", "<=": ">=", ">": "<", ">=": "<=", "==": "==", "!=": "!="}


def relation(checker: Checker, node: syntax.Relation, known: PresentNames) -> CheckedPart:
    left, right = checker.part(node.left, known), checker.part(node.right, known)
    if ANYTHING in (left.type, right.type):
        return wrong(node.at)
    if node.sign == "in":
        return _in(checker, node, left, right)
    before = len(checker.problems)
    _literals(checker, left, right, node.sign)
    problem = _incomparable(left, right, node.sign)
    if problem and len(checker.problems) > before:
        return wrong(node.at)  # of a literal that cannot be meant, its type is the lesser mistake
    if problem:
        return checker.problem(node.at, "PG405", *problem)
    return checker.applied(node.at, operations.comparison(node.sign, left.type), left, right)


def _literals(checker: Checker, left: CheckedPart, right: CheckedPart, sign: str) -> None:
    """A literal beside a field must be one that the field can have, or the condition is a mistake."""
    for part, other, seen in ((left, right, sign), (right, left, _FLIPPED[sign])):
        if other.literal is not None:
            _fits(checker, part.type, other.literal, seen)


def _fits(checker: Checker, type_: Type, literal: Literal, sign: str) -> None:
    _possible(checker, type_, literal)
    if type_.score:
        _score_range(checker, literal, sign)


def _possible(checker: Checker, type_: Type, literal: Literal) -> None:
    if literal.slot is None or not isinstance(literal.value, str) or not (type_.values or type_.size):
        return
    if not possible(type_, literal.value):
        checker.problem(literal.at, "PG406", *_impossible(type_, literal.value))
    checker.demands[literal.slot].allowed.append(partial(possible, type_))


def _score_range(checker: Checker, literal: Literal, sign: str) -> None:
    if literal.slot is None or not isinstance(literal.value, int | float):
        return
    if not varies(sign, literal.value):
        message = f"a score is from 0 to 1, so `{sign} {literal.value}` is the same for every score"
        percent = f"write `{literal.value / 100:g}`" if 1 < literal.value <= 100 else ""
        checker.problem(literal.at, "PG412", message, percent)
    checker.demands[literal.slot].allowed.append(partial(varies, sign))


def _in(checker: Checker, node: syntax.Relation, left: CheckedPart, right: CheckedPart) -> CheckedPart:
    if right.type.name in SCORED:
        return _category_known(checker, node, left, right.type.name)
    if right.type.item is None:
        return checker.problem(node.right.at, "PG405", f"`in` needs a list, got {named(right.type)}")
    if common(left.type, right.type.item) is None:
        return checker.problem(node.at, "PG405", f"cannot look for {named(left.type)} in a {right.type}")
    for item in right.items:
        if item.literal is not None:
            _fits(checker, left.type, item.literal, "==")
    if left.literal is not None:
        _fits(checker, right.type.item, left.literal, "==")
    exact = left.type == DOUBLE or left.type.item
    return checker.applied(node.at, operations.MEMBER_OF_DOUBLES if exact else operations.MEMBER, left, right)


def _category_known(checker: Checker, node: syntax.Relation, left: CheckedPart, root: str) -> CheckedPart:
    category = names.category(checker, left, root)
    if category is None:
        return checker.problem(node.left.at, "PG405", "a score is looked up by the name of its category")
    if isinstance(category, CheckedPart):
        return category
    return CheckedPart(BOOL, Apply(operations.CATEGORY_KNOWN, (Root(root), category)), node.at)


def _incomparable(left: CheckedPart, right: CheckedPart, sign: str) -> tuple[str, str] | None:
    """Why two parts cannot be compared, and what to do."""
    ordering = sign not in ("==", "!=")
    if not is_single(left.type) and left.type == right.type:
        return f"`{sign}` compares single values", ""
    if common(left.type, right.type) is None or (ordering and left.type.name not in _ORDERED):
        return f"cannot compare {left.type} {sign} {right.type}", _one_kind(left, right)
    for part in (left, right):
        if ordering and part.type.values:
            return f"`{sign}` goes by the alphabet here, not by rank", "list the values: `in [...]`"
        if ordering and part.type.size:
            return (
                f"`{sign}` goes by the alphabet here",
                "compare `request.pixels`, `request.width` or `request.height`",
            )
    return None


def _one_kind(left: CheckedPart, right: CheckedPart) -> str:
    """How to make a whole number and a double comparable."""
    if {left.type.name, right.type.name} != {"int", "double"}:
        return ""
    whole = left if left.type == INT else right
    if whole.literal is not None:
        return f"write `{whole.literal.value}.0`"
    return "convert the whole number with `double(...)`"


def _impossible(type_: Type, text: str) -> tuple[str, str]:
    if type_.values:
        return f"{shown(text)} is not one of {', '.join(type_.values)}", did_you_mean(text, type_.values)
    plain = "".join("x" if c in "×xX*" else c for c in text if not c.isspace())
    size = plain if parse_size(plain) else "1024x1024"
    meant = f"did you mean `{size}`?" if parse_size(plain) else f"a size is written like `{size}`, or `auto`"
    return f"{shown(text)} is no size", meant


def arithmetic(checker: Checker, node: syntax.Arithmetic, known: PresentNames) -> CheckedPart:
    left = checker.part(node.first, known)
    for sign, operand in node.rest:
        right = checker.part(operand, known)
        left = _computed(checker, node, sign, left, right)
    return left


def _computed(
    checker: Checker, node: syntax.Arithmetic, sign: str, left: CheckedPart, right: CheckedPart
) -> CheckedPart:
    if ANYTHING in (left.type, right.type):
        return wrong(node.at)
    operation = operations.form(operations.ARITHMETIC[sign], [left.type, right.type])
    lists = common(left.type, right.type) if left.type.item else None
    if operation is None or (left.type.item and lists is None):
        hint = _one_kind(left, right)
        return checker.problem(node.at, "PG405", f"cannot compute {left.type} {sign} {right.type}", hint)
    part = checker.applied(node.at, operation, left, right)
    return CheckedPart(lists, part.node, node.at) if lists else part

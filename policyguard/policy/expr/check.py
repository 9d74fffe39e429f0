"""The static checker: a parsed condition to a plan, or to all of its problems.

Logic and values are checked here, the rest in `names`, `compare` and `calls`. Knowledge of which optional caller values
are there flows through `&&`, `||`, `!` and the conditional.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from policyguard.policy.expr import calls, compare, emit, names, operations, syntax
from policyguard.policy.expr.checked import Apply, Checked, If, Junction, ListOf, Operand, Plan, Truth
from policyguard.policy.expr.checker import NOTHING, CheckedPart, Checker, PresentNames, named, wrong
from policyguard.policy.expr.parse import ParsedCondition
from policyguard.policy.expr.syntax import Literal
from policyguard.policy.expr.types import (
    ANYTHING,
    BOOL,
    DOUBLE,
    INT,
    STRING,
    Environment,
    ExpressionErrors,
    Type,
    common,
    is_single,
)


def check(parsed: ParsedCondition, environment: Environment) -> Plan:
    """Raises `ExpressionErrors` with every problem."""
    checker = Checker(environment, len(parsed.slots), list(parsed.problems), _CHECKS)
    part = checker.part(parsed.root, NOTHING)
    if part.type != BOOL and not checker.problems:
        checker.problem(parsed.root.at, "PG413", f"a condition is true or false, this is {named(part.type)}")
    if checker.problems:
        raise ExpressionErrors(tuple(checker.problems))
    extras = tuple(checker.extras)
    code = emit.code_of(part.node, len(parsed.slots) + len(extras))
    return Plan(part.node, frozenset(checker.reads), tuple(checker.demands), extras, code)


def _logic(checker: Checker, node: syntax.Logic, known: PresentNames) -> CheckedPart:
    decides = node.sign == "||"
    parts: list[CheckedPart] = []
    for operand in node.operands:
        part = checker.boolean(operand, known, node.sign)
        known |= part.when_false if decides else part.when_true
        parts.append(part)
    # One operand decides and may be any of them; the other result needs all of them.
    any_of = [part.when_true if decides else part.when_false for part in parts]
    all_of = [part.when_false if decides else part.when_true for part in parts]
    some, every = frozenset.intersection(*any_of), frozenset.union(*all_of)
    true, false = (some, every) if decides else (every, some)
    junction = Junction(decides, tuple(part.node for part in parts))
    return CheckedPart(BOOL, junction, node.at, when_true=true, when_false=false)


def _choice(checker: Checker, node: syntax.Choice, known: PresentNames) -> CheckedPart:
    condition = checker.boolean(node.condition, known, "?")
    yes = checker.part(node.yes, known | condition.when_true)
    no = checker.part(node.no, known | condition.when_false)
    if ANYTHING in (yes.type, no.type):
        return wrong(node.at)
    type_ = common(yes.type, no.type)
    if type_ is None:
        got = f"{named(yes.type)} and {named(no.type)}"
        return checker.problem(node.at, "PG405", f"the two sides of `:` are {got}")
    return CheckedPart(type_, If(condition.node, yes.node, no.node), node.at)


def _unary(checker: Checker, node: syntax.Unary, known: PresentNames) -> CheckedPart:
    if node.sign == "!":
        part = checker.boolean(node.operand, known, "!")
        negated = Apply(operations.NOT, (part.node,))
        return CheckedPart(BOOL, negated, node.at, when_true=part.when_false, when_false=part.when_true)
    part = checker.part(node.operand, known)
    operation = operations.form(operations.NEGATIONS, [part.type])
    if operation is None and part.type is not ANYTHING:
        return checker.problem(node.at, "PG405", f"`-` needs a number, got {named(part.type)}")
    return checker.applied(node.at, operation, part)


def _literal(checker: Checker, node: Literal, known: PresentNames) -> CheckedPart:
    if node.slot is None:
        return CheckedPart(BOOL, Truth(bool(node.value)), node.at)
    type_ = STRING if isinstance(node.value, str) else INT if isinstance(node.value, int) else DOUBLE
    return CheckedPart(type_, Operand(node.slot), node.at, literal=node)


def _items(checker: Checker, node: syntax.Items, known: PresentNames) -> CheckedPart:
    parts = tuple(checker.part(item, known) for item in node.items)
    item: Type | None = ANYTHING
    for part in parts:
        if not is_single(part.type):
            return checker.problem(part.at, "PG405", f"{named(part.type)} cannot stand in a list")
        item = item and common(item, part.type)
    if item is None:
        return checker.problem(node.at, "PG405", "the values of a list are of one type")
    slots = [part.literal.slot for part in parts if part.literal and part.literal.slot is not None]
    literal = len(slots) == len(parts)
    made: Checked = checker.parameter(tuple(slots)) if literal else ListOf(tuple(part.node for part in parts))
    return CheckedPart(Type("list", item=item), made, node.at, items=parts)


def _wrong(checker: Checker, node: syntax.Wrong, known: PresentNames) -> CheckedPart:
    return wrong(node.at)


_CHECKS: Mapping[type, Callable[[Checker, Any, PresentNames], CheckedPart]] = {
    Literal: _literal,
    syntax.Name: names.name,
    syntax.Field: names.field,
    syntax.Index: names.index,
    syntax.Items: _items,
    syntax.FunctionCall: calls.call,
    syntax.Unary: _unary,
    syntax.Logic: _logic,
    syntax.Relation: compare.relation,
    syntax.Arithmetic: compare.arithmetic,
    syntax.Choice: _choice,
    syntax.Wrong: _wrong,
}

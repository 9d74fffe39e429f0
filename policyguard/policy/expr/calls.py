"""The static check of functions and loops: their forms, and texts that must be written out.

What a function does when it runs is in `runtime` and `operations`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from policyguard.policy.expr import operations, syntax
from policyguard.policy.expr.checked import CallerHas, Loop, Root, Truth
from policyguard.policy.expr.checker import NOTHING, CheckedPart, Checker, PresentNames, named, wrong
from policyguard.policy.expr.names import caller
from policyguard.policy.expr.operations import Operator
from policyguard.policy.expr.types import ANYTHING, BOOL, LOOPED, ROOTS, SCORED, Type, is_single
from policyguard.text.suggest import did_you_mean, shown

MAX_LOOPS = 2  # a loop, and one inside it or over what it gives: each can make a list longer than the one before


def call(checker: Checker, node: syntax.FunctionCall, known: PresentNames) -> CheckedPart:
    if node.target is None and node.name == "has":
        return _has(checker, node)
    if node.target is not None and node.name in operations.LOOPS:
        return _loop(checker, node, node.target, known)
    target = () if node.target is None else (node.target,)
    parts = [checker.part(argument, known) for argument in (*target, *node.arguments)]
    if node.name in operations.REFUSED:
        return checker.problem(node.name_at, "PG414", f"policies do not use `{node.name}`")
    forms = operations.FUNCTIONS.get(f".{node.name}" if target else node.name)
    if forms is None:
        return _no_function(checker, node)
    if any(part.type is ANYTHING for part in parts):
        return wrong(node.at)
    operation = operations.form(forms, [part.type for part in parts])
    if operation is None:
        return _no_form(checker, node, forms, parts)
    if operation.prepare is not None:
        return _prepared(checker, node, operation, parts)
    return checker.applied(node.at, operation, *parts)


def _no_function(checker: Checker, node: syntax.FunctionCall) -> CheckedPart:
    names = [name for name in operations.FUNCTIONS if name.startswith(".") == (node.target is not None)]
    names += operations.LOOPS if node.target else ("has",)
    hint = did_you_mean(node.name, dict.fromkeys(name.lstrip(".") for name in names))
    other = node.name if node.target else f".{node.name}"
    if not hint and other in operations.FUNCTIONS:
        form = f"{node.name}(text)" if node.target else f"text.{node.name}(...)"
        hint = f"write `{form}`"
    return checker.problem(node.name_at, "PG404", f"there is no function {shown(node.name)}", hint)


def _no_form(
    checker: Checker, node: syntax.FunctionCall, forms: tuple[Operator, ...], parts: list[CheckedPart]
) -> CheckedPart:
    got = ", ".join(str(part.type) for part in parts) or "nothing"
    takes = " or ".join(f"({', '.join(t.name for t in form.takes)})" for form in forms)
    return checker.problem(node.at, "PG404", f"no form of `{node.name}` takes {got}", f"it takes {takes}")


def _prepared(
    checker: Checker, node: syntax.FunctionCall, operation: Operator, parts: list[CheckedPart]
) -> CheckedPart:
    literal = parts[-1].literal
    prepare: Callable[[str], Any] | None = operation.prepare
    if prepare is None or literal is None or literal.slot is None or not isinstance(literal.value, str):
        hint = "write it out, so that it is checked when the policy loads"
        return checker.problem(parts[-1].at, "PG408", f"`{node.name}` needs a text in quotes here", hint)
    try:
        prepare(literal.value)
    except ValueError as error:
        return checker.problem(literal.at, "PG408", str(error))
    checker.demands[literal.slot].prepare = prepare
    return checker.applied(node.at, operation, *parts)


# ---- has and loops --------------------------------------------------------------------------------------------


def _has(checker: Checker, node: syntax.FunctionCall) -> CheckedPart:
    """A guard for one caller value; on anything that is always there, or can be down, it would only mislead."""
    field = node.arguments[0] if len(node.arguments) == 1 else None
    if not isinstance(field, syntax.Field):
        return checker.problem(node.at, "PG411", "`has()` takes one field, like `has(caller.feature)`")
    root = field.operand.name if isinstance(field.operand, syntax.Name) else ""
    if root != "caller":
        if checker.part(field, NOTHING).type is ANYTHING:
            return wrong(node.at)
        down = f"a rule over {root} that are down denies or reviews by itself"
        hint = down if root in (*SCORED, "answers") else ""
        return checker.problem(node.at, "PG411", f"`{root}.{field.name}` needs no guard", hint)
    if caller(checker, field, frozenset({field.name})).type is ANYTHING:
        return wrong(node.at)
    if not checker.environment.caller[field.name].optional:
        return checker.problem(node.at, "PG411", f"`caller.{field.name}` is always there and needs no guard")
    return CheckedPart(BOOL, CallerHas(checker.parameter(field.name)), node.at, when_true=frozenset({field.name}))


def _loop(checker: Checker, node: syntax.FunctionCall, target: syntax.Node, known: PresentNames) -> CheckedPart:
    """A loop inside another and a loop over what another gives count alike: what they cost is multiplied."""
    around, most = checker.around, checker.most
    checker.most = around
    over = checker.part(target, known)
    checker.around = checker.most = checker.most + 1
    part = _loop_over(checker, node, target, over, known)
    checker.around, checker.most = around, max(most, checker.most)
    return part


def _loop_over(
    checker: Checker, node: syntax.FunctionCall, target: syntax.Node, over: CheckedPart, known: PresentNames
) -> CheckedPart:
    variable = node.arguments[0] if len(node.arguments) in (2, 3 if node.name == "map" else 2) else None
    if not isinstance(variable, syntax.Name):
        what = "an expression" if node.name == "map" else "a condition"
        return checker.problem(node.name_at, "PG404", f"`{node.name}` takes a variable and {what}")
    if checker.around > MAX_LOOPS:
        message = f"more than {MAX_LOOPS} loops work on one another"
        first = checker.around == MAX_LOOPS + 1  # further ones are the same mistake
        return checker.problem(node.name_at, "PG409", message) if first else wrong(node.at)
    if variable.name in ROOTS or variable.name in checker.variables:
        return checker.problem(
            variable.at, "PG402", f"the loop variable hides `{variable.name}`", "choose another name"
        )
    looked_up = SCORED.get(over.type.name)
    item = Type("string", values=looked_up) if looked_up else over.type.item
    if item is None:
        if over.type is ANYTHING:
            item = ANYTHING
        else:
            return checker.problem(target.at, "PG405", f"`{node.name}` needs a list, got {named(over.type)}")
    return _body(checker, node, over, variable.name, item, known)


def _body(
    checker: Checker, node: syntax.FunctionCall, over: CheckedPart, variable: str, item: Type, known: PresentNames
) -> CheckedPart:
    depth = len(checker.variables)
    checker.variables[variable] = item
    tests, gives = node.arguments[1:], None
    if node.name == "map":
        gives = checker.part(tests[-1], known)
        tests = tests[:-1]
        if not is_single(gives.type):
            gives = checker.problem(gives.at, "PG405", f"{named(gives.type)} cannot stand in a list")
    body = checker.boolean(tests[0], known, node.name).node if tests else Truth(True)
    del checker.variables[variable]
    if over.type is ANYTHING:
        return wrong(node.at)
    type_ = BOOL if node.name in ("exists", "all", "exists_one") else Type("list", item=gives.type if gives else item)
    items = Root(LOOPED[over.type.name]) if over.type.name in LOOPED else over.node
    return CheckedPart(type_, Loop(node.name, items, depth, body, gives.node if gives else None), node.at)

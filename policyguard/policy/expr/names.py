"""The static check of names: what can be read, with did-you-mean, and which caller values need a guard.

Which fields there are is the table in `fields`.
"""

from __future__ import annotations

import re

from policyguard.policy.expr import operations, syntax
from policyguard.policy.expr.checked import Apply, CallerValue, Checked, RequestField, Root, Variable
from policyguard.policy.expr.checker import CheckedPart, Checker, PresentNames, named, wrong
from policyguard.policy.expr.syntax import At
from policyguard.policy.expr.types import (
    ANYTHING,
    NOT_YET_ROOTS,
    REQUEST,
    ROOTS,
    SCORE,
    SCORED,
    STRING,
    Type,
)
from policyguard.request import CATEGORIES
from policyguard.text.suggest import did_you_mean, known_names, shown

_PARTS = re.compile("[/-]")  # in the name of a category


def name(checker: Checker, node: syntax.Name, known: PresentNames) -> CheckedPart:
    name = node.name
    if name in checker.variables:
        return CheckedPart(checker.variables[name], Variable(list(checker.variables).index(name)), node.at)
    if name in NOT_YET_ROOTS:
        return checker.problem(node.at, "PG410", f"`{name}` is not enforced yet")
    if name == "google":
        return checker.problem(node.at, "PG414", "policies do not use messages")
    if name not in ROOTS:
        return checker.problem(node.at, "PG402", f"there is no {shown(name)} here", _meant(checker, name))
    if name in ("surface", "now", *SCORED):
        checker.reads.add(name)
    return CheckedPart(ROOTS[name], Root(name), node.at)


def _meant(checker: Checker, name: str) -> str:
    """What is written without its root, or a category whose sign was read as one of CEL; else what is near."""
    whole = [f"caller.{name}"] if name in checker.environment.caller else []
    whole += [f"request.{name}"] if name in REQUEST else []
    whole += [f'scores["{category}"]' for category in CATEGORIES if name == _PARTS.split(category)[-1] != category]
    whole += [f"answers.{name}"] if name in checker.environment.answers else []
    if whole:
        return "write " + " or ".join(f"`{text}`" for text in whole)
    listed = (*ROOTS, *checker.variables)
    return did_you_mean(name, (*listed, "true", "false")) or known_names("", listed)


def field(checker: Checker, node: syntax.Field, known: PresentNames) -> CheckedPart:
    root = node.operand.name if isinstance(node.operand, syntax.Name) else None
    if root == "request":
        return _request(checker, node)
    if root == "caller":
        return caller(checker, node, known)
    if root is not None and root in SCORED:
        return _score(checker, node.at, node.name_at, node.name, root)
    if root == "answers":
        return _answer(checker, node)
    part = checker.part(node.operand, known)
    if part.type is ANYTHING:
        return wrong(node.at)
    return checker.problem(node.name_at, "PG403", f"{named(part.type)} has no fields")


def _request(checker: Checker, node: syntax.Field) -> CheckedPart:
    if node.name not in REQUEST:
        hint = known_names(node.name, REQUEST)
        return checker.problem(node.name_at, "PG403", f"`request` has no field {shown(node.name)}", hint)
    checker.reads.add(f"request.{node.name}")
    return CheckedPart(REQUEST[node.name], RequestField(node.name), node.at)


def caller(checker: Checker, node: syntax.Field, known: PresentNames) -> CheckedPart:
    declared = checker.environment.caller.get(node.name)
    if declared is None:
        hint = known_names(node.name, checker.environment.caller)
        return checker.problem(node.name_at, "PG403", f"`caller` has no field {shown(node.name)}", hint)
    checker.reads.add(f"caller.{node.name}")
    if declared.optional and node.name not in known:
        hint = f"guard it: `has(caller.{node.name}) && ...`"
        checker.problem(node.name_at, "PG407", f"`caller.{node.name}` may be absent", hint)
    return CheckedPart(Type("string", values=declared.values), CallerValue(checker.parameter(node.name)), node.at)


def _score(checker: Checker, at: At, name_at: At, category: str, root: str) -> CheckedPart:
    if category not in CATEGORIES:
        hint = did_you_mean(category, SCORED[root])
        return checker.problem(name_at, "PG406", f"{shown(category)} is no moderation category", hint)
    if category not in SCORED[root]:
        hint = f"there are {', '.join(SCORED[root])}"
        return checker.problem(name_at, "PG406", f"{shown(category)} is not looked for in pictures", hint)
    checker.reads.add(f"{root}.{category}")
    return CheckedPart(SCORE, Apply(operations.CATEGORY_SCORE, (Root(root), checker.parameter(category))), at)


def _answer(checker: Checker, node: syntax.Field) -> CheckedPart:
    """A probability, like a score: a question that has no answer is an input that is down."""
    asked = checker.environment.answers
    if node.name not in asked:
        hint = known_names(node.name, sorted(asked)) or "write it under `questions`"
        return checker.problem(node.name_at, "PG403", f"there is no question {shown(node.name)}", hint)
    checker.reads.add(f"answers.{node.name}")
    return CheckedPart(
        SCORE, Apply(operations.CATEGORY_SCORE, (Root("answers"), checker.parameter(node.name))), node.at
    )


def index(checker: Checker, node: syntax.Index, known: PresentNames) -> CheckedPart:
    index = checker.part(node.index, known)
    root = node.operand.name if isinstance(node.operand, syntax.Name) else ""
    if root not in SCORED:
        operand = checker.part(node.operand, known)
        if operand.type is ANYTHING:
            return wrong(node.at)
        return checker.problem(node.at, "PG414", "only `scores` and `output` are looked up with `[...]`")
    if index.type is ANYTHING:
        return wrong(node.at)
    named_category = category(checker, index, root)
    if named_category is None:
        return checker.problem(index.at, "PG405", "a score is looked up by the name of its category")
    if isinstance(named_category, CheckedPart):
        return named_category
    return CheckedPart(SCORE, Apply(operations.CATEGORY_SCORE, (Root(root), named_category)), node.at)


def category(checker: Checker, part: CheckedPart, root: str) -> Checked | CheckedPart | None:
    """What names a category, its reading noted; a `CheckedPart` where it is a problem, None where it is no name."""
    literal = part.literal
    if literal is not None and literal.slot is not None and isinstance(literal.value, str):
        checker.demands[literal.slot].fixed = True
        score = _score(checker, part.at, literal.at, literal.value, root)
        return score if score.type is ANYTHING else part.node
    if part.type == STRING and part.type.values and set(part.type.values) <= set(SCORED[root]):
        checker.reads.add(root)
        return part.node
    return None

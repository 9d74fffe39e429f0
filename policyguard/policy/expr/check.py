"""The static checker, which compiles as it goes: each part of the tree becomes its type and a closure.

A problem never stops the check: the part becomes `ANYTHING`, which goes with everything, so that one run shows all
mistakes. Knowledge of which optional caller values are there flows through `&&`, `||`, `!` and the conditional.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

from policyguard.policy.expr import runtime
from policyguard.policy.expr.calls import CALLS, LOOPS, Call
from policyguard.policy.expr.syntax import string_value
from policyguard.policy.expr.types import (
    ANYTHING,
    BOOL,
    CATEGORY,
    DOUBLE,
    INT,
    NOT_YET_FIELDS,
    NOT_YET_ROOTS,
    REQUEST,
    ROOTS,
    SCORE,
    SCORES,
    STRING,
    Environment,
    ExpressionErrors,
    Problem,
    Run,
    Type,
    literal_problem,
)
from policyguard.request import CATEGORIES

Known = frozenset[str]
_NOTHING: Known = frozenset()
_COMPARE: Mapping[str, tuple[str, Callable[[Any, Any], bool]]] = {
    "relation_lt": ("<", operator.lt),
    "relation_le": ("<=", operator.le),
    "relation_gt": (">", operator.gt),
    "relation_ge": (">=", operator.ge),
    "relation_eq": ("==", operator.eq),
    "relation_ne": ("!=", operator.ne),
}
_ARITHMETIC: Mapping[str, tuple[str, Callable[[Any, Any], Any], tuple[str, ...]]] = {
    "addition_add": ("+", runtime.add, ("int", "double", "string")),
    "addition_sub": ("-", runtime.subtract, ("int", "double")),
    "multiplication_mul": ("*", runtime.multiply, ("int", "double")),
    "multiplication_div": ("/", runtime.divide, ("int", "double")),
    "multiplication_mod": ("%", runtime.modulo, ("int",)),
}
_ORDERED = ("int", "double", "string", "timestamp", "duration")


@dataclass(frozen=True, slots=True)
class Part:
    """A checked part. `literal` is its value where it is written out; `when_*` are the caller values then known."""

    type: Type
    run: Run
    literal: Any = None
    when_true: Known = _NOTHING
    when_false: Known = _NOTHING


def compile_tree(tree: Any, environment: Environment) -> tuple[Run, frozenset[str]]:
    """The closure and what it reads. Raises `ExpressionErrors` with every problem."""
    checker = Checker(environment)
    part = checker.part(tree, _NOTHING)
    if part.type not in (BOOL, ANYTHING):
        checker.problem(tree, "PG413", f"a condition is true or false, this is a {part.type}")
    if checker.problems:
        raise ExpressionErrors(tuple(checker.problems))
    return part.run, frozenset(checker.reads)


def _never(inputs: Mapping[str, Any]) -> Any:
    raise runtime.EvaluationError("internal")


WRONG = Part(ANYTHING, _never)


class Checker:
    """One expression's check. `variables` are those of the loop around the part at hand."""

    def __init__(self, environment: Environment) -> None:
        self.environment = environment
        self.problems: list[Problem] = []
        self.reads: set[str] = set()
        self.variables: dict[str, Type] = {}

    def problem(self, node: Any, code: str, message: str, hint: str = "") -> Part:
        line, column = _position(node)
        self.problems.append(Problem(line, column, code, message, hint))
        return WRONG

    def part(self, tree: Any, known: Known) -> Part:
        """Check one node, below the grammar's one-child levels."""
        while tree.data in _LEVELS and len(tree.children) == 1:
            tree = tree.children[0]
        visit = getattr(self, f"_{tree.data}", None)
        if visit is None:
            return self.problem(tree, "PG414", "policies do not use this part of CEL")
        result: Part = visit(tree, known)
        return result

    # ---- logic ------------------------------------------------------------------------------------------------

    def _expr(self, tree: Any, known: Known) -> Part:
        condition = self._bool(tree.children[0], known, "?")
        yes = self.part(tree.children[1], known | condition.when_true)
        no = self.part(tree.children[2], known | condition.when_false)
        if ANYTHING not in (yes.type, no.type) and yes.type != no.type:
            return self.problem(tree, "PG405", f"the two sides of `:` are a {yes.type} and a {no.type}")
        test, run_yes, run_no = condition.run, yes.run, no.run
        return Part(yes.type, lambda i: run_yes(i) if test(i) else run_no(i))

    def _conditionalor(self, tree: Any, known: Known) -> Part:
        left = self._bool(tree.children[0], known, "||")
        right = self._bool(tree.children[1], known | left.when_false, "||")
        run = runtime.either((left.run, right.run), True)
        both = left.when_true & right.when_true
        return Part(BOOL, run, when_true=both, when_false=left.when_false | right.when_false)

    def _conditionaland(self, tree: Any, known: Known) -> Part:
        left = self._bool(tree.children[0], known, "&&")
        right = self._bool(tree.children[1], known | left.when_true, "&&")
        run = runtime.either((left.run, right.run), False)
        both = left.when_false & right.when_false
        return Part(BOOL, run, when_true=left.when_true | right.when_true, when_false=both)

    def _unary(self, tree: Any, known: Known) -> Part:
        sign = tree.children[0].data
        if sign == "unary_not":
            part = self._bool(tree.children[1], known, "!")
            run = part.run
            return Part(BOOL, lambda i: not run(i), when_true=part.when_false, when_false=part.when_true)
        part = self.part(tree.children[1], known)
        if part.type not in (INT, DOUBLE, ANYTHING):
            return self.problem(tree, "PG405", f"`-` needs a number, got a {part.type}")
        run = part.run
        return Part(part.type, lambda i: runtime.negate(run(i)))

    def _bool(self, tree: Any, known: Known, sign: str) -> Part:
        part = self.part(tree, known)
        if part.type not in (BOOL, ANYTHING):
            return self.problem(tree, "PG405", f"`{sign}` needs true or false, got a {part.type}")
        return part

    # ---- comparison and arithmetic ----------------------------------------------------------------------------

    def _relation(self, tree: Any, known: Known) -> Part:
        kind = tree.children[0].data
        left = self.part(tree.children[0].children[0], known)
        right = self.part(tree.children[1], known)
        if ANYTHING in (left.type, right.type):
            return WRONG
        if kind == "relation_in":
            return self._in(tree, left, right)
        sign, compare = _COMPARE[kind]
        if left.type != right.type or (left.type.name not in _ORDERED and sign not in ("==", "!=")):
            hint = "write the whole number with a point, like `1.0`" if _mixed(left, right) else ""
            return self.problem(tree, "PG405", f"cannot compare {left.type} {sign} {right.type}", hint)
        if left.type in (SCORES, ROOTS["request"], ROOTS["caller"]):
            return self.problem(tree, "PG405", f"`{sign}` compares single values")
        self._literals(tree, left, right, sign)
        run_left, run_right = left.run, right.run
        return Part(BOOL, lambda i: compare(run_left(i), run_right(i)))

    def _literals(self, tree: Any, left: Part, right: Part, sign: str) -> None:
        """A literal beside a field must be one that the field can have, or the condition is a mistake."""
        for field, other in ((left, right), (right, left)):
            if isinstance(other.literal, str):
                self._possible(tree, field.type, other.literal)
            if field.type.score and isinstance(other.literal, float) and not 0 <= other.literal <= 1:
                self.problem(tree, "PG412", f"a score is from 0 to 1, so `{sign} {other.literal}` never changes")

    def _possible(self, tree: Any, type_: Type, text: str) -> None:
        wrong = literal_problem(type_, text)
        if wrong:
            close = type_.values or (("1024x1024",) if type_.size else ())
            self.problem(tree, "PG406", wrong, did_you_mean(text, close))

    def _in(self, tree: Any, left: Part, right: Part) -> Part:
        if right.type == SCORES:
            return self.problem(tree, "PG405", "every category has a score", "compare the score itself")
        if right.type.item is None:
            return self.problem(tree, "PG405", f"`in` needs a list, got a {right.type}")
        if right.type.item not in (left.type, ANYTHING):
            return self.problem(tree, "PG405", f"cannot look for a {left.type} in a {right.type}")
        for text in right.literal or ():
            if isinstance(text, str):
                self._possible(tree, left.type, text)
        run_left, run_right = left.run, right.run
        return Part(BOOL, lambda i: run_left(i) in run_right(i))

    def _arithmetic(self, tree: Any, known: Known) -> Part:
        sign, compute, allowed = _ARITHMETIC[tree.children[0].data]
        left = self.part(tree.children[0].children[0], known)
        right = self.part(tree.children[1], known)
        if ANYTHING in (left.type, right.type):
            return WRONG
        if left.type != right.type or left.type.name not in allowed:
            hint = "convert with `double(...)`" if _mixed(left, right) else ""
            return self.problem(tree, "PG405", f"cannot compute {left.type} {sign} {right.type}", hint)
        run_left, run_right = left.run, right.run
        plain = Type(left.type.name)
        return Part(plain, lambda i: compute(run_left(i), run_right(i)))

    _addition = _multiplication = _arithmetic

    # ---- names ------------------------------------------------------------------------------------------------

    def _ident(self, tree: Any, known: Known) -> Part:
        name = str(tree.children[0])
        if name in self.variables:
            return Part(self.variables[name], lambda i: i[name])
        if name in NOT_YET_ROOTS:
            return self.problem(tree, "PG410", f"`{name}` is not enforced yet")
        if name not in ROOTS:
            names = (*ROOTS, *self.variables)
            return self.problem(tree, "PG402", f"there is no `{name}` here", did_you_mean(name, names))
        if name in ("surface", "now", "scores"):
            self.reads.add(name)
        return Part(ROOTS[name], lambda i: i[name])

    def _member_dot(self, tree: Any, known: Known) -> Part:
        root, name = _root(tree.children[0]), str(tree.children[1])
        if root == "request":
            return self._request(tree, name)
        if root == "caller":
            return self._caller(tree, name, known)
        if root == "scores" and "scores" not in self.variables:
            return self._score(tree, name)
        part = self.part(tree.children[0], known)
        if part.type is ANYTHING:
            return WRONG
        return self.problem(tree.children[1], "PG403", f"a {part.type} has no fields")

    def _request(self, tree: Any, name: str) -> Part:
        if f"request.{name}" in NOT_YET_FIELDS:
            return self.problem(tree.children[1], "PG410", f"`request.{name}` is not enforced yet")
        if name not in REQUEST:
            hint = did_you_mean(name, REQUEST)
            return self.problem(tree.children[1], "PG403", f"`request` has no field `{name}`", hint)
        self.reads.add(f"request.{name}")
        return Part(REQUEST[name], runtime.request_value(name))

    def _caller(self, tree: Any, name: str, known: Known) -> Part:
        declared = self.environment.caller.get(name)
        if declared is None:
            hint = did_you_mean(name, self.environment.caller)
            return self.problem(tree.children[1], "PG403", f"`caller` has no field `{name}`", hint)
        self.reads.add(f"caller.{name}")
        if declared.optional and name not in known:
            hint = f"guard it: `has(caller.{name}) && ...`"
            self.problem(tree, "PG407", f"`caller.{name}` may be absent", hint)
        return Part(Type("string", values=declared.values), runtime.caller_value(name))

    def _score(self, tree: Any, category: str) -> Part:
        if category not in CATEGORIES:
            hint = did_you_mean(category, CATEGORIES)
            return self.problem(tree.children[1], "PG406", f"`{category}` is no moderation category", hint)
        self.reads.add(f"scores.{category}")
        return Part(SCORE, runtime.score(category))

    def _member_index(self, tree: Any, known: Known) -> Part:
        index = self.part(tree.children[1], known)
        if _root(tree.children[0]) == "scores" and "scores" not in self.variables:
            if isinstance(index.literal, str):
                return self._score(tree, index.literal)
            if index.type == CATEGORY and index.type.values:
                self.reads.add("scores")
                run = index.run
                return Part(SCORE, lambda i: runtime.score_of(i, run(i)))
            return self.problem(tree.children[1], "PG405", "a score is looked up by the name of its category")
        return self.problem(tree, "PG414", "only `scores` is looked up with `[...]`")

    # ---- literals ---------------------------------------------------------------------------------------------

    def _literal(self, tree: Any, known: Known) -> Part:
        token = tree.children[0]
        try:
            value, type_ = _value(token)
        except (ValueError, OverflowError, runtime.EvaluationError):
            return self.problem(tree, "PG401", "this value cannot be read")
        if type_ is None:
            return self.problem(tree, "PG414", "policies do not use values of this kind")
        return Part(type_, lambda i: value, literal=value)

    def _paren_expr(self, tree: Any, known: Known) -> Part:
        return self.part(tree.children[0], known)

    def _list_lit(self, tree: Any, known: Known) -> Part:
        trees = tree.children[0].children if tree.children else []
        parts = [self.part(item, known) for item in trees]
        types = {part.type for part in parts} - {ANYTHING}
        if len(types) > 1:
            return self.problem(tree, "PG405", "the values of a list are of one type")
        runs = [part.run for part in parts]
        literal = tuple(p.literal for p in parts) if all(p.literal is not None for p in parts) else None
        item = types.pop() if types else ANYTHING
        return Part(Type("list", item=item), lambda i: [run(i) for run in runs], literal=literal)

    # ---- calls ------------------------------------------------------------------------------------------------

    def _ident_arg(self, tree: Any, known: Known) -> Part:
        name = str(tree.children[0])
        arguments = tree.children[1].children if len(tree.children) > 1 else []
        if name == "has":
            return self._has(tree, arguments)
        return self._call(tree, name, [self.part(a, known) for a in arguments])

    def _member_dot_arg(self, tree: Any, known: Known) -> Part:
        name = str(tree.children[1])
        arguments = tree.children[2].children if len(tree.children) > 2 else []
        if name in LOOPS:
            return self._loop(tree, name, arguments, known)
        target = self.part(tree.children[0], known)
        return self._call(tree, f".{name}", [target, *(self.part(a, known) for a in arguments)])

    def _call(self, tree: Any, name: str, arguments: list[Part]) -> Part:
        calls = CALLS.get(name)
        if calls is None:
            plain = [known.lstrip(".") for known in (*CALLS, *LOOPS, "has")]
            shown = name.lstrip(".")
            return self.problem(tree, "PG404", f"there is no function `{shown}`", did_you_mean(shown, plain))
        if any(part.type is ANYTHING for part in arguments):
            return WRONG
        kinds = [part.type.name for part in arguments]
        call = next((c for c in calls if list(c.takes) == kinds), None)
        if call is None:
            got = ", ".join(kinds) or "nothing"
            return self.problem(tree, "PG404", f"no form of `{name.lstrip('.')}` takes {got}")
        return self._made(tree, call, arguments)

    def _made(self, tree: Any, call: Call, arguments: list[Part]) -> Part:
        if call.prepare is None:
            runs, compute = [part.run for part in arguments], call.compute
            return Part(call.gives, lambda i: compute(*(run(i) for run in runs)))
        fixed = arguments[-1].literal
        if not isinstance(fixed, str):
            return self.problem(tree, "PG408", "this needs a text that is written out, so that it is checked here")
        try:
            prepared = call.prepare(fixed)
        except ValueError as error:
            return self.problem(tree, "PG408", str(error))
        if len(arguments) == 1:
            return Part(call.gives, lambda i: prepared)
        run, compute = arguments[0].run, call.compute
        return Part(call.gives, lambda i: compute(run(i), prepared))

    def _has(self, tree: Any, arguments: list[Any]) -> Part:
        selection = _below(arguments[0]) if len(arguments) == 1 else None
        if selection is None or selection.data != "member_dot":
            return self.problem(tree, "PG411", "`has()` takes one field, like `has(caller.feature)`")
        root, name = _root(selection.children[0]), str(selection.children[1])
        if root != "caller":
            part = self.part(selection, _NOTHING)
            if part.type is ANYTHING:
                return WRONG
            hint = "a rule over scores that are down denies or reviews by itself" if root == "scores" else ""
            return self.problem(tree, "PG411", f"`{root}.{name}` needs no guard", hint)
        declared = self.environment.caller.get(name)
        if declared is None:
            return self._caller(selection, name, frozenset({name}))
        if not declared.optional:
            return self.problem(tree, "PG411", f"`caller.{name}` is always there and needs no guard")
        self.reads.add(f"caller.{name}")
        return Part(BOOL, lambda i: i["caller"].get(name) is not None, when_true=frozenset({name}))

    def _loop(self, tree: Any, name: str, arguments: list[Any], known: Known) -> Part:
        variable = _below(arguments[0]) if len(arguments) == 2 else None
        if variable is None or variable.data != "ident":
            return self.problem(tree, "PG404", f"`{name}` takes a variable and a condition")
        if self.variables:
            return self.problem(tree, "PG409", "loops are not nested")
        over = self.part(tree.children[0], known)
        word = str(variable.children[0])
        if word in ROOTS:
            return self.problem(variable, "PG402", f"the loop variable hides `{word}`", "choose another name")
        item = CATEGORY if over.type == SCORES else over.type.item
        if item is None:
            return WRONG if over.type is ANYTHING else self.problem(tree, "PG405", f"`{name}` needs a list")
        self.variables = {word: item}
        body = self._bool(arguments[1], known, name)
        self.variables = {}
        items: Run = (lambda i: CATEGORIES) if over.type == SCORES else over.run
        return Part(BOOL, runtime.loop(items, word, body.run, LOOPS[name]))


_LEVELS = frozenset(
    ("expr", "conditionalor", "conditionaland", "relation", "addition", "multiplication", "unary", "member", "primary")
)


def _below(tree: Any) -> Any:
    while getattr(tree, "data", None) in _LEVELS and len(tree.children) == 1:
        tree = tree.children[0]
    return tree


def _root(tree: Any) -> str | None:
    """The name, where the tree is one name alone."""
    below = _below(tree)
    return str(below.children[0]) if getattr(below, "data", None) == "ident" else None


def _position(node: Any) -> tuple[int, int]:
    meta = getattr(node, "meta", node)
    return getattr(meta, "line", None) or 1, getattr(meta, "column", None) or 1


def _mixed(left: Part, right: Part) -> bool:
    return {left.type.name, right.type.name} == {"int", "double"}


def _value(token: Any) -> tuple[Any, Type | None]:
    text = str(token)
    if token.type in ("STRING_LIT", "MLSTRING_LIT"):
        return string_value(text), STRING
    if token.type == "INT_LIT":
        return runtime.whole(int(text, 0 if "x" in text.lower() else 10)), INT
    if token.type == "FLOAT_LIT":
        return float(text), DOUBLE
    if token.type == "BOOL_LIT":
        return text == "true", BOOL
    return None, None


def did_you_mean(text: str, names: Any) -> str:
    close = get_close_matches(text, list(names), n=1)
    return f"did you mean `{close[0]}`?" if close else ""

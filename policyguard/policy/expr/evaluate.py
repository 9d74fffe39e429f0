"""The exact form: a walk of the checked tree with CEL's absorption of errors and of inputs that are down.

It runs where the fast form raised, so it may be slow. Where an error and an unavailable input both remain, the error
wins: a rule that errs denies, one whose input is down may only be reviewed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

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
    Variable,
)
from policyguard.policy.expr.fields import field_of
from policyguard.policy.expr.runtime import EvaluationError, Unavailable, categories, moment, pictured


def evaluate(root: Checked, values: tuple[Any, ...], inputs: Mapping[str, Any]) -> bool:
    """Raises `Unavailable` or `EvaluationError`, nothing else, and neither carries a value or another error."""
    try:
        return _Evaluation(values, inputs).boolean(root)
    except Exception as error:
        problem = _worse(None, error)
    raise problem


class _Evaluation:
    """One evaluation; `variables` are those of the loops around the part at hand."""

    def __init__(self, values: tuple[Any, ...], inputs: Mapping[str, Any]) -> None:
        self.values = values
        self.inputs = inputs
        self.variables: list[Any] = []

    def value(self, node: Checked) -> Any:
        match node:
            case Operand(index):
                return self.values[index]
            case Truth(value):
                return value
            case Variable(depth):
                return self.variables[depth]
            case RequestField(name):
                return field_of(self.inputs["request"], name)
            case CallerValue(name):
                return self._caller(self.values[name.index])
            case CallerHas(name):
                return self.inputs["caller"].get(self.values[name.index]) is not None
            case Root(name):
                return self._root(name)
            case Apply(operation, arguments):
                return operation.compute(*self._all(arguments))
            case ListOf(items):
                return self._all(items)
            case Junction(decides, operands):
                return _decide(decides, (partial(self.boolean, part) for part in operands))
            case If(condition, yes, no):
                return self.value(yes if self.boolean(condition) else no)
            case Loop():
                return self._loop(node)

    def boolean(self, node: Checked) -> bool:
        """Nothing but true and false counts as such, whatever a broken input holds."""
        value = self.value(node)
        if value is not True and value is not False:
            raise EvaluationError("internal")
        return value

    def _caller(self, name: str) -> Any:
        value = self.inputs["caller"].get(name)
        if value is None:
            raise EvaluationError("missing_caller_value")
        return value

    def _root(self, name: str) -> Any:
        if name == "categories":
            return categories(self.inputs["scores"])
        if name == "pictured":
            return pictured(self.inputs["output"])
        return moment(self.inputs["now"]) if name == "now" else self.inputs[name]

    def _all(self, nodes: Iterable[Checked]) -> list[Any]:
        """Every value, or the worst of what went wrong."""
        return _every(partial(self.value, part) for part in nodes)

    def _loop(self, loop: Loop) -> Any:
        items = list(self.value(loop.items))
        tests = (partial(self._with, loop.depth, item, loop.body, self.boolean) for item in items)
        if loop.macro in ("exists", "all"):
            return _decide(loop.macro == "exists", tests)
        chosen = [item for item, keep in zip(items, _every(tests), strict=True) if keep]
        if loop.macro == "exists_one":
            return len(chosen) == 1
        if loop.gives is None:
            return chosen
        return _every(partial(self._with, loop.depth, item, loop.gives, self.value) for item in chosen)

    def _with(self, depth: int, item: Any, node: Checked, read: Callable[[Checked], Any]) -> Any:
        self.variables[depth:] = [item]
        return read(node)


def _decide(decides: bool, operands: Iterable[Callable[[], bool]]) -> bool:
    """One deciding operand wins over whatever went wrong in another."""
    wrong: Exception | None = None
    for operand in operands:
        try:
            if operand() is decides:
                return decides
        except Exception as error:
            wrong = _worse(wrong, error)
    if wrong is not None:
        raise wrong
    return not decides


def _every(parts: Iterable[Callable[[], Any]]) -> list[Any]:
    wrong: Exception | None = None
    found = []
    for part in parts:
        try:
            found.append(part())
        except Exception as error:
            wrong = _worse(wrong, error)
    if wrong is not None:
        raise wrong
    return found


def _worse(old: Exception | None, new: Exception) -> Exception:
    if isinstance(new, Unavailable):
        return old or new
    return new if isinstance(new, EvaluationError) else EvaluationError("internal")  # its text could quote a prompt

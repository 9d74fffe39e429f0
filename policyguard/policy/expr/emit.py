"""The fast form: a checked tree as the source of one Python function, compiled once for all conditions of its shape.

The source holds no text of a policy: literals and names that are looked up are parameters, fields come from the table
of types, variables are numbered. The function has no builtins. Where anything goes wrong in it, the exact form decides,
called outside of the handler, so that no error carries another one, which could quote the prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import lru_cache
from types import CodeType, FunctionType
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
from policyguard.policy.expr.fields import FIELDS
from policyguard.policy.expr.operations import HELPERS

Evaluate = Callable[[Mapping[str, Any]], bool]

_GLOBALS: dict[str, Any] = {"__builtins__": {}, **HELPERS, "Exception": Exception}
_FUNCTION = """\
def condition(inputs{names}, exactly):
    try:
        {lines}found = {body}
        if found is True or found is False:
            return found
    except Exception:
        pass
    return exactly(inputs)
"""
_ROOTS = {
    "request": 'inputs["request"]',
    "caller": 'inputs["caller"]',
    "scores": 'inputs["scores"]',
    "output": 'inputs["output"]',
    "answers": 'inputs["answers"]',
    "surface": 'inputs["surface"]',
    "now": 'moment(inputs["now"])',
}
_LOOPS = {
    "exists": "any({body} for {v} in {items})",
    "all": "all({body} for {v} in {items})",
    "exists_one": "(sum(1 for {v} in {items} if {body}) == 1)",
    "filter": "[{v} for {v} in {items} if {body}]",
    "map": "[{gives} for {v} in {items} if {body}]",
}


def code_of(root: Checked, parameters: int) -> CodeType | None:
    """None where Python cannot compile it, for example for its depth: the exact form then does all the work."""
    try:
        return _compiled(source_of(root, parameters))
    except (SyntaxError, MemoryError, RecursionError):
        return None


def function(code: CodeType, values: tuple[Any, ...], exactly: Evaluate) -> Evaluate:
    """A function of the inputs, with its parameters filled in."""
    return FunctionType(code, _GLOBALS, "condition", (*values, exactly))


def source_of(root: Checked, parameters: int) -> str:
    used: set[str] = set()
    body = _expression(root, used)
    lines = "".join(f"{name} = {read}; " for name, read in _ROOTS.items() if name in used)
    names = "".join(f", p{index}" for index in range(parameters))
    return _FUNCTION.format(names=names, lines=lines, body=body)


def forget() -> None:
    """As in a new process."""
    _compiled.cache_clear()


@lru_cache(maxsize=4096)
def _compiled(source: str) -> CodeType:
    module = compile(source, "<condition>", "exec")
    return next(constant for constant in module.co_consts if isinstance(constant, CodeType))


def _expression(node: Checked, used: set[str]) -> str:
    def sub(part: Checked) -> str:
        return _expression(part, used)

    match node:
        case Operand(index):
            return f"p{index}"
        case Truth(value):
            return str(value)
        case Variable(depth):
            return f"v{depth}"
        case RequestField(name):
            used.add("request")
            return FIELDS[name]
        case CallerValue(name):
            used.add("caller")
            return f"caller[{sub(name)}]"
        case CallerHas(name):
            used.add("caller")
            return f"(caller.get({sub(name)}) is not None)"
        case Root("categories"):
            used.add("scores")
            return "categories(scores)"
        case Root("pictured"):
            used.add("output")
            return "pictured(output)"
        case Root(name):
            used.add(name)
            return name
        case Apply(operation, arguments):
            return operation.python.format(*map(sub, arguments))
        case ListOf(items):
            return "(" + "".join(f"{sub(item)}, " for item in items) + ")"
        case Junction(decides, operands):
            return "(" + (" or " if decides else " and ").join(map(sub, operands)) + ")"
        case If(condition, yes, no):
            return f"({sub(yes)} if {sub(condition)} else {sub(no)})"
        case Loop(macro, items, depth, body, gives):
            parts = {"body": sub(body), "v": f"v{depth}", "items": sub(items), "gives": sub(gives) if gives else ""}
            return _LOOPS[macro].format(**parts)

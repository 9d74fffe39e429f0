"""Text to syntax tree, by cel-python's grammar, within limits; and the values of literals.

The only module that imports celpy, and only when the first condition is compiled: the import costs a third of a second.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from typing import Any

from policyguard.policy.expr.types import ExpressionErrors, Problem

MAX_CHARS = 10_000
MAX_NESTING = 30  # brackets
MAX_NODES = 500  # operands, operators and calls
MAX_CHAIN = 100  # operands of one chain
_ESCAPES = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_PLAIN_ESCAPES = frozenset("\\\"'`?")
_NUMBERED_ESCAPES = {"x": 2, "X": 2, "u": 4, "U": 8}


def parse(source: str) -> Any:
    """The lark tree of `source`. Raises `ExpressionErrors`."""
    if len(source) > MAX_CHARS:
        raise _error(1, 1, "PG409", f"the expression is longer than {MAX_CHARS:,} characters")
    deepest = max(_nesting(source), default=0)
    if deepest > MAX_NESTING:
        raise _error(1, 1, "PG409", f"brackets are nested {deepest} deep, {MAX_NESTING} are possible")
    celpy, environment = _parser()
    try:
        tree = environment.compile(source)
    except celpy.CELParseError as error:
        line, column = error.line or 1, error.column or 1
        raise _error(line, column, "PG401", "this is not an expression", "see the CEL language definition") from None
    except Exception:
        raise _error(1, 1, "PG401", "this is not an expression") from None
    _check_size(tree)
    return tree


@cache
def _parser() -> Any:
    limit = sys.getrecursionlimit()
    import celpy

    environment = celpy.Environment()
    sys.setrecursionlimit(limit)  # celpy raises it for the whole process
    return celpy, environment


def _nesting(source: str) -> Iterator[int]:
    """The depth at each opening bracket. Brackets in strings count too: nobody nests thirty of them."""
    depth = 0
    for character in source:
        if character in "([{":
            depth += 1
            yield depth
        elif character in ")]}":
            depth -= 1


def _check_size(tree: Any) -> None:
    nodes = operands = 0
    pending = [tree]
    while pending:
        node = pending.pop()
        if hasattr(node, "children"):
            nodes += len(node.children) != 1 or node.data in ("literal", "ident")
            operands += node.data in ("conditionalor", "conditionaland", "unary") and len(node.children) == 2
            pending += node.children
    if nodes > MAX_NODES:
        raise _error(1, 1, "PG409", f"the expression has {nodes} parts, {MAX_NODES} are possible")
    if operands >= MAX_CHAIN:
        raise _error(1, 1, "PG409", f"the expression joins more than {MAX_CHAIN} conditions")


def _error(line: int, column: int, code: str, message: str, hint: str = "") -> ExpressionErrors:
    return ExpressionErrors((Problem(line, column, code, message, hint),))


# ---- literals ---------------------------------------------------------------------------------------------


def string_value(token: str) -> str:
    """The text that a string literal stands for. Raises ValueError for an escape that CEL does not know."""
    raw = token[0] in "rR"
    body = token.lstrip("rR") if raw else token
    quotes = 3 if body[:3] in ('"""', "'''") and len(body) >= 6 else 1
    body = body[quotes:-quotes]
    return body if raw else "".join(_unescaped(body))


def _unescaped(body: str) -> Iterator[str]:
    i = 0
    while i < len(body):
        if body[i] != "\\":
            yield body[i]
            i += 1
            continue
        mark = body[i + 1 : i + 2]
        if mark in _NUMBERED_ESCAPES:
            digits = _NUMBERED_ESCAPES[mark]
            yield chr(int(body[i + 2 : i + 2 + digits], 16))
            i += 2 + digits
        elif mark.isdigit():
            yield chr(int(body[i + 1 : i + 4], 8))
            i += 4
        elif mark in _ESCAPES or mark in _PLAIN_ESCAPES:
            yield _ESCAPES.get(mark, mark)
            i += 2
        else:
            raise ValueError("unknown escape")

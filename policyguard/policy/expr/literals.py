"""The values of literals: texts with their escapes, whole numbers of 64 bits, and doubles. Pure.

Every reader raises ValueError for what CEL does not know, also where Python or the grammar would accept it.
"""

from __future__ import annotations

import re
from math import isfinite

from policyguard.policy.expr.syntax import LiteralKind

LOWEST, HIGHEST = -(2**63), 2**63 - 1
_DOUBLE = re.compile(r"-?(?:\d*\.\d+(?:[eE][-+]?\d+)?|\d+[eE][-+]?\d+)", re.ASCII)
_MAX_DIGITS = 40
_ESCAPE = re.compile(
    r"""\\(?:(?P<letter>[abfnrtv"'`\\?])|[xX](?P<two>[0-9a-fA-F]{2})|u(?P<four>[0-9a-fA-F]{4})"""
    r"""|U(?P<eight>[0-9a-fA-F]{8})|(?P<octal>[0-3][0-7]{2})|(?P<other>))""",
    re.ASCII,
)
_LETTERS = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


def value_of(kind: LiteralKind, text: str) -> str | int | float:
    """The value of a literal as it is written, with its sign."""
    if kind == "text":
        return text_value(text)
    return int_value(text) if kind == "int" else double_value(text)


def int_value(text: str) -> int:
    if len(text) > _MAX_DIGITS:
        raise ValueError("a whole number has at most 19 digits")
    value = int(text, 16 if "x" in text else 10)
    if not LOWEST <= value <= HIGHEST:
        raise ValueError("a whole number is at most 9223372036854775807")
    return value


def double_value(text: str) -> float:
    if not _DOUBLE.fullmatch(text):
        raise ValueError("a number with a point is written like `1.0`")
    value = float(text)
    if not isfinite(value):
        raise ValueError("the number is too large")
    return value


def text_value(text: str) -> str:
    """What a text between its quotes stands for."""
    raw = text[0] in "rR"
    body = text[1:] if raw else text
    width = 3 if body[:3] in ('"""', "'''") and len(body) >= 6 else 1
    inside = body[width:-width]
    return inside if raw else _ESCAPE.sub(_unescaped, inside)


def _unescaped(found: re.Match[str]) -> str:
    if letter := found["letter"]:
        return _LETTERS.get(letter, letter)
    if found["octal"]:
        return chr(int(found["octal"], 8))
    digits = found["two"] or found["four"] or found["eight"]
    if not digits:
        raise ValueError("an escape that CEL does not have; a backslash is written `\\\\`")
    code = int(digits, 16)
    if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        raise ValueError("an escape that is no character")
    return chr(code)

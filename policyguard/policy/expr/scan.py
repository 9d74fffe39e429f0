"""One linear pass over the text, before any grammar: where texts, comments and numbers are.

It guards the parser, whose pattern for texts takes exponential time on a text that does not end, and it finds the
literals by which conditions of one shape differ.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from policyguard.policy.expr.syntax import LiteralKind, TextSpan

# No possessive repeats and no atomic groups: the first releases of Python 3.11 match them wrongly. The alternatives of
# each repeat exclude each other, so that what does not match fails in linear time all the same. Names are passed over
# as a whole, so that their last letters are no prefix and no number.
_START = re.compile(
    r"""(?P<comment>//[^\n]*)
      | (?P<prefix>[bB]?[rR]?)(?P<quote>\"{3}|'{3}|["'])
      | (?P<name>[A-Za-z_]\w*)
      | (?P<number>(?<![\w.])(?:0x[0-9a-fA-F]+|(?:\d+\.\d+(?:[eE][+-]?\d+)?|\d+[eE][+-]?\d+)|\d+)(?![\w.]))
      | (?<!\w)(?:0x[0-9a-fA-F]+|\d)""",
    re.ASCII | re.VERBOSE,
)
_REST = {
    '"': re.compile(r'(?:[^"\\\r\n]|\\[^\r\n])*"'),
    "'": re.compile(r"(?:[^'\\\r\n]|\\[^\r\n])*'"),
    '"""': re.compile(r'(?:[^"\\]|\\.|"(?!""))*"""', re.DOTALL),
    "'''": re.compile(r"(?:[^'\\]|\\.|'(?!''))*'''", re.DOTALL),
}
_RAW_REST = {
    '"': re.compile(r'[^"\r\n]*"'),
    "'": re.compile(r"[^'\r\n]*'"),
    '"""': re.compile(r'(?:[^"]|"(?!""))*"""'),
    "'''": re.compile(r"(?:[^']|'(?!''))*'''"),
}


class Unfinished(Exception):
    """A text without its end, or a raw text that ends with a backslash, at `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__("unfinished text")
        self.offset = offset


@dataclass(frozen=True, slots=True)
class Scan:
    """The literals from the left. `plain`: nothing else in the text looks like a literal or hides one."""

    spans: tuple[TextSpan, ...]
    plain: bool


def scan(source: str) -> Scan:
    """Raises `Unfinished`."""
    spans: list[TextSpan] = []
    plain, position = True, 0
    while found := _START.search(source, position):
        position = found.end()
        if found["quote"]:
            position = _end_of_text(source, found)
            spans.append(TextSpan(found.start(), position, "text"))
            plain = plain and not (found["prefix"] or "").lower().startswith("b")
        elif found["number"]:
            spans.append(TextSpan(*found.span(), _kind(found["number"])))
        elif not found["name"]:
            plain = False
    return Scan(tuple(spans), plain)


def _kind(number: str) -> LiteralKind:
    return "int" if number.startswith("0x") or number.isdecimal() else "double"


def _end_of_text(source: str, found: re.Match[str]) -> int:
    quote, raw = found["quote"], (found["prefix"] or "")[-1:] in ("r", "R")
    rest = (_RAW_REST if raw else _REST)[quote].match(source, found.end())
    if rest is None:
        raise Unfinished(found.start())
    body = rest[0][: -len(quote)]
    if raw and (len(body) - len(body.rstrip("\\"))) % 2:
        raise Unfinished(found.start())  # the grammar takes the quote after it for a part of the text
    return rest.end()

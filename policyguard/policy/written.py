"""Where each character of a scalar's value is written in the file: folding, indentation and escapes undone.

Pure text. Problems inside a condition point at their own line and column by this, whatever style the condition has.
"""

from __future__ import annotations

import re

_DOUBLE = re.compile(r"\\(?:x..|u.{4}|U.{8}|\n\s*|.)|\s+|.", re.DOTALL)
_SINGLE = re.compile(r"''|\s+|.", re.DOTALL)
_OTHER = re.compile(r"\s+|.", re.DOTALL)
_UNITS = {'"': _DOUBLE, "'": _SINGLE}


def offset_of(text: str, start: int, style: str, value: str, index: int) -> int:
    """The offset in `text` of `value[index]`; the scalar begins at `start`, at its quote or block indicator."""
    block = style in ("|", ">")
    first = text.find("\n", start) + 1 if block else start + bool(style)
    done = 0
    for unit in _UNITS.get(style, _OTHER).finditer(text, first):
        indentation = block and unit.start() == first
        count = _characters(unit[0], style, value, done, indentation)
        if index < done + count:
            return unit.end() - 1 if indentation else unit.start() + min(index - done, len(unit[0]) - 1)
        done += count
        if done >= len(value):
            return unit.end()
    return start


def _characters(unit: str, style: str, value: str, done: int, indentation: bool) -> int:
    """How many characters of the value one unit of the file stands for."""
    if style == '"' and unit[0] == "\\":
        return 0 if unit[1] == "\n" else 1
    if not unit.isspace():
        return 1
    if "\n" not in unit and not indentation:
        return len(unit)
    rest = value[done:]  # a line break: folded to a space, kept, or both with deeper indentation
    return len(rest) - len(rest.lstrip())

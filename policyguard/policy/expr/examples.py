"""Texts that a pattern is likely to find: a rough reading of its syntax, whose results are tried against the pattern.

Only a help for showing an example; what it does not find may exist all the same.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

_ESCAPES = {"d": "0", "w": "a", "s": " ", "D": "a", "W": " ", "S": "a", "n": "\n", "t": "\t"}
_NOTHING = frozenset("bBAzZ")
_TOKEN = re.compile(
    r"""\\(?P<escape>.)|\[(?P<negated>\^?)(?P<set>\]?(?:\\.|[^\]\\])*)\]|(?P<flags>\(\?[a-zA-Z-]*\))"""
    r"""|(?P<open>\((?:\?:|\?P?<\w+>|\?[a-zA-Z-]+:)?)|(?P<close>\))|(?P<bar>\|)"""
    r"""|(?P<count>\{(?P<low>\d+)(?:,\d*)?\}|[*+?]\??)|(?P<any>\.)|(?P<edge>[\^$])|(?P<plain>.)""",
    re.DOTALL,
)
_MAX_REPEATS = 100


def matching(pattern: Any) -> list[str]:
    """Texts in which the compiled `pattern` is found; maybe none."""
    text: str = pattern.pattern
    candidates = [_first(text), *_runs(text)]
    return [found for found in dict.fromkeys(candidates) if found.strip() and pattern.search(found)]


def _runs(text: str) -> Iterator[str]:
    """What stands in the pattern as it is."""
    yield from (run for run in re.split(r"\\.|[^\w\s-]+", text) if run.strip())


def _first(text: str) -> str:
    """The text that takes every first alternative and every smallest count, but each optional part once."""
    groups: list[tuple[list[str], bool]] = [([], False)]  # the parts of each open group, and whether it is behind a `|`
    for token in _TOKEN.finditer(text):
        parts, is_done = groups[-1]
        if token["open"]:
            groups.append(([], False))
        elif token["close"]:
            if len(groups) > 1:
                groups.pop()
                _add(groups[-1], "".join(parts))
        elif token["bar"]:
            groups[-1] = (parts, True)
        elif token["count"]:
            if parts and not is_done:
                parts[-1] *= min(int(token["low"] or 1), _MAX_REPEATS)
        else:
            _add(groups[-1], _one(token))
    return "".join(part for parts, _ in groups for part in parts)


def _add(group: tuple[list[str], bool], text: str) -> None:
    parts, is_done = group
    if not is_done:
        parts.append(text)


def _one(token: re.Match[str]) -> str:
    if letter := token["escape"]:
        return "" if letter in _NOTHING else _ESCAPES.get(letter, letter)
    if inside := token["set"]:
        first = _ESCAPES.get(inside[1:2], inside[1:2]) if inside[0] == "\\" else inside[0]
        return "~" if token["negated"] else first
    return "x" if token["any"] else token["plain"] or ""

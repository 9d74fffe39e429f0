"""Words that are spelled out, written with digits and signs, or stretched.

Only where some word of the text cannot be honest is anything touched: `4k`, `35mm`, `b&w` and `U.S.` stay as they are.
"""

from __future__ import annotations

import re
from itertools import pairwise

_SPELLED = re.compile(r"(?<![A-Za-z])[A-Za-z](?P<by>[ .*|~_\u00b7-])[A-Za-z](?:(?P=by)[A-Za-z]){2,}(?![A-Za-z])")
_WORD = re.compile(r"(?<![\w@$!])[A-Za-z0-9@$!]{3,24}(?!\w)")
_INSIDE = re.compile(r"[A-Za-z][0-9@$!]{1,3}[A-Za-z]")
_UNITS = "[mck]?m|px|[kdshgplx]|th|st|nd|rd|ml|kg|in|ft|fps|am|pm|bits?"
_MEASURE = re.compile(rf"(?i:[0-9]+(?:{_UNITS}|x[0-9]+)!*)")  # 35mm, 4k, 16x9
_MODEL = re.compile(r"[A-Za-z]*[0-9][dDkKgG]|[A-Z][A-Z0-9]*[0-9][A-Z0-9]*|[a-fA-F0-9]{6,}")  # cinema4d, M4A1
_SIGNS = str.maketrans("023456789@$!", "ozeasgtbgasi")
_ONE_IS_I = re.compile(r"(?<![aeiouAEIOU])1(?![aeiouAEIOU]|\b)")  # else it is an l
_STRETCHED = re.compile(r"([a-z])\1{2,}")
_FEW = 1


def join(text: str) -> tuple[str, bool]:
    """The text with its words written as usual, and whether it cannot have been written so by accident."""
    text, spelled = _joined(text)
    text, coded = _decoded(text)
    return _STRETCHED.sub(r"\1", text), spelled or coded


def _joined(text: str) -> tuple[str, bool]:
    found = False

    def joined(match: re.Match[str]) -> str:
        nonlocal found
        letters = match[0][::2]
        found = found or (letters.islower() and not _is_row(letters))
        return letters

    return _SPELLED.sub(joined, text), found


def _is_row(letters: str) -> bool:
    """`a b c d`: a part of the alphabet."""
    return all(ord(b) - ord(a) == 1 for a, b in pairwise(letters))


def _decoded(text: str) -> tuple[str, bool]:
    """Words with digits and signs for letters. One that cannot be a measure or a model gives the others away."""
    coded = sum(_is_coded(match[0]) for match in _WORD.finditer(text) if not match[0].isalpha())
    if not coded:
        return text, False
    return _WORD.sub(lambda match: _letters(match[0]), text), coded > _FEW


def _is_coded(word: str) -> bool:
    return _INSIDE.search(word) is not None and not _MODEL.fullmatch(word) and not _MEASURE.fullmatch(word)


def _letters(word: str) -> str:
    if word.isalpha() or not any(char.isalpha() for char in word) or _MEASURE.fullmatch(word):
        return word
    body = word.rstrip("!")  # it ends a sentence
    return _ONE_IS_I.sub("i", body).replace("1", "l").translate(_SIGNS) + word[len(body) :]

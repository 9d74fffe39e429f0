"""Signs in a condition that are not what they seem: that cannot be seen, that turn the text around them, or that look
like a plain letter and are another.

A condition must be what its reader sees. Who means such a sign, for example to look for it in prompts, writes its
escape, which says what it is. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from policyguard.policy.expr.syntax import TextSpan

# Directions, zero widths, soft hyphens and tags. Joiners belong to some scripts and to emoji, but not to plain letters.
_UNSEEN = re.compile(
    "[\u00ad\u061c\u180e\u200b\u200e\u200f\u202a-\u202e\u2060-\u206f\ufeff\U000e0000-\U000e007f]"
    "|(?<=[\x00-\x7f])[\u200c\u200d]"
)
# Cyrillic and Greek letters that most fonts draw like the Latin one below them.
_ALIKE = dict(
    zip(
        "авеіјорсухѕһԁԛԝАВЕІЈКМНОРСТУХЅԌԚԜαικνορυχΑΒΕΖΗΙΚΜΝΟΡΤΥΧ",
        "aBeijopcyxshdqwABEIJKMHOPCTYXSGQWaiKvopuxABEZHIKMNOPTYX",
        strict=True,
    )
)
_WORD = re.compile(r"[^\W\d_]+")
_LATIN = re.compile(r"[A-Za-zÀ-ɏ]")
_ESCAPE = re.compile(r"\\(?:[xX]..|u....|U........|.)", re.DOTALL)
_SIGNS = {
    **dict.fromkeys("“”„«»″", '`"`'),
    **dict.fromkeys("‘’‚′´", "`'`"),
    **dict.fromkeys("\u00a0\u2002\u2003\u2009\u202f\u3000", "a plain space"),
    **dict.fromkeys("–—−‐‑", "`-`"),
    **dict(zip("≤≥≠×÷∧∨¬", ("`<=`", "`>=`", "`!=`", "`*`", "`/`", "`&&`", "`||`", "`!`"), strict=True)),
}


class Odd(NamedTuple):
    offset: int
    message: str
    hint: str


def odd(source: str, texts: Iterable[TextSpan]) -> Iterator[Odd]:
    """The first of the signs that cannot be seen, and in each text the first letter that passes for a Latin one."""
    if source.isascii():
        return
    if found := _UNSEEN.search(source):
        sign = found[0]
        yield Odd(found.start(), f"a sign that cannot be seen, {_code(sign)}", f"take it out, or {_escaped(sign)}")
    for span in texts:
        if span.kind == "text":
            yield from islice(_mixed(span.start, source[span.start : span.end]), 1)


def _mixed(start: int, text: str) -> Iterator[Odd]:
    plain = text if text[0] in "rR" else _ESCAPE.sub(lambda escape: " " * len(escape[0]), text)
    for word in _WORD.finditer(plain):
        alike = next((i for i, letter in enumerate(word[0]) if letter in _ALIKE), None)
        if alike is not None and _LATIN.search(word[0]):
            letter = word[0][alike]
            message = f"{_code(letter)} looks like the letter `{_ALIKE[letter]}` of this word and is another"
            yield Odd(start + word.start() + alike, message, f"write a plain `{_ALIKE[letter]}`, or {_escaped(letter)}")


def meant(sign: str) -> str:
    """What was probably meant by a sign that no condition can hold outside of a text; empty where that is not known."""
    if sign in _ALIKE:
        return f"{_code(sign)} only looks like `{_ALIKE[sign]}`"
    return f"write {_SIGNS[sign]}" if sign in _SIGNS else ""


def _code(sign: str) -> str:
    return f"U+{ord(sign):04X}"


def _escaped(sign: str) -> str:
    escape = f"\\u{ord(sign):04x}" if ord(sign) < 0x10000 else f"\\U{ord(sign):08x}"
    return f"write `{escape}` if it is meant"

"""Characters that hide a text from machines, not from people: invisible ones, turned ones, styled ones, look-alikes.

In the order of the work: heaps of marks, reversed text, tag characters, invisible characters, styled letters (NFKC),
accents, letters of other alphabets inside a Latin word.
"""

from __future__ import annotations

import re
import unicodedata
from itertools import pairwise

from policyguard.text.lookalikes import ALIKE, DRESSED, GREEK, NEGATIVE, REAL
from policyguard.text.normal import normalize, without_heaps

_FEW = 2  # signs are more than so many: an honest text may have a logo or a unit
_TURNED = re.compile("[\u202a-\u202e\u2066-\u2069]")
_OPENS, _OVERRIDES, _CLOSES = "\u202a\u202b\u202d\u202e\u2066\u2067\u2068", "\u202d\u202e", "\u202c\u2069"
_FLAG = "\U0001f3f4"  # begins the flags of England, Scotland and Wales, whose names are tag characters
_TAGS = re.compile(f"(?P<flag>{_FLAG}[\U000e0061-\U000e007a\U000e0030-\U000e0039]+\U000e007f)|[\U000e0000-\U000e007f]+")
_INVISIBLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2060-\u2065\u206a-\u206f\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0080-\U000e0fff]+"
)
_MOST_MARKS = 8  # on one letter that are looked through; a longer heap is a sign by itself
_SOFT_HYPHEN = "\u00ad"
# What NFKC leaves, and two characters that it writes as eighteen and as eight: nobody hides Latin letters in them.
_BEFORE = str.maketrans({**NEGATIVE, "\ufdfa": " ", "\ufdfb": " "})
_BASIC = re.compile("LATIN|CYRILLIC|GREEK")
_TOKEN = re.compile(r"[^\W\d_]+")
_WIDE = re.compile("[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]")  # in whose texts full-width letters are usual
# Marks that languages write: from grave to caron, horn, and dot, comma, cedilla and the like below.
_WRITTEN = frozenset(
    "\u0300\u0301\u0302\u0303\u0304\u0306\u0307\u0308\u0309\u030a\u030b\u030c\u030f\u0311\u031b"
    "\u0323\u0324\u0325\u0326\u0327\u0328\u032d\u032e\u0330\u0331"
)
_FULL_WIDTH = range(0xFF21, 0xFF5B)
_REGIONAL = re.compile("[\U0001f1e6-\U0001f1ff]{3,}")  # a flag is two of them
_A_OF_REGIONAL = 0x1F1E6


def reveal(text: str) -> tuple[str, bool]:
    """The text as it is seen, in plain letters, and whether it was written to be seen only."""
    if text.isascii():
        return text, False
    hidden = False
    for step in (_unheaped, _unturned, _tags, _visible, _styled, _unaccented, _latin):
        text, found = step(text)
        hidden = hidden or found
    return text, hidden


def _is_basic(char: str) -> bool:
    """A letter of an alphabet that needs no invisible characters between its letters, and no marks above each other."""
    return char.isalpha() and (char.isascii() or _BASIC.match(unicodedata.name(char, "")) is not None)


def _unheaped(text: str) -> tuple[str, bool]:
    """Without the marks that no letter can carry. Nobody needs so many, so they are a sign by themselves."""
    plain = without_heaps(text)
    return plain, plain != text


# ---- the direction ----------------------------------------------------------------------------------------


def _unturned(text: str) -> tuple[str, bool]:
    """What an override turns round is turned back. Embeddings and isolates only go: a real text may need them."""
    if not _TURNED.search(text):
        return text, False
    found = False
    parts: list[tuple[str, list[str]]] = [("", [])]
    for piece in re.split(f"({_TURNED.pattern})", text):
        if piece and piece in _OPENS:
            found = found or piece in _OVERRIDES
            parts.append((piece, []))
        elif piece and piece in _CLOSES:
            parts.append(("", []))
        else:
            parts[-1][1].append(piece)
    return "".join(_in_order(sign, "".join(inside)) for sign, inside in parts), found


def _in_order(sign: str, inside: str) -> str:
    return inside[::-1] if sign == "\u202e" else inside


# ---- what is not seen -------------------------------------------------------------------------------------


def _tags(text: str) -> tuple[str, bool]:
    """Tag characters are a second alphabet that nobody sees."""
    found = False

    def revealed(match: re.Match[str]) -> str:
        nonlocal found
        if match["flag"]:
            return match[0]
        letters = "".join(chr(ord(char) - 0xE0000) for char in match[0])
        plain = "".join(char for char in letters if char.isprintable())
        found = found or bool(plain)
        return f" {plain}" if plain else ""

    return _TAGS.sub(revealed, text), found


def _visible(text: str) -> tuple[str, bool]:
    """Without what has no width. It is a sign between two letters of an alphabet that joins none of them."""
    found = False

    def gone(match: re.Match[str]) -> str:
        nonlocal found
        before, after = _base(text, match.start()), text[match.end() : match.end() + 1]
        if before and after and _is_basic(before) and _is_basic(after):
            found = found or set(match[0]) != {_SOFT_HYPHEN} or _stands_alone(text, match)
            return ""
        is_needed = bool(before) and not before.isascii() and not _is_basic(before)  # part of an emoji, or of a script
        return match[0] if is_needed else ""

    return _INVISIBLE.sub(gone, text), found


def _base(text: str, end: int) -> str:
    """What stands before, without the marks on it."""
    start = max(0, end - _MOST_MARKS)
    return next((char for char in reversed(text[start:end]) if not unicodedata.combining(char)), "")


def _stands_alone(text: str, match: re.Match[str]) -> bool:
    """Whether a soft hyphen cuts off a single letter: nobody hyphenates like that."""
    around = text[max(0, match.start() - 2) : match.start()], text[match.end() : match.end() + 2]
    return any(len(part) < 2 or not part.isalpha() for part in around) and all(around)


# ---- letters ----------------------------------------------------------------------------------------------


def _styled(text: str) -> tuple[str, bool]:
    """Circled, mathematical, full-width and other letters that Unicode itself says are a plain one in another dress."""
    plain = normalize("NFKC", text.translate(_BEFORE))
    flags = _REGIONAL.sub(lambda match: "".join(chr(ord(c) - _A_OF_REGIONAL + 97) for c in match[0]), plain)
    if plain == text:
        return flags, False
    wide = _WIDE.search(text) is not None
    styled = sum(_is_styled(char, wide) for char in text if not char.isascii())
    return flags, styled > _FEW


def _is_styled(char: str, wide: bool) -> bool:
    if char in NEGATIVE:
        return True
    if wide and ord(char) in _FULL_WIDTH:
        return False
    shape = unicodedata.decomposition(char)
    if not shape.startswith("<") or shape.startswith(("<super>", "<sub>", "<compat>")):
        return False
    plain = normalize("NFKC", char)
    return len(plain) == 1 and plain.isascii() and plain.isalpha()


def _unaccented(text: str) -> tuple[str, bool]:
    """Without accents of Latin letters, and without what is heaped on letters of these alphabets."""
    if text.isascii():
        return text, False
    base = ""
    left: list[str] = []
    for char in normalize("NFD", text):
        if not unicodedata.combining(char):
            base = char
        elif base.isascii() or (_is_basic(base) and left[-1] != base):
            continue
        left.append(char)
    pairs = pairwise(text)
    heaped = sum(unicodedata.combining(char) > 0 and _is_heaped(before, char) for before, char in pairs)
    return normalize("NFC", "".join(left)), heaped > _FEW


def _is_heaped(before: str, mark: str) -> bool:
    """Whether a mark that found no letter to join is none of those that languages write."""
    return (_is_basic(before) or unicodedata.combining(before) > 0) and mark not in _WRITTEN


# ---- look-alikes ------------------------------------------------------------------------------------------


def _latin(text: str) -> tuple[str, bool]:
    """Look-alikes inside a word with Latin letters, or as a whole word where all that is not Latin could be."""
    if text.isascii():
        return text, False
    tokens = _TOKEN.findall(text)
    only_alike = all(char.isascii() or char in ALIKE for word in tokens for char in word)
    dressed = mixed = 0

    def plain(match: re.Match[str]) -> str:
        nonlocal dressed, mixed
        word = match[0]
        if word.isascii():
            return word
        strange = [char for char in word if char in ALIKE and char not in REAL]
        own = [char for char in strange if char in DRESSED]
        is_latin = bool(own) or any(char.isascii() for char in word)
        if not is_latin and not only_alike:
            return word
        dressed += len(own)
        mixed += is_latin and len(strange) > len(own) and not _is_term(word, strange)
        return "".join(ALIKE.get(char, char) for char in word)

    return _TOKEN.sub(plain, text), mixed > 0 or dressed > _FEW


def _is_term(word: str, strange: list[str]) -> bool:
    """A Greek letter at the end of a name, as sciences write them."""
    return (len(strange) == 1 and word[-1] in GREEK) or len(word) < 3

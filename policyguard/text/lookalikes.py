"""Which letter a character stands for: a table of letters that look alike, the rest read from Unicode's own names.

The pairs are chosen by eye for the Latin alphabet; styled letters (circled, mathematical, full-width) are left to
NFKC, which knows them all.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping

# Letters that are drawn like a plain Latin one. Left the letters, right what they look like.
_ALIKE: Mapping[str, str] = {
    # Cyrillic
    "асеіјорѕухһԁԛԝӏґкмтвнг": "aceijopsyxhdqwlrkmtbhr",
    "АВСЕНІЈКМОРЅТУХҮԌԚԜӀ": "ABCEHIJKMOPSTYXYGQWI",
    # Greek
    "αβγεηικνορτυχωϳ": "abyenikvoptuxwj",
    "ΑΒΕΖΗΙΚΜΝΟΡΤΥΧ": "ABEZHIKMNOPTYX",
    # Armenian and Cherokee
    "օսհոցզ": "ouhnqq",
    "ᎪᏴᏟᎠᎬᎻᎥᎫᏦᏞᎷᏢᎡᏚᎢᏙᎳᏃ": "ABCDEHiJKLMPRSTVWZ",
    # Latin letters that are no plain ones
    "ıɩȷɑɡſƽɋʋƿɔɛøłđħŧƀƚɨʉƴǥɗɖɦʂʐɲŋɱƙƈɓƥƭƒʀƃɟ": "iijagssqvpceoldhtbliuygddhsznnmkcbptfrgf",
}
_AREAS = ((0x0180, 0x0300), (0x1D00, 0x1DC0), (0x2C60, 0x2C80), (0xA720, 0xA800))
_NEGATIVE = (0x1F150, 0x1F170)  # the alphabet in circles and in squares, white on black: NFKC leaves these
_NAMED = re.compile(
    r"LATIN LETTER SMALL CAPITAL (?P<small>[A-Z])"
    r"|LATIN SMALL LETTER (?:TURNED|REVERSED|SIDEWAYS) (?P<turned>[A-Z])"
)


def _table() -> dict[str, str]:
    found: dict[str, str] = {}
    for letters, alike in _ALIKE.items():
        found.update(zip(letters, alike, strict=True))
    for first, beyond in _AREAS:
        for code in range(first, beyond):
            match = _NAMED.fullmatch(unicodedata.name(chr(code), ""))
            if match:
                found[chr(code)] = (match["small"] or match["turned"]).lower()
    return found


ALIKE: Mapping[str, str] = _table()
REAL = frozenset("ıſɔɛøłđħŧŋ")  # of them, letters that whole languages write
GREEK = frozenset(letter for letter in ALIKE if unicodedata.name(letter).startswith("GREEK"))
DRESSED = frozenset(letter for letter in ALIKE if "LATIN" in unicodedata.name(letter)) - REAL  # Latin in another dress
NEGATIVE: Mapping[str, str] = {chr(first + step): chr(97 + step) for first in _NEGATIVE for step in range(26)}

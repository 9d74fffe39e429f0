"""One text in many disguises. Each writes every word of at least four letters in its own way."""

from __future__ import annotations

import base64
import html
import re
import unicodedata
from collections.abc import Callable, Mapping
from urllib.parse import quote

_WORD = re.compile(r"[A-Za-z]{4,}")
_CYRILLIC = str.maketrans("aceiopxyABCEHKMOPTX", "асеіорхуАВСЕНКМОРТХ")
_LEET = str.maketrans("aeiost", "431057")
_SMALL = {letter: unicodedata.lookup(f"LATIN LETTER SMALL CAPITAL {letter}") for letter in "ABCDEGHIJKLMNOPRTUVWYZ"}


def _each(change: Callable[[str], str]) -> Callable[[str], str]:
    return lambda text: _WORD.sub(lambda match: change(match[0]), text)


def _shifted(capital: int, small: int) -> Callable[[str], str]:
    """Letters of another block of Unicode, which has the alphabet in order."""
    return _each(lambda word: "".join(chr((small - 97 if c.islower() else capital - 65) + ord(c)) for c in word))


def _small_caps(word: str) -> str:
    return "".join(_SMALL.get(letter.upper(), letter) for letter in word)


def _tags(text: str) -> str:
    return "a nice picture " + "".join(chr(0xE0000 + ord(letter)) for letter in text)


VARIANTS: Mapping[str, Callable[[str], str]] = {
    "zero width": _each("\u200b".join),
    "soft hyphens": _each("\u00ad".join),
    "homoglyphs": _each(lambda word: word.translate(_CYRILLIC)),
    "full width": _shifted(0xFF21, 0xFF41),
    "mathematical": _shifted(0x1D400, 0x1D41A),
    "circled": _shifted(0x24B6, 0x24D0),
    "squared": _each(lambda word: "".join(chr(0x1F130 + ord(c) - 65) for c in word.upper())),
    "negative squared": _each(lambda word: "".join(chr(0x1F170 + ord(c) - 65) for c in word.upper())),
    "small caps": _each(_small_caps),
    "combining marks": _each(lambda word: "".join(letter + "\u0334\u033f" for letter in word)),
    "turned round": _each(lambda word: f"\u202e{word[::-1]}\u202c"),
    "base64": lambda text: "draw this: " + base64.b64encode(text.encode()).decode(),
    "base64 for addresses": lambda text: base64.urlsafe_b64encode(text.encode()).decode().rstrip("="),
    "base64 twice": lambda text: base64.b64encode(base64.b64encode(text.encode())).decode(),
    "per cent": lambda text: "".join(f"%{byte:02X}" for byte in text.encode()),
    "entities": _each(lambda word: "".join(f"&#{ord(letter)};" for letter in word)),
    "hexadecimal entities": _each(lambda word: "".join(f"&#x{ord(letter):x};" for letter in word)),
    "entities of entities": _each(lambda word: html.escape("".join(f"&#{ord(letter)};" for letter in word))),
    "tags": _tags,
    "dots": _each(".".join),
    "spaces": _each(" ".join),
    "leet": _each(lambda word: word.translate(_LEET)),
}
# What is undone, but looks like honest text: no sign.
SILENT: Mapping[str, Callable[[str], str]] = {
    "accents": _each(lambda word: "".join(unicodedata.normalize("NFC", letter + "\u0301") for letter in word)),
    "stretched": _each(lambda word: word[:1] + word[1] * 4 + word[2:]),
    "quoted": lambda text: quote(text, safe="/ "),
}

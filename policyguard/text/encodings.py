"""Base64, percent signs and HTML entities, undone where they really hold text.

A run of letters that only looks like base64 stays as it is. What was decoded may be encoded once more, not oftener.
"""

from __future__ import annotations

import binascii
import html
import re
from base64 import b64decode
from urllib.parse import unquote

ROUNDS = 2
_ANY = re.compile(r"%[0-9A-Fa-f]{2}|&#?[0-9A-Za-z]{2,8};|[A-Za-z0-9+/_-]{16}")
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{16,}={0,2}")
_PERCENT = re.compile(r"(?:%[0-9A-Fa-f]{2})+")
_ENTITY = re.compile(r"&#?[0-9A-Za-z]{2,8};")
_URL_SAFE = str.maketrans("-_", "+/")
_FEW = 2  # encoded letters that may stand in an honest text, of a copied address for example
_LETTERS_OF = 0.7  # the part of a decoded text that is letters and spaces, at least
_PIECE = 3  # letters of one word, at least


def decode(text: str) -> tuple[str, bool]:
    """The text with its encodings undone, and whether letters were encoded that nobody has to encode."""
    hidden = False
    for _ in range(ROUNDS):
        if not _ANY.search(text):
            break
        before = text
        text, found = _once(text)
        hidden = hidden or found
        if text == before:
            break
    return text, hidden


def _once(text: str) -> tuple[str, bool]:
    needless, hidden = 0, False

    def percent(match: re.Match[str]) -> str:
        nonlocal needless
        plain = unquote(match[0])
        if "\ufffd" in plain or not plain.isprintable():
            return match[0]
        needless += _ascii_letters(plain)
        return plain

    def entity(match: re.Match[str]) -> str:
        nonlocal needless
        plain = html.unescape(match[0])
        needless += _ascii_letters(plain) if plain != match[0] else 0
        return plain

    def base64(match: re.Match[str]) -> str:
        nonlocal hidden
        plain = _from_base64(match[0])
        hidden = hidden or plain is not None
        return match[0] if plain is None else plain

    text = _BASE64.sub(base64, text)
    text = _ENTITY.sub(entity, _PERCENT.sub(percent, text))
    return text, hidden or needless > _FEW


def _ascii_letters(text: str) -> int:
    return sum(char.isascii() and char.isalpha() for char in text)


def _from_base64(run: str, rounds: int = ROUNDS) -> str | None:
    """What it decodes to, where that is text or the base64 of one."""
    body = run.rstrip("=").translate(_URL_SAFE)
    if len(body) % 4 == 1 or (body.isalpha() and (body.islower() or body.isupper())):
        return None
    try:
        plain = b64decode(body + "=" * (-len(body) % 4), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return None
    if rounds > 1 and _BASE64.fullmatch(plain):
        return _from_base64(plain, rounds - 1)
    readable = sum(char.isalpha() or char == " " for char in plain)
    is_text = plain.isprintable() and readable >= _LETTERS_OF * len(plain) and _has_word(plain)
    return plain if is_text else None


def _has_word(text: str) -> bool:
    return any(len(word) >= _PIECE and word.isalpha() for word in text.split())

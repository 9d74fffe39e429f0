"""Text as it may be shown: what a terminal obeys, what turns text round and what nobody sees become escapes. Pure.

Prompts, notes, names and files are other people's words. Whoever reads them has to see all of it, and nothing of it
may move, colour or clear what else is shown.
"""

from __future__ import annotations

import re

_PLANES = "".join(f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000))
# Controls, format characters, line and paragraph separators, halves of pairs, and what has no shape of its own.
_HIDDEN = (
    "\x00-\x1f\x7f-\x9f\xad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5"
    "\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164\ud800-\udfff\ufdd0-\ufdef\ufe00-\ufe0f\ufeff"
    "\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    f"\U000e0000-\U000e0fff{_PLANES}"
)
_ANY = re.compile(f"[{_HIDDEN}]")
_WITHIN_JSON = re.compile(f"(?!\n)[{_HIDDEN}]")  # the line ends of JSON are between its texts, never in them
_SHORT = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def visible(text: str, *, keep: str = "") -> str:
    """`text` in one line, with an escape like `\\x1b` or `\\u202e` for what nobody would see; `keep` stays."""
    if text.isascii() and text.isprintable():
        return text
    return _ANY.sub(lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def visible_json(document: str) -> str:
    """A JSON document with the same meaning, and with nothing in its texts that nobody would see."""
    return _WITHIN_JSON.sub(lambda found: _json_escape(found[0]), document)


def _escape(char: str) -> str:
    code = ord(char)
    long = f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"
    return _SHORT.get(char, long)


def _json_escape(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at]:02x}{units[at + 1]:02x}" for at in range(0, len(units), 2))

"""What a message shows of the text that is wrong, and the name that was probably meant. Pure.

Texts come from the author of a policy, never from a request.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

_MAX_SHOWN = 60


def shown(text: str) -> str:
    """`text` in backticks, short and printable, whatever it holds."""
    clipped = text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
    plain = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in clipped)
    return f"`{plain}`"


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """A hint with the nearest name; empty where none is near. One edit away is always near."""
    if len(text) > _MAX_SHOWN:
        return ""
    listed = list(names)
    edited = [name for name in listed if _one_edit(text, name)]
    close = edited or get_close_matches(text, listed, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else ""


def _one_edit(text: str, name: str) -> bool:
    """Whether one letter was added, left out, exchanged, swapped with its neighbour, or written in another case."""
    if text == name or abs(len(text) - len(name)) > 1:
        return False
    if text.lower() == name.lower():
        return True
    start = next((i for i, (a, b) in enumerate(zip(text, name, strict=False)) if a != b), min(len(text), len(name)))
    a, b = text[start:], name[start:]
    swapped = a[:2] == b[1::-1] and a[2:] == b[2:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or swapped

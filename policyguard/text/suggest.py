"""What was probably meant by a name that does not exist, and how a wrong text is shown. Pure.

The one place that decides how near a name must be, for keys, values, variables, models and surfaces alike. Texts come
from who writes policies, code or commands; of a request only names that are plain and short.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from policyguard.text.visible import visible

_MAX_SHOWN = 60
_MAX_NAMES = 20  # in a hint that lists them
_MAX_TIES = 3
_MAX_NEAR, _MAX_ALIKE = 2_000, 200  # names that are compared: a huge file must not hang on its mistakes
_LIKENESS = 0.6


def shown(text: str) -> str:
    """`text` in backticks, short and printable, whatever it holds."""
    clipped = text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 1] + "…"
    plain = "".join(c if c.isprintable() else f"\\u{ord(c):04x}" for c in visible(clipped))
    return f"`{plain}`"


def did_you_mean(text: str, names: Iterable[str]) -> str:
    """A hint with the nearest name, or with all that are one edit away; empty where none is near."""
    near = [f"`{name}`" for name in _nearest(text, list(names))]
    return f"did you mean {' or '.join(near)}?" if near else ""


def known_names(text: str, names: Iterable[str]) -> str:
    """A hint with the nearest name, or with the names that there are where none is near."""
    there = list(names)
    there_is = ", ".join(f"`{name}`" for name in there[:_MAX_NAMES])
    return did_you_mean(text, there) or (f"there is {there_is}" if there else "")


def listed(names: Sequence[str]) -> str:
    """Names in backticks; of many the first."""
    first = ", ".join(f"`{name}`" for name in names[:_MAX_NAMES])
    return first + (f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else "")


def one_of(names: Sequence[str], text: str | None = None) -> str:
    """What is possible instead, for the client of a request; with the nearest to `text` where one is near."""
    if not names:
        return ""
    near = did_you_mean(text, names[:_MAX_NAMES]) if text else ""
    allowed = f"allowed {'are' if len(names) > 1 else 'is'} {listed(names)}"
    return f"{near} {allowed}" if near else allowed


def _nearest(text: str, names: list[str]) -> list[str]:
    edited = [name for name in names[:_MAX_NEAR] if abs(len(text) - len(name)) <= 1 and _one_edit(text, name)]
    if edited:
        return edited[:_MAX_TIES]
    if len(text) > _MAX_SHOWN:
        return []
    provider, _, bare = text.rpartition("/")  # `openai/gpt-image-2`, as gateways write it
    dated = [name for name in names[:_MAX_NAMES] if provider and bare and f"{name}-".startswith(f"{bare}-")]
    if dated:
        return dated[:_MAX_TIES]
    return get_close_matches(text, names[:_MAX_ALIKE], n=1, cutoff=_LIKENESS)


def _one_edit(text: str, name: str) -> bool:
    """Whether one letter was added, left out, exchanged, swapped with its neighbour, or written in another case."""
    if text == name:
        return False
    if text.lower() == name.lower():
        return True
    start = next((i for i, (a, b) in enumerate(zip(text, name, strict=False)) if a != b), min(len(text), len(name)))
    a, b = text[start:], name[start:]
    swapped = a[:2] == b[1::-1] and a[2:] == b[2:]
    return a[1:] == b[1:] or a[1:] == b or a == b[1:] or swapped

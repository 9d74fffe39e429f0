"""What the provider counted: for requests, and for days and models; and how a count is read. Pure.

A count that is absent is not zero.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from policyguard.errors import ConfigError
from policyguard.request import Usage

KINDS = ("input_text_tokens", "input_image_tokens", "output_image_tokens", "output_text_tokens")
NEEDED = "output_image_tokens"  # every image that was billed has some: without it nothing can be priced
Row = Mapping[str, Any]


@dataclass(slots=True)
class ProviderDay:
    """What the provider says of a day (UTC) and a model, or of all models together where that is None."""

    day: str
    model: str | None
    usage: Usage | None = None
    micros: int | None = None
    images: int | None = None


@dataclass(slots=True)
class Counts:
    """`others` are rows of models that draw no images, by name: they are not compared."""

    requests: dict[str, Usage] = field(default_factory=dict)
    days: list[ProviderDay] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)


def text_in(row: Row, name: str) -> str | None:
    value = row.get(name)
    return value.strip() or None if isinstance(value, str) else None


def number_in(where: str, row: Row, name: str) -> int:
    """Raises `ConfigError` for one that is absent, empty, or no whole number."""
    value = row.get(name)
    if value is None or value == "":
        raise ConfigError(f"{where} has no `{name}`; a count that is absent is not zero")
    return whole(where, name, value)


def whole(where: str, name: str, value: Any) -> int:
    """7, "7" and, as OpenAI writes them, "7.0"."""
    text = str(value).strip()
    digits, point, rest = text.partition(".")
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 13 and (not point or rest.strip("0") == "")
    if isinstance(value, bool) or not is_number:
        raise ConfigError(f"{where}: `{name}` is no number of tokens, images or seconds")
    return int(digits)


def together(days: Iterable[ProviderDay]) -> list[ProviderDay]:
    """One for each day and model: exports have rows for projects, keys and minutes."""
    found: dict[tuple[str, str | None], ProviderDay] = {}
    for one in days:
        known = found.get((one.day, one.model))
        found[one.day, one.model] = one if known is None else _sum(known, one)
    return [found[key] for key in sorted(found, key=lambda key: (key[0], key[1] or ""))]


def _sum(a: ProviderDay, b: ProviderDay) -> ProviderDay:
    usage = None
    if a.usage is not None and b.usage is not None:
        usage = Usage(**{kind: getattr(a.usage, kind) + getattr(b.usage, kind) for kind in KINDS})
    return ProviderDay(a.day, a.model, usage, _plus(a.micros, b.micros), _plus(a.images, b.images))


def _plus(a: int | None, b: int | None) -> int | None:
    return None if a is None or b is None else a + b


# ---- typed ------------------------------------------------------------------------------------------------


def usage_of(values: Mapping[str, Any]) -> Usage:
    """Token counts by name, as they are typed for one leg. Raises `ConfigError`."""
    unknown = next((name for name in values if name not in KINDS), None)
    if unknown is not None:
        raise ConfigError(f"there is no `{unknown}`; there are {', '.join(f'`{kind}`' for kind in KINDS)}")
    number_in("it", values, NEEDED)
    return Usage(**{kind: number_in("it", values, kind) for kind in values})

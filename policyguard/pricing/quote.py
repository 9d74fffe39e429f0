"""A ceiling and what it is made of.

Whole thousandths of a micro-dollar, so that nothing is rounded before the sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True, slots=True)
class QuoteLine:
    """One part of a ceiling: tokens, and thousandths of a micro-dollar."""

    what: str
    tokens: int
    milli_micros: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Quote:
    """The most that a request can cost. `as_of` and `confidence` are those of the price row."""

    model: str
    ceiling_micros: int
    lines: tuple[QuoteLine, ...]
    as_of: date
    confidence: str
    prices_digest: str

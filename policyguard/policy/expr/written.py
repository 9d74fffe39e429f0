"""Texts that a condition must write out, read once when the policy loads: patterns, times, durations and zones.

Each reader raises ValueError with what is wrong in words.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from fractions import Fraction
from functools import lru_cache
from typing import Any

from policyguard import zones

_TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?:[Zz]|[-+]\d\d:\d\d)", re.ASCII)
_OFFSET = re.compile(r"([-+]?)([01]\d|2[0-3]):([0-5]\d)", re.ASCII)
_DURATION = re.compile(r"-?(?:\d{1,12}(?:\.\d{1,9})?(?:h|ms|m|s|us|ns))+", re.ASCII)
_DURATION_PART = re.compile(r"([\d.]+)([a-z]+)", re.ASCII)
LONGEST = timedelta(seconds=315_576_000_000)  # about 10,000 years, as CEL's durations have it
_PATTERN_BYTES = 1 << 18  # room for a list of words as long as a condition can be
_MICROSECONDS = {
    "h": Fraction(3_600_000_000),
    "m": Fraction(60_000_000),
    "s": Fraction(1_000_000),
    "ms": Fraction(1000),
    "us": Fraction(1),
    "ns": Fraction(1, 1000),
}


@lru_cache(maxsize=4096)
def pattern(text: str) -> Any:
    """RE2 is linear in the text that it searches, so that no prompt can stall a rule."""
    import re2  # cel-python brings it

    options = re2.Options()
    options.log_errors = False
    options.never_capture = True  # nobody asks for groups, and nested ones take much memory
    options.max_mem = _PATTERN_BYTES
    try:
        return re2.compile(text, options=options)
    except re2.error as error:
        raise ValueError(f"not a valid RE2 pattern: {_reason(error)}") from None
    except Exception:
        raise ValueError("not a valid RE2 pattern") from None


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def timestamp(text: str) -> datetime:
    """RFC 3339, in UTC."""
    try:
        if _TIMESTAMP.fullmatch(text):
            return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        pass
    raise ValueError("a time is written like `2026-11-24T12:00:00Z`, with its zone")


def duration(text: str) -> timedelta:
    if not _DURATION.fullmatch(text):
        raise ValueError("a duration is written like `1h30m` or `90s`")
    parts = _DURATION_PART.findall(text)
    total = sum((Fraction(number) * _MICROSECONDS[unit] for number, unit in parts), Fraction(0))
    if total.denominator != 1:
        raise ValueError("a duration is in whole microseconds")
    if total > LONGEST // timedelta(microseconds=1):
        raise ValueError("a duration is at most 315,576,000,000 seconds")
    return timedelta(microseconds=int(-total if text.startswith("-") else total))


def zone(text: str) -> tzinfo:
    """A name of the time zone database, or an offset from UTC."""
    if offset := _OFFSET.fullmatch(text):
        ahead = timedelta(hours=int(offset[2]), minutes=int(offset[3]))
        return timezone(-ahead if offset[1] == "-" else ahead)
    try:
        return zones.zone(text)
    except ValueError as error:
        hint = zones.near(text) or "one is written like `Europe/Berlin` or `+01:00`"
        raise ValueError(f"{error}; {hint}") from None

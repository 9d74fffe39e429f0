"""The functions and loops of conditions, as a table: what they take, what they give, how they compute.

Names with a dot are called on a value. Patterns, times and zones are written out and checked when the policy loads.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

from policyguard.policy.expr import runtime
from policyguard.policy.expr.types import BOOL, DOUBLE, DURATION, INT, STRING, TIMESTAMP, Type

LOOPS: Mapping[str, bool] = {"exists": True, "all": False}  # which result of the condition ends the loop


@dataclass(frozen=True, slots=True)
class Call:
    """`prepare` reads the last argument, which must be written out, once; it raises ValueError with the reason."""

    takes: tuple[str, ...]
    gives: Type
    compute: Callable[..., Any]
    prepare: Callable[[str], Any] | None = None


def _pattern(text: str) -> Any:
    import re2  # linear in the text, so that no prompt can stall a rule; cel-python brings it

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(text, options=options)
    except re2.error as error:
        raise ValueError(f"this is no RE2 pattern: {_reason(error)}") from None


def _reason(error: Exception) -> str:
    reason = error.args[0] if error.args else ""
    return reason.decode(errors="replace") if isinstance(reason, bytes) else str(reason)


def _timestamp(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError("a time is written like `2026-11-24T12:00:00Z`") from None
    if moment.tzinfo is None:
        raise ValueError("a time needs its zone, for example `Z` at its end")
    return moment


_DURATION = re.compile(r"(?=.)(?:(\d{1,6})h)?(?:(\d{1,6})m)?(?:(\d{1,9})s)?", re.ASCII)


def _duration(text: str) -> timedelta:
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError("a duration is written like `1h30m` or `90s`")
    hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


def _zone(text: str) -> Any:
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):
        raise ValueError(f"`{text}` is no time zone; write one like `Europe/Berlin`") from None


def _accessor(read: Callable[[datetime], int]) -> tuple[Call, ...]:
    """CEL's time parts: in UTC, or in a zone that is written out."""
    return (
        Call(("timestamp",), INT, lambda t: read(t.astimezone(UTC))),
        Call(("timestamp", "string"), INT, lambda t, zone: read(t.astimezone(zone)), _zone),
    )


_SIZES = (Call(("string",), INT, len), Call(("list",), INT, len))

CALLS: Mapping[str, tuple[Call, ...]] = {
    "size": _SIZES,
    ".size": _SIZES,
    ".contains": (Call(("string", "string"), BOOL, lambda text, part: part in text),),
    ".startsWith": (Call(("string", "string"), BOOL, str.startswith),),
    ".endsWith": (Call(("string", "string"), BOOL, str.endswith),),
    ".matches": (Call(("string", "string"), BOOL, lambda text, pattern: pattern.search(text) is not None, _pattern),),
    "int": (Call(("double",), INT, runtime.to_int), Call(("string",), INT, runtime.to_int), Call(("int",), INT, int)),
    "double": (
        Call(("int",), DOUBLE, runtime.to_double),
        Call(("string",), DOUBLE, runtime.to_double),
        Call(("double",), DOUBLE, runtime.to_double),
    ),
    "string": (Call(("int",), STRING, str), Call(("string",), STRING, str)),
    "timestamp": (Call(("string",), TIMESTAMP, _timestamp, _timestamp),),
    "duration": (Call(("string",), DURATION, _duration, _duration),),
    ".getFullYear": _accessor(lambda t: t.year),
    ".getMonth": _accessor(lambda t: t.month - 1),
    ".getDate": _accessor(lambda t: t.day),
    ".getDayOfWeek": _accessor(lambda t: t.isoweekday() % 7),
    ".getHours": _accessor(lambda t: t.hour),
    ".getMinutes": _accessor(lambda t: t.minute),
}

"""What conditions compute with when they run: CEL's arithmetic and conversions, and what they may raise.

Numbers follow CEL, not Python: integers have 64 bits, division truncates, doubles follow IEEE 754.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from math import copysign, isfinite, nan
from typing import Any

from policyguard.policy.expr.literals import HIGHEST, LOWEST
from policyguard.policy.expr.written import LONGEST
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Size, parse_size

_INT = re.compile(r"[-+]?[0-9]{1,40}", re.ASCII)
_TICK = timedelta(microseconds=1)
_DOUBLE = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,6})?", re.ASCII)


class Unavailable(Exception):
    """An input is not there, for example because moderation is down. Carries the input's name only."""

    def __init__(self, input: str) -> None:
        super().__init__(f"`{input}` is unavailable")
        self.input = input


class EvaluationError(Exception):
    """The condition cannot be computed. Carries a code, never a value."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


# ---- inputs -----------------------------------------------------------------------------------------------


def drawn(size: str | None) -> Size:
    """What upstream picks for `auto` is not known, so a rule over it is not either."""
    found = parse_size(size or "")
    if found is None:
        raise EvaluationError("unknown_size")
    return found


def categories(scores: Mapping[str, float] | None) -> tuple[str, ...]:
    """What a loop over scores runs over: every category, also one that was not assessed."""
    if scores is None:
        raise Unavailable("scores")
    return CATEGORIES


def pictured(output: Mapping[str, float] | None) -> tuple[str, ...]:
    """The same over the scores of pictures: the categories that are looked for in one."""
    if output is None:
        raise Unavailable("output")
    return IMAGE_CATEGORIES


def score_of(scores: Mapping[str, float] | None, category: str) -> float:
    value = None if scores is None else scores.get(category)
    if value is None:
        raise Unavailable(f"scores.{category}")
    return value


def moment(now: datetime) -> datetime:
    """In UTC, so that comparing and subtracting never goes by a wall clock."""
    if now.tzinfo is UTC:
        return now
    if now.tzinfo is None:
        raise EvaluationError("internal")
    return now.astimezone(UTC)


# ---- whole numbers ----------------------------------------------------------------------------------------


def whole(value: int) -> int:
    """CEL's integers have 64 bits; beyond them is an error, never a wrapped number."""
    if LOWEST <= value <= HIGHEST:
        return value
    raise EvaluationError("overflow")


def divide(left: int, right: int) -> int:
    """Truncates towards zero."""
    if right == 0:
        raise EvaluationError("division_by_zero")
    quotient = abs(left) // abs(right)
    return whole(quotient if (left < 0) == (right < 0) else -quotient)


def modulo(left: int, right: int) -> int:
    """The sign is that of the left side."""
    if right == 0:
        raise EvaluationError("division_by_zero")
    if right == -1 and left == LOWEST:
        raise EvaluationError("overflow")
    return abs(left) % abs(right) * (-1 if left < 0 else 1)


# ---- doubles ----------------------------------------------------------------------------------------------


def ratio(left: float, right: float) -> float:
    """By zero gives an infinity or no number, as IEEE 754 says."""
    if right != 0:
        return left / right
    if left == 0 or left != left:
        return nan
    return copysign(1.0, left) * copysign(float("inf"), right)


def same(left: Sequence[Any], right: Sequence[Any]) -> bool:
    """Lists of doubles: no number equals no number, which Python's lists overlook."""
    return len(left) == len(right) and all(_equal(a, b) for a, b in zip(left, right, strict=True))


def _equal(left: Any, right: Any) -> bool:
    return same(left, right) if isinstance(left, list | tuple) else bool(left == right)


def among(value: Any, items: Sequence[Any]) -> bool:
    return any(_equal(value, item) for item in items)


# ---- conversions ------------------------------------------------------------------------------------------


def int_of_double(value: float) -> int:
    if not LOWEST < value < -LOWEST:
        raise EvaluationError("overflow")
    return int(value)


def int_of_text(text: str) -> int:
    if not _INT.fullmatch(text):
        raise EvaluationError("not_a_number")
    return whole(int(text))


def double_of_text(text: str) -> float:
    if not _DOUBLE.fullmatch(text):
        raise EvaluationError("not_a_number")
    value = float(text)
    if not isfinite(value):
        raise EvaluationError("overflow")
    return value


# ---- time -------------------------------------------------------------------------------------------------


def later(left: datetime | timedelta, right: datetime | timedelta) -> Any:
    try:
        return _in_range(left + right)  # type: ignore[operator]
    except OverflowError:
        raise EvaluationError("overflow") from None


def earlier(left: datetime | timedelta, right: datetime | timedelta) -> Any:
    try:
        return _in_range(left - right)  # type: ignore[operator]
    except OverflowError:
        raise EvaluationError("overflow") from None


def _in_range(value: datetime | timedelta) -> datetime | timedelta:
    if isinstance(value, timedelta) and abs(value) > LONGEST:
        raise OverflowError
    return value


def local(moment: datetime, zone: tzinfo) -> datetime:
    """The wall clock of a zone; before the year 1 and after 9999 there is none."""
    try:
        return moment.astimezone(zone)
    except OverflowError:
        raise EvaluationError("overflow") from None


def units(value: timedelta, unit: timedelta) -> int:
    """Whole units of a duration, towards zero."""
    return divide(value // _TICK, unit // _TICK)

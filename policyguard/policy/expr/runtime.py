"""What compiled conditions do when they run: CEL's arithmetic, absorption of errors, loops, and what they may raise."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

from policyguard.policy.expr.types import Run

_LOW, _HIGH = -(2**63), 2**63 - 1


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


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestFacts:
    """A request as conditions read it. Where the size is `auto` it has no pixels; a mask is no input image."""

    operation: str
    prompt: str = field(repr=False)
    model: str
    size: str
    width: int | None
    height: int | None
    pixels: int | None
    quality: str
    n: int
    background: str
    output_format: str
    partial_images: int
    input_images: int
    has_mask: bool


# ---- absorption -------------------------------------------------------------------------------------------


def either(runs: tuple[Run, ...], decides: bool) -> Run:
    """`||` (decides on True) and `&&` (on False): one deciding operand wins over whatever went wrong in another."""

    def run(inputs: Mapping[str, Any]) -> bool:
        wrong: Exception | None = None
        for operand in runs:
            try:
                found: bool = operand(inputs)
            except (Unavailable, EvaluationError) as error:
                wrong = _worse(wrong, error)
                continue
            if found is decides:
                return decides
        if wrong is not None:
            raise wrong
        return not decides

    return run


def _worse(old: Exception | None, new: Exception) -> Exception:
    """An error is stricter than an unavailable input, which may only be reviewed."""
    return new if old is None or isinstance(new, EvaluationError) else old


def loop(items: Callable[[Mapping[str, Any]], Iterable[Any]], variable: str, body: Run, decides: bool) -> Run:
    """`exists` (decides on True) and `all` (on False)."""

    def run(inputs: Mapping[str, Any]) -> bool:
        runs = tuple(_bound(body, variable, item) for item in items(inputs))
        return bool(either(runs, decides)(inputs))

    return run


def _bound(body: Run, variable: str, item: Any) -> Run:
    return lambda inputs: body({**inputs, variable: item})


# ---- inputs -----------------------------------------------------------------------------------------------


def score(category: str) -> Run:
    return lambda inputs: score_of(inputs, category)


def score_of(inputs: Mapping[str, Any], category: str) -> float:
    scores = inputs["scores"]
    value = None if scores is None else scores.get(category)
    if value is None:
        raise Unavailable(f"scores.{category}")
    return float(value)


def request_value(name: str) -> Run:
    get = attrgetter(name)

    def run(inputs: Mapping[str, Any]) -> Any:
        value = get(inputs["request"])
        if value is None:  # pixels of `auto`: what upstream picks is not known, so the rule is not either
            raise EvaluationError("unknown_size")
        return value

    return run


def caller_value(name: str) -> Run:
    def run(inputs: Mapping[str, Any]) -> str:
        value = inputs["caller"].get(name)
        if value is None:
            raise EvaluationError("missing_caller_value")
        return str(value)

    return run


# ---- arithmetic -------------------------------------------------------------------------------------------


def whole(value: int) -> int:
    """CEL's integers have 64 bits; beyond them is an error, never a wrapped number."""
    if not _LOW <= value <= _HIGH:
        raise EvaluationError("overflow")
    return value


def add(left: Any, right: Any) -> Any:
    return whole(left + right) if type(left) is int else left + right


def subtract(left: Any, right: Any) -> Any:
    return whole(left - right) if type(left) is int else left - right


def multiply(left: Any, right: Any) -> Any:
    return whole(left * right) if type(left) is int else left * right


def divide(left: Any, right: Any) -> Any:
    """Integers truncate towards zero; doubles follow IEEE 754."""
    if type(left) is int:
        if right == 0:
            raise EvaluationError("division_by_zero")
        quotient = abs(left) // abs(right)
        return whole(quotient if (left < 0) == (right < 0) else -quotient)
    if right == 0:
        return _by_zero(left, right)
    return left / right


def _by_zero(left: float, right: float) -> float:
    if left == 0 or left != left:
        return float("nan")
    same_sign = (left > 0) == (str(right)[0] != "-")
    return float("inf") if same_sign else float("-inf")


def modulo(left: int, right: int) -> int:
    if right == 0:
        raise EvaluationError("division_by_zero")
    return whole(abs(left) % abs(right) * (-1 if left < 0 else 1))


def negate(value: Any) -> Any:
    return whole(-value) if type(value) is int else -value


def to_int(value: Any) -> int:
    if isinstance(value, str):
        try:
            return whole(int(value)) if value.lstrip("-").isdecimal() and value.isascii() else _not_a_number()
        except ValueError:
            return _not_a_number()
    if value != value or value in (float("inf"), float("-inf")):
        raise EvaluationError("overflow")
    return whole(int(value))


def to_double(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise EvaluationError("not_a_number") from None


def _not_a_number() -> int:
    raise EvaluationError("not_a_number")

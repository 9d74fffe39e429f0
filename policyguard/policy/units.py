"""The units that product people write: durations, bytes, money and images per window, paths and routes. Pure.

Each reader raises ValueError with how the value is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, timedelta
from decimal import Decimal
from functools import lru_cache, partial, wraps
from typing import Any, Literal, NamedTuple, TypeVar, cast

from policyguard.policy.model import Period, Unit

_DURATION = re.compile(r"([1-9][0-9]{0,5})(s|m|h|d)", re.ASCII)
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_BYTES = re.compile(r"([1-9][0-9]{0,8})(B|kB|MB|GB)?", re.ASCII)
_FACTORS = {None: 1, "B": 1, "kB": 1000, "MB": 1_000_000, "GB": 1_000_000_000}
_LIMIT = re.compile(r"(?:\$([0-9]{1,9}(?:\.[0-9]{1,6})?)|([0-9]{1,9}) (image|request)s?) */ *([a-z]+)", re.ASCII)
_PER_CENT = re.compile(r"(100|[1-9][0-9]?)%", re.ASCII)
_RATE = re.compile(r"\$([0-9]{1,6}(?:\.[0-9]{1,3})?)", re.ASCII)
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
T = TypeVar("T")
PERIODS: tuple[Period, ...] = ("minute", "hour", "day", "week", "month", "year", "total")


def _remembered(read: Callable[[Any], T]) -> Callable[[object], T]:
    """Every text is read twice, to check its form and to compile it, and many files say the same."""
    remembered = lru_cache(maxsize=4096)(read)

    @wraps(read)
    def reader(text: object) -> T:
        return remembered(text) if isinstance(text, str) else read(text)

    return reader


class Limit(NamedTuple):
    """Micro-dollars, images or requests, per calendar window."""

    unit: Unit
    amount: int
    period: Period


@_remembered
def duration(text: object) -> timedelta:
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a duration is written like `30m`, `4h` or `400d`")
    return timedelta(seconds=int(match[1]) * _SECONDS[match[2]])


def days(text: object) -> int:
    match = _DURATION.fullmatch(text) if isinstance(text, str) else None
    if match is None or match[2] != "d":
        raise ValueError("this is kept in whole days, like `30d`")
    return int(match[1])


def size_in_bytes(text: object) -> int:
    match = _BYTES.fullmatch(str(text)) if isinstance(text, str | int) and not isinstance(text, bool) else None
    if match is None:
        raise ValueError("a size is written like `10MB` or `500kB`")
    return int(match[1]) * _FACTORS[match[2]]


@_remembered
def budget_limit(text: object) -> Limit:
    """`$2000 / month`, `20 images / day` or `100 requests / minute`."""
    match = _LIMIT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError(
            "a budget's limit is written like `$2000 / month`, `20 images / day` or `100 requests / minute`"
        )
    if match[4] not in PERIODS:
        raise ValueError(f"a budget is for a {', '.join(PERIODS[:-1])} or `total`")
    usd = match[1] is not None
    amount = int(Decimal(match[1]) * 1_000_000) if usd else int(match[2])
    if amount <= 0:
        raise ValueError("a budget of nothing admits nothing; `mode: shadow` or `policyguard pause` may be meant")
    return Limit("usd" if usd else cast(Unit, f"{match[3]}s"), amount, cast(Period, match[4]))


def per_cent(text: object) -> int:
    """`80%`, from 1 to 100."""
    match = _PER_CENT.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a threshold is written like `80%`, from `1%` to `100%`")
    return int(match[1])


def per_million(text: object) -> int:
    """`$30` for a million tokens, in thousandths of a micro-dollar for one."""
    match = _RATE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("a price for a million tokens is written like `$30` or `$0.125`")
    return int(Decimal(match[1]) * 1000)


def version(number: object) -> int:
    if type(number) is not int:
        raise ValueError("the version of the language is written as `1`")
    return number


def day(text: object) -> date:
    try:
        if not isinstance(text, str) or _DAY.fullmatch(text) is None:  # ISO 8601 has more forms than people know
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise ValueError("a day is written like `2027-01-31`") from None


_ROUTE = re.compile(r"(POST|PUT|PATCH) (/[A-Za-z0-9._~:@!$&'()+,;=/-]*)", re.ASCII)
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*(?:\[\])?(?:\.[A-Za-z_][A-Za-z0-9_-]*(?:\[\])?)*", re.ASCII)


@_remembered
def route(text: object) -> tuple[str, str]:
    """`POST /v1/images/generations` as method and path."""
    match = _ROUTE.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        hint = "with POST, PUT or PATCH, and without placeholders, `%`, `?` and `#`"
        raise ValueError(f"a route is written like `POST /v1/images/generations`, {hint}")
    path = match[2]
    if "//" in path or {".", ".."} & set(path.split("/")):
        raise ValueError("a route's path is plain: no `//`, no `.` and no `..` between slashes")
    return match[1], path


# No port, no user, no address in numbers: the last part has letters only, or is a punycode one.
HOST = r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,8}(?:[a-z]{2,63}|xn--[a-z0-9-]{1,58}[a-z0-9])"
_HOST = re.compile(HOST, re.ASCII)


def host(text: object) -> str:
    if not isinstance(text, str) or len(text) > 253 or _HOST.fullmatch(text) is None:
        hint = "in lower case, without a port, a path or `*`; other letters as punycode (`xn--...`)"
        raise ValueError(f"a host is written like `images.example.com`, {hint}")
    return text


def path_in(text: object, root: Literal["body", "response"]) -> tuple[str, ...]:
    """`response.data[].b64_json` as `("data", "[]", "b64_json")`."""
    return _BODY(text) if root == "body" else _RESPONSE(text)


def _path_in(root: str, text: object) -> tuple[str, ...]:
    start = f"{root}."
    if not isinstance(text, str) or not text.startswith(start) or not _PATH.fullmatch(text[len(start) :]):
        raise ValueError(f"this is a path like `{root}.name`")
    if root == "body" and "[]" in text:
        raise ValueError("a field is one value of the body, so its path has no `[]`")
    return tuple(part for name in text[len(start) :].split(".") for part in _list_part(name))


def _list_part(name: str) -> tuple[str, ...]:
    return (name.removesuffix("[]"), "[]") if name.endswith("[]") else (name,)


_BODY, _RESPONSE = (_remembered(partial(_path_in, root)) for root in ("body", "response"))

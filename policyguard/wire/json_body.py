"""Strict JSON: what two parsers could read differently is refused, because the next one may not be ours.

Duplicate keys, numbers that are not finite or beyond 64 bits, half characters, and deep nesting are errors.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator, Sequence
from typing import Any

from policyguard.errors import InvalidRequest

MAX_DEPTH = 32
MAX_KEYS = 10_000  # of one object: each is looked at when something is written back
MAX_KEYS_IN_ALL = 20_000
MAX_VALUES = 50_000  # of lists
MAX_DIGITS = 19
MAX_DECIMAL_CHARS = 64
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_BRACKETS = re.compile(rb"[\[\]{}]")


def parse_object(body: bytes, lifted: Sequence[object] = ()) -> dict[str, Any]:
    """The one JSON object in `body`. Each of `lifted`, in order, stands in it as `NaN`, and nothing else does."""
    left = iter(lifted)
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise InvalidRequest("the body is no UTF-8 text") from None
    if text.startswith("\ufeff"):
        raise InvalidRequest("the body starts with a byte order mark")
    _check_size(body)
    try:
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=lambda text: _constant(text, left),
            parse_int=_whole,
            parse_float=_decimal,
        )
    except (json.JSONDecodeError, RecursionError):
        raise InvalidRequest("the body is no JSON") from None
    if next(left, None) is not None:
        raise InvalidRequest("the body is no JSON")
    if not isinstance(value, dict):
        raise InvalidRequest("the body must be a JSON object")
    if _SURROGATE.search(body):
        _check_characters(value)
    return value


def _check_size(body: bytes) -> None:
    """Before parsing, by counts: a parser holds up every other request of its process until it is done.

    Without escapes, every second piece between quotes is outside of texts.
    """
    quoted = body.replace(rb"\\", b"").replace(rb"\"", b"")
    if quoted.count(b'":') > MAX_KEYS_IN_ALL:  # nearly all that there can be, and quickly
        raise InvalidRequest(f"the body has more than {MAX_KEYS_IN_ALL:,} keys")
    if quoted.count(b'"') > 2 * (MAX_KEYS_IN_ALL + MAX_VALUES):
        raise InvalidRequest(f"the body has more than {MAX_VALUES:,} values")
    plain = b"".join(quoted.split(b'"')[::2])
    if plain.count(b":") > MAX_KEYS_IN_ALL:
        raise InvalidRequest(f"the body has more than {MAX_KEYS_IN_ALL:,} keys")
    if any(plain.count(mark) > MAX_VALUES for mark in (b",", b"[", b"]", b"{", b"}")):
        raise InvalidRequest(f"the body has more than {MAX_VALUES:,} values")
    _check_depth(plain)


def _check_depth(plain: bytes) -> None:
    depth = 0
    for found in _BRACKETS.finditer(plain):
        if found[0] in b"[{":
            depth += 1
            if depth > MAX_DEPTH:
                raise InvalidRequest(f"the body is nested more than {MAX_DEPTH} deep")
        else:
            depth -= 1


def _check_characters(value: dict[str, Any]) -> None:
    """Half of a surrogate pair can be escaped in JSON, but not written as UTF-8: known before anything is reserved."""
    try:
        json.dumps(value, ensure_ascii=False, default=repr).encode()
    except UnicodeEncodeError:
        raise InvalidRequest("a text holds half of a surrogate pair") from None


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(pairs) > MAX_KEYS:
        raise InvalidRequest(f"an object has more than {MAX_KEYS:,} keys")
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InvalidRequest("a key is there twice")
    return found


def _constant(text: str, lifted: Iterator[object]) -> object:
    value = next(lifted, None) if text == "NaN" else None
    if value is None:
        raise InvalidRequest("a number is not finite")
    return value


def _whole(text: str) -> int:
    value = int(text) if len(text) <= MAX_DIGITS + 1 else 2**64
    if not -(2**63) <= value < 2**63:
        raise InvalidRequest("a whole number is too large")
    return value


def _decimal(text: str) -> float:
    """`1e400` is a number in JSON, and infinity to those who read it."""
    value = float(text) if len(text) <= MAX_DECIMAL_CHARS else math.inf
    if not math.isfinite(value):
        raise InvalidRequest("a number is too large or too long")
    return value


def dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()

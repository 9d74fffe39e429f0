"""Changes within a JSON object in its own bytes: whatever is not changed stays as the client spelt it.

Only for text that `json_body.parse_object` has read, so the scan has nothing left to refuse. It works on the bytes as
Latin-1, where a place in the text is a place in the bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from policyguard.wire.json_body import dump

Piece = slice | bytes  # a part of the original, or new text
Changes = Mapping[Any, Any]  # by key or index: a value, `GONE`, or `Inside` with changes of the object there
GONE: Any = object()
_SPACE = re.compile(r"[ \t\n\r]*")
_scan = json.JSONDecoder().raw_decode


class Inside(dict[Any, Any]):
    """Changes within what a key has: an object's by key, where there is none a new one is made; a list's by index."""


class _Member(NamedTuple):
    """One `"key": value` with the space around it: from behind a bracket or comma to the next one."""

    start: int
    key: str
    value_start: int
    value_end: int
    end: int


def splice(body: bytes, changes: Changes, known: Collection[Any] = ()) -> list[Piece]:
    """`body`, one JSON object, with `changes`, as pieces in order. A key that is not there is added at the end.

    `known` are its keys, where somebody has them: what is only added needs no look at the rest.
    """
    if known and not any(key in known for key in changes):
        return _added(body, changes)
    text = body.decode("latin-1")
    at = _skip(text, 0)
    pieces: list[Piece] = [slice(0, at)]
    end = _object(text, at, changes, pieces)
    pieces.append(slice(end, len(body)))
    return pieces


def _added(body: bytes, changes: Changes) -> list[Piece]:
    close = body.rindex(b"}")
    new = b"".join([_pair(key, value) for key, value in changes.items() if value is not GONE])
    return [slice(0, close), new, slice(close, len(body))]


def _pair(key: Any, value: Any) -> bytes:
    if isinstance(value, str) and isinstance(key, str):  # the same few models, sizes and qualities, again and again
        return _text_pair(key, value)
    return b"," + dump(key) + b":" + dump(value)


@lru_cache(maxsize=1024)
def _text_pair(key: str, value: str) -> bytes:
    return b"," + dump(key) + b":" + dump(value)


def joined(body: bytes, pieces: list[Piece]) -> bytes:
    view = memoryview(body)
    return b"".join(view[piece] if isinstance(piece, slice) else piece for piece in pieces)


def _object(text: str, at: int, changes: Changes, pieces: list[Piece]) -> int:
    """Add the pieces of the object that begins at `at`; where it ends."""
    left, first, end = dict(changes), True, at + 1
    pieces.append(slice(at, at + 1))
    for member in _members(text, at + 1):
        end = member.end
        change = left.pop(member.key, None)
        if change is GONE:
            continue
        if not first:
            pieces.append(b",")
        first = False
        _member(text, member, change, pieces)
    for key, value in left.items():
        if value is not GONE:
            pieces.append((b"" if first else b",") + dump(key) + b":" + dump(value))
            first = False
    close = _skip(text, end)
    pieces.append(slice(end, close + 1))
    return close + 1


def _member(text: str, member: _Member, change: Any, pieces: list[Piece]) -> None:
    if change is None:
        pieces.append(slice(member.start, member.end))
        return
    pieces.append(slice(member.start, member.value_start))
    _value(text, member.value_start, change, pieces)
    pieces.append(slice(member.value_end, member.end))


def _value(text: str, at: int, change: Any, pieces: list[Piece]) -> None:
    if not isinstance(change, Inside):
        pieces.append(dump(change))
    elif text[at] == "[":
        _list(text, at, change, pieces)
    else:
        _object(text, at, change, pieces)


def _list(text: str, at: int, changes: Changes, pieces: list[Piece]) -> None:
    """Every index of `changes` is there."""
    end, first, last = _scan(text, at)[1], True, False
    pieces.append(slice(at, at + 1))
    start = at + 1
    for index in range(max(changes, default=-1) + 1):
        value_start = _skip(text, start)
        value_end = _scan(text, value_start)[1]
        after = _skip(text, value_end)
        change = changes.get(index)
        if change is not GONE:
            if not first:
                pieces.append(b",")
            first = False
            _member(text, _Member(start, "", value_start, value_end, after), change, pieces)
        last = text[after] == "]"
        start = after if last else after + 1
    if not (first or last):
        pieces.append(b",")
    pieces.append(slice(start, end))


def _members(text: str, at: int) -> Iterator[_Member]:
    start = at
    at = _skip(text, at)
    while text[at] == '"':
        key_start = at
        key, at = _scan(text, at)
        if not key.isascii():  # read as Latin-1, so not yet the key itself
            key = json.loads(text[key_start:at].encode("latin-1"))
        value_start = _skip(text, _skip(text, at) + 1)
        value_end = _scan(text, value_start)[1]
        at = _skip(text, value_end)
        yield _Member(start, key, value_start, value_end, at)
        if text[at] != ",":
            return
        start = at + 1
        at = _skip(text, start)


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match else at

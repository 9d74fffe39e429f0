"""The digest of a policy: over everything that changes a decision, and nothing else.

Titles, owners, places, comments and the order of keys, rules and lists do not count. Paths of routes keep their order,
and the text inside a condition's quotes is kept to the letter.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import fields
from datetime import date, timedelta
from ipaddress import IPv4Network, IPv6Network
from types import MappingProxyType
from typing import Any

import orjson

from policyguard.decision import Effect
from policyguard.policy.expr import Compiled
from policyguard.policy.model import Threshold

# What people read, and where it stands: neither decides anything. Of prices only some do, see `prices.matters`.
_READ = frozenset({"title", "owner", "message", "by", "why", "alert_at"})
_NO_MEANING = _READ | {"place", "places", "prices"}
_PATHS = frozenset({"fields", "usage", "images"})  # of a route: `a.b` is not `b.a`

# A text in quotes, a comment, or white space of a condition.
_QUOTED = r"""[rR]?(?:\"{3}.*?\"{3}|'{3}.*?'{3})|[rR](?:"[^"]*"|'[^']*')|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
_PIECES = re.compile(rf"(?P<quoted>{_QUOTED})|(?P<gap>(?:\s|//[^\n]*)+)", re.DOTALL)

_LOOSE = re.compile(r"\s\s|[^\S ]|//")  # what can make two writings of one condition differ


def digest(meaning: Mapping[str, Any]) -> str:
    """`sha256:` and the hash of the canonical JSON of compiled values by name."""
    plain = {name: _reader(name)(value) for name, value in meaning.items() if name not in _NO_MEANING}
    return "sha256:" + hashlib.sha256(_written(plain)).hexdigest()


def digest_of_all(digests: Mapping[str, str]) -> str:
    """The digest of a set of policies, from those of its surfaces."""
    return "sha256:" + hashlib.sha256(_written(digests)).hexdigest()


def canonical(condition: str) -> str:
    """A condition without comments, and with single spaces outside of its texts."""
    if _LOOSE.search(condition):
        condition = _PIECES.sub(lambda piece: piece["quoted"] or " ", condition)
    return condition.strip()


def _written(plain: Any) -> bytes:
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)


def _plain(value: Any) -> Any:
    """A value as JSON has it. One look at its type decides: a folder may have thousands of policies."""
    kind = type(value)
    if kind in _SIMPLE:
        return value
    plain = _PLAIN.get(kind)
    return _record(value) if plain is None else plain(value)


def _record(value: Any) -> list[Any]:
    """A dataclass: its values in the order of its fields."""
    return [
        found if type(found := getattr(value, name)) in _SIMPLE else reader(found)
        for name, reader in _meant(type(value))
    ]


def _meant(kind: type) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """The fields of a dataclass that have a meaning, and how each is read."""
    if kind not in _MEANT:
        names = (field.name for field in fields(kind) if field.name not in _NO_MEANING)
        _MEANT[kind] = tuple((name, _reader(name)) for name in names)
    return _MEANT[kind]


def _reader(name: str) -> Callable[[Any], Any]:
    return _path if name in _PATHS else _plain


def _items(value: Any) -> Any:
    """Lists say the same in any order."""
    kinds = {type(item) for item in value}
    if kinds == {Threshold}:
        return {threshold.category: threshold.at for threshold in value}
    return sorted(value) if kinds == {str} else sorted(map(_plain, value), key=_written)


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(item) for key, item in value.items()}


def _path(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: ".".join(path) for key, path in value.items()}
    return None if value is None else ".".join(value)


_MEANT: dict[type, tuple[tuple[str, Callable[[Any], Any]], ...]] = {}
_SIMPLE = frozenset((str, int, float, bool, type(None)))
_PLAIN: Mapping[type, Callable[[Any], Any]] = {
    **dict.fromkeys((frozenset, tuple, list), _items),
    **dict.fromkeys((dict, MappingProxyType), _mapping),
    **dict.fromkeys((date, IPv4Network, IPv6Network), str),
    Effect: int,
    timedelta: lambda time: time.total_seconds(),
    Compiled: lambda condition: canonical(condition.source),
}

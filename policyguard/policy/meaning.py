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

# What people read, and where it stands: neither decides anything. Of prices only some do, see `prices.matters`.
_READ = frozenset({"title", "owner", "message", "by", "why", "alert_at"})
_NO_MEANING = _READ | {"place", "places", "digest", "prepared", "prices"}
_PATHS = frozenset({"fields", "usage", "images"})  # of a route: `a.b` is not `b.a`

# A text in quotes, a comment, or white space of a condition.
_QUOTED = r"""[rR]?(?:\"{3}.*?\"{3}|'{3}.*?'{3})|[rR](?:"[^"]*"|'[^']*')|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
_PIECES = re.compile(rf"(?P<quoted>{_QUOTED})|(?P<gap>(?:\s|//[^\n]*)+)", re.DOTALL)


def digest(meaning: Any) -> str:
    """`sha256:` and the hash of the canonical JSON of compiled values."""
    return "sha256:" + hashlib.sha256(_written(_plain(meaning))).hexdigest()


def digest_of_all(digests: Mapping[str, str]) -> str:
    """The digest of a set of policies, from those of its surfaces."""
    return "sha256:" + hashlib.sha256(_written(digests)).hexdigest()


def canonical(condition: str) -> str:
    """A condition without comments, and with single spaces outside of its texts."""
    return _PIECES.sub(lambda piece: piece["quoted"] or " ", condition).strip()


def _written(plain: Any) -> bytes:
    return orjson.dumps(plain, option=orjson.OPT_SORT_KEYS)


def _plain(value: Any) -> Any:
    """A value as JSON has it. One look at its type decides: a folder may have thousands of policies."""
    plain = _PLAIN.get(type(value))
    return _record(value) if plain is None else plain(value)


def _record(value: Any) -> list[Any]:
    """A dataclass: its values in the order of its fields."""
    return [plain(getattr(value, name)) for name, plain in _meant(type(value))]


def _meant(kind: type) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """The fields of a dataclass that have a meaning, and how each is read."""
    found = _MEANT.get(kind)
    if found is None:
        names = (field.name for field in fields(kind) if field.name not in _NO_MEANING)
        found = _MEANT[kind] = tuple((name, _path if name in _PATHS else _plain) for name in names)
    return found


def _items(value: Any) -> list[Any]:
    """Lists say the same in any order."""
    items = [_plain(item) for item in value]
    return sorted(items) if all(type(item) is str for item in items) else sorted(items, key=_written)


def _mapping(value: Mapping[Any, Any]) -> dict[str, Any]:
    return {str(key): _plain(item) for key, item in value.items()}


def _path(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: ".".join(path) for key, path in value.items()}
    return None if value is None else ".".join(value)


def _same(value: Any) -> Any:
    return value


_MEANT: dict[type, tuple[tuple[str, Callable[[Any], Any]], ...]] = {}
_PLAIN: Mapping[type, Callable[[Any], Any]] = {
    **dict.fromkeys((str, int, float, bool, type(None)), _same),
    **dict.fromkeys((frozenset, tuple, list), _items),
    **dict.fromkeys((dict, MappingProxyType), _mapping),
    **dict.fromkeys((date, IPv4Network, IPv6Network), str),
    Effect: int,
    timedelta: lambda time: time.total_seconds(),
    Compiled: lambda condition: canonical(condition.source),
}

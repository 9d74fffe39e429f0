"""The digest of a policy: over everything that changes a decision, and nothing else.

Titles, owners, places, comments and the order of keys, rules and lists do not count. Paths of routes keep their order,
and the text inside a condition's quotes is kept to the letter.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from policyguard.policy.expr import Compiled

_NO_MEANING = frozenset({"place", "places", "title", "owner", "digest", "file", "loaded_at", "folder", "by", "why"})
_PATHS = frozenset({"fields", "usage", "images"})  # of a route: `a.b` is not `b.a`

# A text in quotes, a comment, or white space of a condition.
_QUOTED = r"""[rR]?(?:\"{3}.*?\"{3}|'{3}.*?'{3})|[rR](?:"[^"]*"|'[^']*')|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
_PIECES = re.compile(rf"(?P<quoted>{_QUOTED})|(?P<gap>(?:\s|//[^\n]*)+)", re.DOTALL)


def digest(meaning: Any) -> str:
    """`sha256:` and the hash of the canonical JSON of compiled values."""
    text = json.dumps(_plain(meaning), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def canonical(condition: str) -> str:
    """A condition without comments, and with single spaces outside of its texts."""
    return _PIECES.sub(lambda piece: piece["quoted"] or " ", condition).strip()


def _plain(value: Any) -> Any:
    if isinstance(value, Compiled):
        return canonical(value.source)
    if is_dataclass(value) and not isinstance(value, type):
        return {f.name: _field(f.name, getattr(value, f.name)) for f in fields(value) if f.name not in _NO_MEANING}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, frozenset | tuple | list):
        return sorted((_plain(item) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, date | IPv4Network | IPv6Network):
        return str(value)
    return value


def _field(name: str, value: Any) -> Any:
    if name not in _PATHS:
        return _plain(value)
    if isinstance(value, Mapping):
        return {key: ".".join(path) for key, path in value.items()}
    return None if value is None else ".".join(value)

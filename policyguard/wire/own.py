"""An app's own route: parameters at declared places of its JSON body, usage and images in its JSON answer.

The places come from the policy; nothing outside of them is changed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from policyguard.errors import InvalidRequest
from policyguard.policy.model import Route
from policyguard.request import AUTO, ImageRequest
from policyguard.wire.generations import check_json_type, same
from policyguard.wire.json_body import parse_object
from policyguard.wire.parameters import build, decided
from policyguard.wire.splice import Inside, joined, splice


@dataclass(frozen=True, slots=True)
class Own:
    """A parsed body. Only declared fields are written back; the rest is the app's business, to the byte."""

    request: ImageRequest
    document: dict[str, Any] = field(repr=False)
    body: bytes = field(repr=False)
    route: Route

    def write(self, request: ImageRequest, safety_identifier: str | None) -> tuple[bytes, str]:
        changes = Inside()
        for name, value in {**decided(request), "moderation": AUTO}.items():
            path = self.route.fields.get(name)
            if path and not any(same(given, value) for given in at(self.document, path)):
                _set(changes, path, value)
        return joined(self.body, splice(self.body, changes)) if changes else self.body, "application/json"


def read_own(body: bytes, content_type: str, route: Route, query: bytes = b"") -> Own:
    """`query` as it came. Raises `InvalidRequest`."""
    check_json_type(content_type)
    document = parse_object(body)
    values: dict[str, Any] = dict(route.constants)
    for name, path in route.fields.items():
        found = list(at(document, path))
        if len(found) > 1:
            raise InvalidRequest(f"`{'.'.join(path)}` is there more than once", param=name)
        values[name] = found[0] if found else None
        _check_place(document, path, name)
    request = replace(
        build(values, "generate"), whole=also_read(query, route=[route.method, route.path], body=document)
    )
    return Own(request, document, body, route)


def also_read(query: bytes, **parts: Any) -> bytes:
    """What an app can read beside what is declared, in one form: it may be anything, also another picture.

    A body by value (order of keys and spaces are nobody's meaning; 1 and 1.0 are two), the query by the byte.
    """
    return orjson.dumps({"query": query.decode("latin-1"), **parts}, option=orjson.OPT_SORT_KEYS)


def at(value: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """Every value at `path`; `[]` stands for each element of a list."""
    if not path:
        yield value
    elif path[0] == "[]":
        for item in value if isinstance(value, list) else ():
            yield from at(item, path[1:])
    elif isinstance(value, Mapping) and path[0] in value:
        yield from at(value[path[0]], path[1:])


def _check_place(document: Any, path: tuple[str, ...], name: str) -> None:
    """What is decided is written back there, so it must be a place for a value: known before anything is reserved."""
    for key in path[:-1]:
        document = document.get(key, {})
        if not isinstance(document, dict):
            raise InvalidRequest(f"`{'.'.join(path)}` is no place for a value", param=name)


def _set(changes: Inside, path: tuple[str, ...], value: Any) -> None:
    for key in path[:-1]:
        changes = changes.setdefault(key, Inside())
    changes[path[-1]] = value

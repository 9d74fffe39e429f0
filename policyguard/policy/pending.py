"""What is never accepted as a wish: keys that the engine does not enforce yet, and keys without a value.

Each entry is taken out of the values after it is reported, so that the rest of the file is checked as usual.
"""

from __future__ import annotations

from typing import Any

from policyguard.policy.source import Source, YAMLPath
from policyguard.text.suggest import shown


def report_pending(source: Source) -> None:
    """Report and remove every key and value that is not enforced yet."""
    data = source.data
    for index, route in enumerate(_list(data.get("routes"))):
        _key(source, route, ("routes", index), "inner")


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _key(source: Source, data: Any, path: YAMLPath, key: str) -> None:
    if isinstance(data, dict) and key in data:
        source.problem((*path, key), "PG210", f"`{key}` is not enforced yet", key=True)
        del data[key]


def report_empty(source: Source) -> frozenset[YAMLPath]:
    """Report and remove every key without a value: a limit that was left half-written must not mean no limit."""
    if not source.has_empty:
        return frozenset()
    found: list[YAMLPath] = []
    source.data = _filled(source, source.data, (), found)
    return frozenset(found)


def _filled(source: Source, value: Any, path: YAMLPath, found: list[YAMLPath]) -> Any:
    if isinstance(value, list):
        return [_filled(source, item, (*path, index), found) for index, item in enumerate(value)]
    if not isinstance(value, dict):
        return value
    for key in [key for key, item in value.items() if item is None]:
        found.append((*path, key))
        hint = "write a space after the `:`" if ":" in key else "write one, or leave the key out"
        source.problem((*path, key), "PG203", f"{shown(key)} has no value", hint, key=True)
    return {key: _filled(source, item, (*path, key), found) for key, item in value.items() if item is not None}

"""Defaults and limits: what a surface says, else the default, and never beyond the organisation's limits.

Sections are flattened to leaves, so that one table says how each value is met. A value that a surface *names* beyond a
limit is an error with both places; one that it got by default is brought to the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from policyguard.decision import Place
from policyguard.policy import units
from policyguard.policy.source import Path, Source
from policyguard.request import CATEGORIES, parse_size

SECTIONS = ("request", "moderation", "review", "audit")


@dataclass(frozen=True, slots=True)
class Leaf:
    """One value with its place. `named`: the surface's own file says it, at `path`."""

    value: Any
    place: Place
    path: Path = ()
    named: bool = False


Leaves = dict[Path, Leaf]


def leaves(source: Source, base: Path = (), *, named: bool = False) -> Leaves:
    """The leaves of the sections below `base` of a file."""
    data = source.data
    for part in base:
        data = data.get(part) or {}
    found: Leaves = {}
    for section in SECTIONS:
        for path, value in _flat(data.get(section), (section,)):
            whole = (*base, *path)
            mark = source.mark(whole)
            found[path] = Leaf(value, Place(source.file, mark.line, mark.column), whole, named)
    return found


def _flat(value: Any, path: Path) -> Iterator[tuple[Path, Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from _flat(item, (*path, key))
    elif value is not None:
        yield path, value


# ---- how values meet --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Meeting:
    """`strict(a, b)` is the stricter one; `beyond(value, limit)` says whether a value is looser than the limit."""

    strict: Callable[[Any, Any], Any]
    beyond: Callable[[Any, Any], bool]


def _intersect(a: list[Any], b: list[Any]) -> list[Any]:
    return [item for item in a if item in b]


def _unite(a: list[Any], b: list[Any]) -> list[Any]:
    return [*a, *(item for item in b if item not in a)]


def _by(read: Callable[[Any], Any]) -> Meeting:
    return Meeting(lambda a, b: min(a, b, key=read), lambda value, limit: read(value) > read(limit))


_LISTED = Meeting(_intersect, lambda value, limit: any(item not in limit for item in value))
_SMALLER = _by(lambda value: value)
_UNION = Meeting(_unite, lambda value, limit: False)
_MEETINGS: Mapping[Path, Meeting] = {
    ("request", "models", "allow"): _LISTED,
    ("request", "sizes", "allow"): _LISTED,
    ("request", "sizes", "max_pixels"): _SMALLER,
    ("request", "sizes", "max_edge"): _SMALLER,
    ("request", "quality", "allow"): _LISTED,
    ("request", "n", "max"): _SMALLER,
    ("request", "formats", "allow"): _LISTED,
    ("request", "prompt", "max_chars"): _SMALLER,
    ("request", "input_images", "max"): _SMALLER,
    ("request", "input_images", "max_bytes"): _by(units.size_in_bytes),
    ("request", "partial_images", "max"): _SMALLER,
    ("request", "moderation"): _SMALLER,  # there is one value
    ("moderation", "check"): _UNION,
    ("moderation", "when_unavailable"): _SMALLER,  # deny comes before review
    ("review", "required"): Meeting(lambda a, b: a or b, lambda value, limit: limit and not value),
    ("review", "approvals"): Meeting(max, lambda value, limit: value < limit),
    ("review", "expires"): _by(units.duration),
    **{("moderation", at, c): _SMALLER for at in ("deny_at", "review_at") for c in (*CATEGORIES, "default")},
}


def together(limits: list[Leaves]) -> Leaves:
    """Several sets of limits as one: the strictest of each."""
    result: Leaves = {}
    for more in limits:
        for path, leaf in more.items():
            result[path] = _stricter(path, result[path], leaf) if path in result else leaf
    return result


def _stricter(path: Path, a: Leaf, b: Leaf) -> Leaf:
    value = _MEETINGS[path].strict(a.value, b.value)
    return Leaf(value, b.place if value == b.value else a.place, b.path if value == b.value else a.path)


# ---- the effective values ---------------------------------------------------------------------------------


def effective(source: Source, default: Leaves, limit: Leaves) -> Leaves:
    """A surface's values within the limits. Problems go to `source`, the surface's file."""
    result = {**default, **leaves(source, named=True)}
    for path, bound in limit.items():
        if _at(path) and path[-1] != "default":
            continue  # thresholds of single categories are met when all thirteen are known
        leaf = result.get(path)
        if leaf is None:
            result[path] = bound
        elif leaf.named and _MEETINGS[path].beyond(leaf.value, bound.value):
            _beyond(source, leaf, bound)
        else:
            result[path] = _met(path, leaf, bound, source)
    _sizes_within(source, result)
    return result


def _at(path: Path) -> bool:
    return path[:2] in (("moderation", "deny_at"), ("moderation", "review_at"))


def _met(path: Path, leaf: Leaf, bound: Leaf, source: Source) -> Leaf:
    value = _MEETINGS[path].strict(leaf.value, bound.value)
    if value == [] and leaf.value:
        source.problem(path, "PG302", f"nothing of `{'.'.join(map(str, path))}` is within the limit of {bound.place}")
    place = leaf.place if value == leaf.value else bound.place
    return Leaf(value, place, leaf.path, leaf.named and value == leaf.value)


def _beyond(source: Source, leaf: Leaf, bound: Leaf) -> None:
    limit = ", ".join(map(str, bound.value)) if isinstance(bound.value, list) else bound.value
    source.problem(leaf.path, "PG301", f"beyond the organisation's limit, {limit} ({bound.place})")


def _sizes_within(source: Source, result: Leaves) -> None:
    """Listed sizes against the bounds in pixels: a named one beyond them is an error, a default one is dropped."""
    listed = result.get(("request", "sizes", "allow"))
    if listed is None:
        return
    for key, measure in (("max_pixels", "pixels"), ("max_edge", "edge")):
        bound = result.get(("request", "sizes", key))
        if bound is None:
            continue
        for index, text in enumerate(listed.value):
            size = parse_size(text)
            if size is not None and getattr(size, measure) > bound.value and listed.named:
                path = (*listed.path, index)
                source.problem(path, "PG301", f"`{text}` is beyond {key} {bound.value:,} ({bound.place})")


def thresholds(
    source: Source, result: Leaves, limit: Leaves, at: str, fallback: float | None
) -> dict[str, tuple[float, Place]]:
    """The threshold of each category that has one, within the limits. `default` covers what is not named."""
    found: dict[str, tuple[float, Place]] = {}
    for category in CATEGORIES:
        leaf = result.get(("moderation", at, category)) or result.get(("moderation", at, "default"))
        bound = limit.get(("moderation", at, category)) or limit.get(("moderation", at, "default"))
        if leaf is not None and bound is not None and leaf.value > bound.value:
            if leaf.named and leaf.path[-1] == category:
                _beyond(source, leaf, bound)
            leaf = bound
        chosen = leaf or bound
        if chosen is not None:
            found[category] = (float(chosen.value), chosen.place)
        elif fallback is not None:
            found[category] = (fallback, Place(source.file, 1))
    return found

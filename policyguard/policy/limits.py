"""Defaults and limits: what a surface says, else the default, and never beyond the organisation's limits.

Sections are flattened to leaves, so that one table says how each value is met. A value that a surface *names* beyond a
limit is an error with both places; one that it got by default is brought to the limit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from policyguard.decision import Place
from policyguard.policy import units
from policyguard.policy.source import Source, Spot, YAMLPath
from policyguard.request import CATEGORIES, parse_size

SECTIONS = ("request", "moderation", "review", "audit")
THRESHOLDS = ("deny_at", "review_at")


class WrittenValue(NamedTuple):
    """One value, its place, and the path at which `file` says it. `named`: the surface's own file does."""

    value: Any
    place: Place
    path: YAMLPath = ()
    named: bool = False


WrittenValues = dict[YAMLPath, WrittenValue]

# What holds where neither a surface nor org.yaml says anything. A limit is never a grant: without these, an
# organisation that only limits n to 4 would give 4 to everybody.
BUILT_IN: Mapping[YAMLPath, Any] = {
    ("request", "n", "max"): 1,
    ("request", "partial_images", "max"): 0,
    ("request", "input_images", "max_pixels"): 50_000_000,  # a telephone's picture
    ("request", "responses", "models"): [],
    ("moderation", "check"): ["prompt", "input_images"],
    ("moderation", "deny_at", "default"): 0.50,
    ("moderation", "when_unavailable"): "deny",
    ("review", "approvals"): 1,
    ("review", "expires"): "24h",
}


def leaves(source: Source, base: YAMLPath = (), *, named: bool = False) -> WrittenValues:
    """The leaves of the sections below `base` of a file."""
    data, spot = source.data, source.spot
    for part in base:
        data = data.get(part) or {}
        spot = spot.below.get(part) if spot else None
    found: WrittenValues = {}
    for section in SECTIONS:
        if section in data and spot is not None:
            for path, value, start in _flat(data[section], spot.below[section], (section,)):
                found[path] = WrittenValue(
                    value, Place(source.file, start.line + 1, start.column + 1), (*base, *path), named
                )
    return found


def defaults(org: Source) -> WrittenValues:
    """The organisation's defaults, and what is built in where it has none."""
    built_in = {path: WrittenValue(value, Place(org.file, 1)) for path, value in BUILT_IN.items()}
    return {**built_in, **leaves(org, ("defaults",))}


def limits(org: Source, *parts: str) -> WrittenValues:
    """Several sets of limits of org.yaml as one: the strictest of each."""
    result: WrittenValues = {}
    for part in parts:
        for path, leaf in _covering(leaves(org, (part,))).items():
            result[path] = _stricter(path, result[path], leaf) if path in result else leaf
    _limit_hosts(result)
    return result


def _limit_hosts(found: WrittenValues) -> None:
    """An image that nobody here sees is within no bound, so where there is one it needs a limit that names its host."""
    bounds = [leaf for key in _SEEN if (leaf := found.get(("request", "input_images", key)))]
    if bounds:
        nowhere = min(bounds, key=lambda leaf: leaf.place)._replace(value=[])
        found.setdefault(("request", "input_images", "hosts"), nowhere)


_SEEN = ("max_bytes", "types", "max_pixels", "max_edge")  # what only the bytes of an image show


def _flat(value: Any, spot: Spot, path: YAMLPath) -> Iterator[tuple[YAMLPath, Any, Any]]:
    """Every value that is no mapping, with its path and where it starts."""
    if not isinstance(value, dict):
        yield path, value, spot.event.start_mark
        return
    for key, item in value.items():
        yield from _flat(item, spot.below[key], (*path, key))


def _covering(found: WrittenValues) -> WrittenValues:
    """A threshold for each category where there is a `default`: only so do several sets of limits meet."""
    for at in THRESHOLDS:
        default = found.get(("moderation", at, "default"))
        for category in CATEGORIES if default else ():
            found.setdefault(("moderation", at, category), default)  # type: ignore[arg-type]
    return found


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
MEETINGS: Mapping[YAMLPath, Meeting] = {
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
    ("request", "input_images", "types"): _LISTED,
    ("request", "input_images", "max_pixels"): _SMALLER,
    ("request", "input_images", "max_edge"): _SMALLER,
    ("request", "input_images", "hosts"): _LISTED,
    ("request", "partial_images", "max"): _SMALLER,
    ("request", "responses", "models"): _LISTED,
    ("request", "responses", "max_output_tokens"): _SMALLER,
    ("request", "moderation"): _SMALLER,  # there is one value
    ("moderation", "check"): _UNION,
    ("moderation", "when_unavailable"): _SMALLER,  # deny comes before review
    ("review", "required"): Meeting(lambda a, b: a or b, lambda value, limit: limit and not value),
    ("review", "hold"): _SMALLER,  # output comes before request
    ("review", "approvals"): Meeting(max, lambda value, limit: value < limit),
    ("review", "expires"): _by(units.duration),
    **{("moderation", at, c): _SMALLER for at in THRESHOLDS for c in (*CATEGORIES, "default")},
}


def _stricter(path: YAMLPath, a: WrittenValue, b: WrittenValue) -> WrittenValue:
    value = MEETINGS[path].strict(a.value, b.value)
    return WrittenValue(value, b.place if value == b.value else a.place, b.path if value == b.value else a.path)


# ---- the effective values ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Effective:
    """The values of one surface. A problem of a value goes to the file that says it."""

    source: Source
    org: Source
    values: WrittenValues
    limit: WrittenValues

    def problem(self, leaf: WrittenValue, code: str, message: str, hint: str = "", *, item: str | None = None) -> None:
        """A problem of a value, or of one item of a list, in the file that says it."""
        file = self.source if leaf.named else self.org
        listed = file.at(leaf.path)
        path = (*leaf.path, listed.index(item)) if isinstance(listed, list) and item in listed else leaf.path
        file.problem(path, code, message, hint)

    def get(self, *path: str) -> WrittenValue | None:
        return self.values.get(path)

    def value(self, *path: str) -> Any:
        leaf = self.values.get(path)
        return None if leaf is None else leaf.value


def effective(source: Source, org: Source, defaults: WrittenValues, limit: WrittenValues) -> Effective:
    """A surface's values, else the defaults, within the limits."""
    found = Effective(source, org, {**defaults, **leaves(source, named=True)}, limit)
    for path, bound in limit.items():
        leaf = found.values.get(path)
        if path[:1] == ("moderation",) and path[1] in THRESHOLDS:
            if leaf is not None and leaf.named and leaf.value > bound.value:
                _beyond(found, leaf, bound)  # they are met when all thirteen are known, by `thresholds`
        elif leaf is None:
            found.values[path] = bound
        elif leaf.named and MEETINGS[path].beyond(leaf.value, bound.value):
            _beyond(found, leaf, bound)
        else:
            found.values[path] = _met(found, path, leaf, bound)
    _sizes_within(found)
    return found


def _met(found: Effective, path: YAMLPath, leaf: WrittenValue, bound: WrittenValue) -> WrittenValue:
    value = MEETINGS[path].strict(leaf.value, bound.value)
    if value == leaf.value:
        return leaf
    if value == []:
        _nothing_left(found, leaf, bound)
    return leaf._replace(value=value, place=bound.place)


_NO_HOSTS = "what bounds input images there cannot see those of a host; `hosts` beside it would name the ones to trust"


def _nothing_left(found: Effective, leaf: WrittenValue, bound: WrittenValue) -> None:
    found.problem(leaf, "PG302", f"nothing of this list is within the limit of {bound.place}")


def _beyond(found: Effective, leaf: WrittenValue, bound: WrittenValue) -> None:
    if isinstance(bound.value, list):
        for item in leaf.value:
            if item not in bound.value:
                message = f"`{item}` is beyond the organisation's limit ({bound.place})"
                hint = f"the limit is {', '.join(bound.value)}" if bound.value else _NO_HOSTS
                found.problem(leaf, "PG301", message, hint, item=item)
        return
    limit = "true" if bound.value is True else bound.value
    found.problem(leaf, "PG301", f"beyond the organisation's limit, {limit} ({bound.place})")


def _sizes_within(found: Effective) -> None:
    """Listed sizes against the bounds in pixels: a named one beyond them is an error, a default one is dropped."""
    for key in ("max_pixels", "max_edge"):
        listed, bound = found.get("request", "sizes", "allow"), found.get("request", "sizes", key)
        if listed is None or bound is None or not listed.value:
            continue
        beyond = [text for text in listed.value if _is_beyond(text, key, bound.value)]
        if listed.named:
            _sizes_beyond(found, listed, bound, beyond, key)
        elif beyond:
            left = [text for text in listed.value if text not in beyond]
            found.values[("request", "sizes", "allow")] = listed._replace(value=left)
            if not left:
                _nothing_left(found, listed, bound)


def _is_beyond(text: str, key: str, bound: int) -> bool:
    """`auto` lets upstream choose, so it is within no bound."""
    size = parse_size(text)
    if size is None:
        return text == "auto"
    return (size.pixels if key == "max_pixels" else size.edge) > bound


def _sizes_beyond(found: Effective, listed: WrittenValue, bound: WrittenValue, beyond: list[str], key: str) -> None:
    code = "PG208" if bound.named else "PG301"
    for text in beyond:
        hint = "with `auto` upstream may choose any size" if text == "auto" else ""
        message = f"`{text}` is beyond {key} {bound.value:,} ({bound.place})"
        found.problem(listed, code, message, hint, item=text)


def _threshold(own: WrittenValue | None, default: WrittenValue | None) -> WrittenValue | None:
    """What is said of the category itself, else the default. A surface's default meets what the organisation says of
    the category: the stricter holds, so that neither is loosened by accident."""
    if own is None or default is None:
        return own or default
    if default.named and not own.named:
        return own if own.value < default.value else default
    return own


def thresholds(values: WrittenValues, limit: WrittenValues, at: str) -> dict[str, tuple[float, Place]]:
    """The threshold of each category that has one, within the limits. `default` covers what is not named."""
    found: dict[str, tuple[float, Place]] = {}
    default = values.get(("moderation", at, "default"))
    for category, path in _CATEGORY_PATHS[at]:
        leaf, bound = _threshold(values.get(path), default), limit.get(path)
        if bound is not None and (leaf is None or bound.value < leaf.value):
            leaf = bound
        if leaf is not None:
            found[category] = (float(leaf.value), leaf.place)
    return found


_CATEGORY_PATHS = {at: [(category, ("moderation", at, category)) for category in CATEGORIES] for at in THRESHOLDS}

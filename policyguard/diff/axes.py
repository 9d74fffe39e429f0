"""Values to try on two policies of one surface: what their tables list, both sides of every bound, and others.

Two values are alike where the atoms of all conditions and the tables of both sides make the same of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime, time, timedelta
from itertools import count
from math import isqrt
from typing import Any

from policyguard.diff.witness import SMALL, Pair, Ruling
from policyguard.policy.candidates import candidates
from policyguard.policy.critical import Axis, axes
from policyguard.policy.expr import CallerType, Environment
from policyguard.policy.expr.analysis import Atom
from policyguard.policy.expr.types import REQUEST
from policyguard.policy.model import RequestRules
from policyguard.policy.world import NO_IMAGES, Images, World, subject_of
from policyguard.pricing import price_book, size_problem
from policyguard.request import AUTO, CATEGORIES, IMAGE_CATEGORIES, MAX_EDGE, MAX_IMAGES, MAX_INPUT_IMAGES, parse_size

PRICED = frozenset({"model", "size", "quality"})  # what exists together, and what is brought down by price
_OF_PICTURES = ("image_bytes", "image_type", "image_size", "image_host")
_UNKNOWN = {"seed": 7}


def axes_of(pair: Pair, found: Sequence[Atom], base: World, subjects: frozenset[str]) -> tuple[Axis, ...]:
    """The axes of these subjects; their values are told apart by the atoms, and by what the tables make of them."""
    apart = _apart(pair)

    def alike(subject: str, value: Any) -> str:
        rulings = pair.rulings({**base, subject: value}, whole=True)
        seen = [value] if subject in apart else _existence(pair, subject, value)
        return repr([*(_signature(subject, ruling) for ruling in rulings), *seen])

    own = [atom for atom in found if any(subject_of(path) in subjects for path in atom.reads)]
    given = _given(pair, own, subjects)
    bounds = {name: values for name, values in bounds_of(pair).items() if name in subjects}
    bounds.update((name, []) for name in subjects - given.keys() - bounds.keys())
    return axes(own, environment(pair), base, given=given, bounds=bounds, alike=alike)


def adjusts(pair: Pair) -> bool:
    return any(policy.request.on_excess == "adjust" for _, policy in pair.both)


def checks_differ(pair: Pair) -> bool:
    """Whether one side looks at a part of a request that the other does not look at."""
    (a, b), (c, d) = ((policy.moderation, policy.limit_moderation) for _, policy in pair.both)
    before, after = (a.check | b.check, b.check), (c.check | d.check, d.check)
    return [part - {"output_images"} for part in before] != [part - {"output_images"} for part in after]


def _apart(pair: Pair) -> frozenset[str]:
    """Subjects whose values show what they do only beside those of others, and are therefore all kept."""
    scores = [f"scores.{category}" for category in CATEGORIES] if checks_differ(pair) else []
    return frozenset({"scored", *_OF_PICTURES, *(PRICED if adjusts(pair) else ()), *scores})


def _signature(subject: str, ruling: Ruling) -> Any:
    reasons = sorted((r.id, r.effect, r.mode) for r in ruling.reasons)
    return reasons, [a.given for a in ruling.adjustments if a.param == subject]


def _existence(pair: Pair, subject: str, value: Any) -> list[Any]:
    """What tells values apart beside one another: models of one family draw the same sizes, exemptions end."""
    if value is None:
        return [None]
    if subject == "model":
        row = price_book().models.get(value)
        return [row and row.family]
    if subject == "size":
        return [size_problem(name, value) is None for name in ("gpt-image-2", "gpt-image-1.5")]
    if subject == "now":
        return [value.date() > e.until for _, policy in pair.both for e in policy.exempt]
    if subject == "images":
        return [value.number > 0, value.has_mask]
    return [[value in row.qualities for row in price_book().models.values()]] if subject == "quality" else []


def environment(pair: Pair) -> Environment:
    """Every caller that one side knows. All may be absent: nobody is forced to say who they are."""
    names = dict.fromkeys(f.name for policies, _ in pair.both for f in policies.caller)
    asked = {question.name for _, policy in pair.both for question in policy.questions}
    return Environment({name: CallerType(optional=True) for name in names}, frozenset(asked))


def _given(pair: Pair, own: Sequence[Atom], subjects: frozenset[str]) -> dict[str, list[Any]]:
    """All values of those subjects that the tables of both sides and the API know."""
    return {name: read(pair, own) for name, read in _GIVEN.items() if name in subjects}


def _tables(pair: Pair) -> list[RequestRules]:
    return [table for _, policy in pair.both for table in (policy.request, policy.limits)]


def _images(pair: Pair, own: Sequence[Atom]) -> list[Any]:
    edits = (Images("edit", number, mask) for number in range(1, MAX_INPUT_IMAGES + 1) for mask in (False, True))
    return [NO_IMAGES, *edits]


def _image_bytes(pair: Pair, own: Sequence[Atom]) -> list[Any]:
    bounds = {table.max_input_bytes for table in _tables(pair)}
    return [SMALL, *sorted({bound + d for bound in bounds if bound is not None for d in (0, 1)})]


def _changed(pair: Pair, name: str) -> list[set[Any]]:
    """What each side's tables say of pictures, where they differ: else no picture tells them apart."""
    old, new = ([getattr(table, name) for table in (p.request, p.limits)] for _, p in pair.both)
    return [{value for value in side if value is not None} for side in (old, new)] if old != new else []


def _image_types(pair: Pair, own: Sequence[Atom]) -> list[Any]:
    return ["png", "jpeg", "webp"] if _changed(pair, "input_types") else ["png"]


def _image_sizes(pair: Pair, own: Sequence[Atom]) -> list[Any]:
    """On both sides of each bound: lines as long as it, and pictures of as many pixels."""
    edges = {edge + d for side in _changed(pair, "max_input_edge") for edge in side for d in (0, 1)}
    bounds = {bound for side in _changed(pair, "max_input_pixels") for bound in side}
    near = {_of_pixels(counts) for bound in bounds for counts in (count(bound, -1), count(bound + 1))}
    return [None, *sorted(f"{edge}x1" for edge in edges if edge <= MAX_EDGE), *sorted(near)]


def _of_pixels(counts: Iterator[int]) -> str:
    """The first of these counts of pixels that a picture can have, as square as can be."""
    for pixels in counts:
        width = next(width for width in range(isqrt(pixels), 0, -1) if pixels % width == 0)
        if pixels // width <= MAX_EDGE:
            break
    return f"{pixels // width}x{width}"


def _image_hosts(pair: Pair, own: Sequence[Atom]) -> list[Any]:
    named = sorted({host for side in _changed(pair, "input_hosts") for hosts in side for host in hosts})
    return [None, *named]


def _models(pair: Pair, own: Sequence[Atom]) -> list[Any]:
    book = price_book().models
    literals = {v for atom in own for v in atom.literals if isinstance(v, str) and v in book}
    named = [model for table in _tables(pair) for model in table.models or ()]
    usable = [name for name, row in book.items() if row.usable]
    return list(dict.fromkeys([None, *named, *usable, *sorted(literals)]))


def _sizes(pair: Pair, own: Sequence[Atom]) -> list[Any]:
    """What is listed, and some that are not; without lists, what lies on both sides of each bound and literal."""
    tables = _tables(pair)
    listed = [size for t in tables for size in (*(t.sizes or ()), t.default_size) if size is not None]
    of_size = [atom for atom in own if any(subject_of(path) == "size" for path in atom.reads)]
    is_listed = all(policy.request.sizes is not None and policy.mode == "enforce" for _, policy in pair.both)
    bounds = [] if is_listed else [size for t in tables for size in _around(t)]
    more = candidates("size", [] if is_listed else of_size, Environment({}), {"size": AUTO})
    return list(dict.fromkeys([None, *listed, *bounds, *more]))


def after_exemptions(pair: Pair) -> list[datetime]:
    """Noon of the last day of each exemption, and of the day after it, where that is still to come."""
    days = {e.until + timedelta(days=d) for _, policy in pair.both for e in policy.exempt for d in (0, 1)}
    noons = [datetime.combine(day, time(12), pair.now.tzinfo) for day in sorted(days)]
    return [noon for noon in noons if noon > pair.now]


def _around(table: RequestRules) -> Iterator[str]:
    """Legal sizes just within and just beyond the bounds of a table."""
    steps = range(16, 3841, 16)
    if table.max_edge is not None:
        yield from (f"{edge}x1024" for edge in steps if abs(edge - table.max_edge) <= 16)
    if table.max_pixels is not None:
        bound = table.max_pixels
        legal = [(w, h) for w in steps for h in {bound // w // 16 * 16, bound // w // 16 * 16 + 16} if 0 < h <= 3840]
        near = sorted(legal, key=lambda size: abs(size[0] * size[1] - bound))
        sizes = [f"{w}x{h}" for w, h in near if size_problem("gpt-image-2", f"{w}x{h}") is None]
        within = [size for size in sizes if _pixels(size) <= bound]
        yield from (*within[:2], *[size for size in sizes if _pixels(size) > bound][:2])


def _pixels(text: str) -> int:
    size = parse_size(text)
    return size.pixels if size else 0


def bounds_of(pair: Pair) -> dict[str, list[Any]]:
    """Thresholds, lengths of prompts, declared caller values, ends of exemptions."""
    found: dict[str, list[Any]] = {"scores": [], "output": [], "prompt": [], "now": after_exemptions(pair)}
    for policies, policy in pair.both:
        for rules in (policy.moderation, policy.limit_moderation):
            for threshold in (*rules.deny_at, *rules.review_at):
                found.setdefault(f"scores.{threshold.category}", []).append(threshold.at)
                if threshold.category in IMAGE_CATEGORIES:
                    found.setdefault(f"output.{threshold.category}", []).append(threshold.at)
        found["prompt"] += [t.max_prompt_chars for t in (policy.request, policy.limits) if t.max_prompt_chars]
        for f in policies.caller:
            found.setdefault(f"caller.{f.name}", []).extend(f.values)
    return found


_GIVEN: Mapping[str, Callable[[Pair, Sequence[Atom]], list[Any]]] = {
    "model": _models,
    "size": _sizes,
    "images": _images,
    "image_bytes": _image_bytes,
    "image_type": _image_types,
    "image_size": _image_sizes,
    "image_host": _image_hosts,
    "quality": lambda pair, own: [None, *REQUEST["quality"].values],
    "n": lambda pair, own: [None, *range(1, MAX_IMAGES + 1)],
    "output_format": lambda pair, own: [None, *REQUEST["output_format"].values],
    "partial_images": lambda pair, own: [None, 0, 1, 2, 3],
    "extra": lambda pair, own: [{}, _UNKNOWN],
    "scored": lambda pair, own: ["prompt", "image"],
    "surface": lambda pair, own: [pair.new.surface],
}

"""What a change of policies does to decisions: per surface what loosened, what tightened, and a request that shows it.

Differences of decisions are found by trying both policies at their critical points (`space`); what no single
request shows, budgets for example, is compared by its values (`values`). Pure: time is an argument.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, Literal

from policyguard.decision import Effect, Place
from policyguard.diff import values
from policyguard.diff.space import Space, space
from policyguard.diff.values import Change, Direction
from policyguard.diff.witness import Pair, Ruling, Side
from policyguard.engine.fit import QUALITY_RANK
from policyguard.policy.model import Policy
from policyguard.policy.world import World
from policyguard.request import CATEGORIES, parse_size

CASES = 20_000  # of one surface: two or three seconds
Status = Literal["added", "removed", "changed", "unchanged"]


@dataclass(frozen=True, slots=True)
class Witness:
    """One request that the two sides decide differently, and how."""

    world: World = field(repr=False)
    old: Ruling = field(repr=False)
    new: Ruling = field(repr=False)


@dataclass(frozen=True, slots=True)
class Difference:
    """One kind of different decisions: `old -> new`, for the same reasons. `cases` of those tried differ like this.

    The reasons are those that decide the witness. `upstream` says what else would be sent where both sides let it
    through: the parameter, the old and the new value. The places are where each side speaks of it, also where it lets
    the witness through.
    """

    direction: Direction
    old: str
    new: str
    old_reasons: tuple[tuple[str, Place | None], ...]
    new_reasons: tuple[tuple[str, Place | None], ...]
    upstream: tuple[tuple[str, str, str], ...]
    cases: int
    witness: Witness
    old_place: Place | None
    new_place: Place | None


@dataclass(frozen=True, slots=True)
class SurfaceDiff:
    """One surface. `tried` cases were decided by both sides; `exact`: what was not found does not exist."""

    surface: str
    status: Status
    findings: tuple[Difference, ...] = ()
    changes: tuple[Change, ...] = ()
    tried: int = 0
    exact: bool = True
    place: Place | None = None

    def directions(self) -> set[Direction]:
        return {f.direction for f in self.findings} | {c.direction for c in self.changes}


@dataclass(frozen=True, slots=True)
class PolicyDiff:
    """Two sets of policies. `organisation` holds what `org.yaml` says of all surfaces together."""

    old: Side
    new: Side
    now: datetime
    surfaces: tuple[SurfaceDiff, ...]
    organisation: tuple[Change, ...]

    def directions(self) -> set[Direction]:
        return {change.direction for change in self.organisation}.union(*(s.directions() for s in self.surfaces))


def diff(
    old: Side, new: Side, now: datetime, *, limit: int = CASES, progress: Callable[[int, int], None] | None = None
) -> PolicyDiff:
    """Compare two sets of policies as they decide at `now` (aware UTC).

    `limit` bounds the cases of one surface; beyond it they are a sample. `progress` hears how many are compared.
    """
    names = sorted(old.policies.surfaces.keys() | new.policies.surfaces.keys())
    found = []
    for done, name in enumerate(names, start=1):
        found.append(_surface(name, old, new, now, limit))
        if progress is not None:
            progress(done, len(names))
    return PolicyDiff(old, new, now, tuple(found), values.organisation(old, new))


def _surface(name: str, old: Side, new: Side, now: datetime, limit: int) -> SurfaceDiff:
    before, after = old.policies.surfaces.get(name), new.policies.surfaces.get(name)
    if before is None or after is None:
        return _whole(name, before, after, old, new)
    pair = Pair(old.policies, new.policies, before, after, now)
    if before.digest == after.digest:  # no decision can differ, and what people read may
        changes = values.surface(pair, old, new, set())
        return SurfaceDiff(name, "changed" if changes else "unchanged", changes=changes, place=new.shown(after.place))
    where = space(pair, limit)
    findings, tried = _findings(pair, where, old, new)
    shown = {name for f in findings for name, _ in (*f.old_reasons, *f.new_reasons)}
    changes = values.surface(pair, old, new, shown)
    if not findings and not changes:
        places = (old.shown(before.place), new.shown(after.place))
        changes = (Change("neutral", "its meaning changed, without an effect on decisions", *places),)
    return SurfaceDiff(name, "changed", findings, changes, tried, where.exact, new.shown(after.place))


def _whole(name: str, before: Policy | None, after: Policy | None, old: Side, new: Side) -> SurfaceDiff:
    if after is not None:
        return SurfaceDiff(name, "added", changes=values.added(after, new, old))
    return SurfaceDiff(name, "removed", changes=values.removed(before, old, new) if before else ())


# ---- different decisions ----------------------------------------------------------------------------------

DifferenceKey = tuple[Direction, str, str, frozenset[str]]


@dataclass(slots=True)
class _DifferenceGroup:
    """One kind of difference while cases are tried: the nearest to the base is kept."""

    cases: int
    distance: int
    witness: Witness


def _findings(pair: Pair, where: Space, old: Side, new: Side) -> tuple[tuple[Difference, ...], int]:
    found: dict[DifferenceKey, _DifferenceGroup] = {}
    tried = 0
    for world in where.cases():
        tried += 1
        before, after = pair.rulings(world)
        for direction in directions(before, after):
            key = (direction, before.effect.word, after.effect.word, _cause(before, after))
            distance = sum(value != where.base.get(subject, 0.0) for subject, value in world.items())
            kind = found.setdefault(key, _DifferenceGroup(0, distance, Witness(world, before, after)))
            kind.cases += 1
            if distance < kind.distance:
                kind.distance, kind.witness = distance, Witness(world, before, after)
    shown = [_finding(pair, key, found[key], old, new) for key in _simplest(found)]
    return tuple(_merged(shown)), tried


def _merged(findings: Iterable[Difference]) -> list[Difference]:
    """Thresholds of the same line, as one for many categories is, are one finding."""
    merged: dict[Any, Difference] = {}
    for one in findings:
        reasons = (*one.old_reasons, *one.new_reasons)
        is_threshold = all(name.removeprefix("moderation.") in CATEGORIES for name, _ in reasons)
        places = tuple(place for _, place in reasons)
        key = (one.direction, one.old, one.new, places) if reasons and is_threshold else len(merged)
        first = merged.get(key)
        if first is None:
            merged[key] = one
            continue
        merged[key] = replace(
            first,
            old_reasons=tuple(dict.fromkeys((*first.old_reasons, *one.old_reasons))),
            new_reasons=tuple(dict.fromkeys((*first.new_reasons, *one.new_reasons))),
            cases=first.cases + one.cases,
        )
    return list(merged.values())


def directions(old: Ruling, new: Ruling) -> set[Direction]:
    """Whether a request is treated less or more strictly. Where both let it through, what goes upstream counts."""
    if old.effect != new.effect:
        return {"loosened" if new.effect < old.effect else "tightened"}
    if old.effect is Effect.DENY:
        return set()
    more = {_more(name, getattr(old.request, name), getattr(new.request, name)) for name in _UPSTREAM}
    sides: set[Direction] = {"loosened" for one in more if one > 0}
    sides |= {"tightened" for one in more if one < 0}
    return sides or _by_price(old, new)


_UPSTREAM = ("n", "size", "quality")
_SENT = ("model", *_UPSTREAM, "partial_images")


def _more(name: str, old: str | int | None, new: str | int | None) -> int:
    """Above 0 where the new value is larger, below 0 where it is smaller, 0 where that is not known."""
    if name == "n":
        a, b = int(old or 1), int(new or 1)
    elif name == "quality":
        a, b = (QUALITY_RANK.get(str(value), -1) for value in (old, new))
        if -1 in (a, b):
            return 0
    else:
        sizes = [parse_size(str(value)) for value in (old, new)]
        if None in sizes:
            return 0
        a, b = (size.pixels if size else 0 for size in sizes)
    return b - a


def _by_price(old: Ruling, new: Ruling) -> set[Direction]:
    """Another model, or `auto`, goes by what it costs at most."""
    if old.request == new.request or old.quote is None or new.quote is None:
        return set()
    if old.quote.ceiling_micros == new.quote.ceiling_micros:
        return {"neutral"}
    return {"loosened" if new.quote.ceiling_micros > old.quote.ceiling_micros else "tightened"}


def _cause(old: Ruling, new: Ruling) -> frozenset[str]:
    """What makes the difference: the reasons of the stronger side above the weaker one, or what goes upstream."""
    if old.effect != new.effect:
        return frozenset(r.id for side in (old, new) for r in side.above(min(old.effect, new.effect)))
    return frozenset(name for name in _SENT if getattr(old.request, name) != getattr(new.request, name))


def _simplest(found: Iterable[DifferenceKey]) -> Iterator[DifferenceKey]:
    """Without those whose cause holds the cause of another: two changes at once show nothing that one did not."""
    keys = sorted(found, key=lambda k: (_ORDER[k[0]], len(k[3]), sorted(k[3])))
    return (key for key in keys if not any(other[:3] == key[:3] and other[3] < key[3] for other in keys))


_ORDER = {"loosened": 0, "tightened": 1, "neutral": 2}


def _finding(pair: Pair, key: DifferenceKey, kind: _DifferenceGroup, old: Side, new: Side) -> Difference:
    direction, before, after, cause = key
    seen = kind.witness
    upstream: tuple[tuple[str, str, str], ...] = ()
    if seen.old.effect == seen.new.effect:
        sent = ((name, getattr(seen.old.request, name), getattr(seen.new.request, name)) for name in _SENT)
        upstream = tuple((name, str(a), str(b)) for name, a, b in sent if a != b)
    deciding = (_deciding(old, seen.old), _deciding(new, seen.new))
    places = (_place(pair.old, old, deciding[0], cause), _place(pair.new, new, deciding[1], cause))
    return Difference(direction, before, after, *deciding, upstream, kind.cases, seen, *places)


def _deciding(side: Side, ruling: Ruling) -> tuple[tuple[str, Place | None], ...]:
    reasons = ruling.above(Effect(max(ruling.effect - 1, 0)))
    return tuple((reason.id, side.shown(reason.place)) for reason in reasons)


def _place(
    policy: Policy, side: Side, deciding: tuple[tuple[str, Place | None], ...], cause: frozenset[str]
) -> Place | None:
    """Where the policy speaks of what makes the difference."""
    known = {rule.id: rule.place for rule in policy.rules}
    known |= {f"moderation.{t.category}": t.place for t in (*policy.moderation.deny_at, *policy.moderation.review_at)}
    for name, place in policy.request.places.items():
        known |= {name: place, f"request.{name}": place}
    there = [place for name, place in deciding if name in cause and place]
    return next(iter([*there, *(side.shown(known[name]) for name in sorted(cause) if name in known)]), None)

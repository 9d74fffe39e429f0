"""Critical points of conditions: the fewest inputs that show everything that conditions can tell apart.

Two values of a subject are alike where every atom gives the same for both, so one of them is enough. Where each atom
compares one value with literals the points are exact; for anything else (two values with each other, arithmetic,
patterns, loops) they are a sample, unless every combination of results was found.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from itertools import product
from math import gcd, prod
from typing import Any

from policyguard.policy.candidates import candidates, finite
from policyguard.policy.expr import Environment
from policyguard.policy.expr.analysis import Atom
from policyguard.policy.expr.types import SCORED
from policyguard.policy.world import NOON, World, inputs, plain_world, subject_of

LIMIT = 20_000
_MAX_ENTANGLED = 12  # of a subject that is compared with another one


@dataclass(frozen=True, slots=True)
class Axis:
    """The values of one subject that are worth trying, the plainest first. `exact`: no other value differs."""

    subject: str
    values: tuple[Any, ...]
    exact: bool


@dataclass(frozen=True, slots=True)
class Cases:
    """Worlds to try: all combinations of the axes, or, beyond the limit, a sample spread over them."""

    base: World
    axes: tuple[Axis, ...]
    limit: int = LIMIT

    @property
    def total(self) -> int:
        return prod(len(axis.values) for axis in self.axes)

    @property
    def exact(self) -> bool:
        return self.total <= self.limit and all(axis.exact for axis in self.axes)

    def __iter__(self) -> Iterator[World]:
        """The base first, then one change at a time, where not all can be tried."""
        if self.total <= self.limit:
            for values in product(*(axis.values for axis in self.axes)):
                yield self._world(values)
            return
        first = self._world([axis.values[0] for axis in self.axes])
        for axis in self.axes:
            yield from ({**first, axis.subject: value} for value in axis.values)
        step = _coprime(self.total)
        for index in range(self.limit):
            yield self._world(self._values(index * step % self.total))

    def _world(self, values: Sequence[Any]) -> World:
        return {**self.base, **{axis.subject: value for axis, value in zip(self.axes, values, strict=True)}}

    def _values(self, index: int) -> list[Any]:
        """The combination of that number."""
        found = []
        for axis in self.axes:
            index, digit = divmod(index, len(axis.values))
            found.append(axis.values[digit])
        return found


def _coprime(total: int) -> int:
    """A stride that visits each number below `total` once, far from the last one."""
    step = int(total * 0.6180339887) | 1
    while gcd(step, total) != 1:
        step += 2
    return step


# ---- axes -------------------------------------------------------------------------------------------------

Alike = Callable[[str, Any], Any]


def axes(
    found: Sequence[Atom],
    environment: Environment,
    base: World,
    *,
    given: Mapping[str, Sequence[Any]] | None = None,
    bounds: Mapping[str, Sequence[Any]] | None = None,
    alike: Alike | None = None,
) -> tuple[Axis, ...]:
    """The axes of all subjects that the atoms read, and of all that `given` and `bounds` name.

    `given` are all the values that a subject can have, `bounds` are numbers that matter beside the literals; what
    `alike(subject, value)` gives tells values apart, too. A loop over scores and a test of one of them are not
    independent, so together they are a sample.
    """
    every, more = given or {}, bounds or {}
    subjects = sorted({subject_of(path) for atom in found for path in atom.reads} | every.keys() | more.keys())
    singly = {root for root in SCORED if any(subject.startswith(f"{root}.") for subject in subjects)}
    made = []
    for subject in subjects:
        own = [atom for atom in found if subject in _subjects(atom)]
        tried, whole = every.get(subject), True
        if tried is None:
            whole = finite(subject, environment) is not None
            tried = candidates(subject, own, environment, base, more.get(subject, ()))
        if whole and base.get(subject) in tried:
            tried = [base[subject], *(value for value in tried if value != base[subject])]
        one = _axis(subject, tried, own, base, whole, alike)
        root = subject.partition(".")[0]
        loops = root in singly and any(root in atom.reads for atom in found)
        made.append(replace(one, exact=one.exact and not loops))
    return tuple(made)


def _axis(
    subject: str, tried: Sequence[Any], own: Sequence[Atom], base: World, whole: bool, alike: Alike | None
) -> Axis:
    """One value for each combination of results of the atoms that read this subject."""
    alone = [atom for atom in own if len(_subjects(atom)) == 1]
    classes: dict[Any, Any] = {}
    for value in tried:
        world = inputs({**base, subject: value}) if alone else {}
        results = tuple(atom(world) for atom in alone)
        classes.setdefault((results, alike(subject, value) if alike else None), value)
    chosen = list(classes.values())
    if len(alone) == len(own):
        return Axis(subject, tuple(chosen), whole or _is_exact(alone, classes))
    return _entangled(subject, tried, chosen, whole)


def _subjects(atom: Atom) -> frozenset[str]:
    return frozenset(map(subject_of, atom.reads))


def _entangled(subject: str, tried: Sequence[Any], chosen: list[Any], whole: bool) -> Axis:
    """An atom compares this subject with another one, so that every value counts."""
    if whole:
        return Axis(subject, tuple(tried), True)
    more = [value for value in tried[:_MAX_ENTANGLED] if value not in chosen]
    return Axis(subject, (*chosen, *more), False)


def _is_exact(alone: Sequence[Atom], classes: Mapping[Any, Any]) -> bool:
    """Every atom is direct, or every combination of true and false was found, beside whatever else tells apart."""
    if all(atom.direct for atom in alone) and _one_clock(alone):
        return True
    plain: dict[Any, int] = {}
    for results, other in classes:
        plain[other] = plain.get(other, 0) + all(one in ("true", "false") for one in results)
    return all(count == 1 << len(alone) for count in plain.values())


def _one_clock(alone: Sequence[Atom]) -> bool:
    """Whether the parts of `now` vary independently: one part, or hours and days of the week in one zone."""
    parts = {part for atom in alone for part in atom.parts}
    names, zones = {name for name, _ in parts}, {zone for _, zone in parts}
    if any(isinstance(literal, datetime) for atom in alone for literal in atom.literals):
        return not parts
    return len(zones) <= 1 and (len(names) <= 1 or names == {".getHours", ".getDayOfWeek"})


def cases(
    found: Sequence[Atom],
    environment: Environment,
    *,
    given: Mapping[str, Sequence[Any]] | None = None,
    now: datetime = NOON,
    limit: int = LIMIT,
) -> Cases:
    """The worlds that these atoms tell apart."""
    base = plain_world(environment, now)
    first = {subject: values[0] for subject, values in (given or {}).items()}
    base = {**base, **first}
    return Cases(base, axes(found, environment, base, given=given), limit)

"""What conditions give for the requests that a surface admits, by their critical points.

What is admitted is itself written as conditions and as lists of all values. The lists that are used here may hold more
than is admitted, never less: only so is what they rule out certain.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from policyguard import pricing
from policyguard.decision import Place
from policyguard.policy.critical import cases
from policyguard.policy.expr import Environment, ExpressionErrors
from policyguard.policy.expr.analysis import ConditionTree, atoms, result, tree
from policyguard.policy.meaning import canonical
from policyguard.policy.model import Policy, RequestRules
from policyguard.policy.world import NO_IMAGES, Images, inputs, subject_of
from policyguard.request import AUTO, MAX_IMAGES, MAX_INPUT_IMAGES

LIMIT = 4_000  # worlds of one condition
_FURTHER = "a surface to come"  # a rule of the organisation is for it, too
MAX_WORK = 600  # on one file, about milliseconds; in a file with hundreds of rules the last ones are not tried
_WORK = {"request.pixels": 25, "request.width": 25, "request.height": 25, "now": 10}  # many values to try; else 1


@dataclass(frozen=True, slots=True)
class Bound:
    """One thing that holds for every admitted request: all `values` of a subject, or a condition over it."""

    subject: str
    says: str
    place: Place | None
    values: tuple[Any, ...] = ()
    condition: str = ""

    @property
    def where(self) -> str:
        return f"{self.says} ({self.place})" if self.place else self.says


@dataclass(slots=True)
class Trials:
    """Tries conditions, each set of texts and bounds once. `surfaces` are all that there are, `left` is of one file."""

    environment: Environment
    surfaces: tuple[str, ...]
    left: int = MAX_WORK
    known: dict[Any, frozenset[str]] = field(default_factory=dict)

    def results(self, condition: str, bounds: Sequence[Bound] = (), surface: str | None = None) -> frozenset[str]:
        """What a condition can give: `true`, `false`, `error`. Empty where that is not certain."""
        key = (canonical(condition), tuple((b.subject, b.values, b.condition) for b in bounds), surface)
        if key not in self.known:
            if self.left <= 0:
                return frozenset()
            self.known[key] = self._tried(condition, bounds, surface)
        return self.known[key]

    def _tried(self, condition: str, bounds: Sequence[Bound], surface: str | None) -> frozenset[str]:
        admitted = " && ".join(f"({bound.condition})" for bound in bounds if bound.condition) or "true"
        given: dict[str, Sequence[Any]] = {bound.subject: bound.values for bound in bounds if bound.values}
        given["surface"] = (surface,) if surface else (*self.surfaces, _FURTHER)
        try:
            whole = tree(f"({condition}\n) && ({admitted})", self.environment)
            alone, within = tree(condition, self.environment), tree(admitted, self.environment)
        except ExpressionErrors:
            return frozenset()  # too large together
        return self._walked(alone, within, whole, given)

    def _walked(
        self, alone: ConditionTree, within: ConditionTree, whole: ConditionTree, given: Mapping[str, Sequence[Any]]
    ) -> frozenset[str]:
        parts = atoms(whole)
        self.left -= max((_WORK.get(path, 1) for part in parts for path in part.reads), default=1)
        found = cases(parts, self.environment, given=given, limit=LIMIT)
        seen: set[str] = set()
        for world in found if found.exact else ():
            read = inputs(world)
            if result(within, read) == "true":
                seen.add(result(alone, read))
            if {"true", "false"} <= seen:
                break  # it can be both: there is nothing to say
        return frozenset(seen - {"unavailable"})


# ---- what a surface admits --------------------------------------------------------------------------------


def bounds_of(policy: Policy, reads: frozenset[str]) -> list[Bound]:
    """What holds for the admitted requests of a surface, as far as a condition with these `reads` can see it.

    A surface in shadow enforces nothing of its own; the organisation's limits remain.
    """
    enforced = policy.mode == "enforce"
    rules = policy.request if enforced else policy.limits
    moderation = policy.moderation if enforced else policy.limit_moderation
    subjects = {subject_of(path) for path in reads}
    found = [bound for bound in _of_request(rules, listed_only=enforced) if bound.subject in subjects]
    for threshold in moderation.deny_at:
        name = f"scores.{threshold.category}"
        if name in reads and 0 < threshold.at <= 1:
            says = f"moderation denies `{threshold.category}` from {threshold.at:g} on"
            condition = f'scores["{threshold.category}"] < {float(threshold.at)!r}'
            found.append(Bound(name, says, threshold.place, condition=condition))
    return found


def _of_request(rules: RequestRules, *, listed_only: bool) -> Iterator[Bound]:
    """`listed_only`: of a surface, where `auto` counts only if it is listed."""
    at = rules.places.get
    if rules.models is not None:
        yield Bound("model", f"only {_listed(rules.models)} may be asked for", at("model"), rules.models)
    qualities = _qualities(rules, listed_only=listed_only)
    if qualities:
        yield Bound("quality", f"only {_listed(qualities)} may be asked for", at("quality"), qualities)
    if rules.sizes is not None:
        yield Bound("size", f"only {_listed(rules.sizes)} may be asked for", at("size"), rules.sizes)
    if rules.max_pixels is not None:
        says = f"pictures have at most {rules.max_pixels:,} pixels"
        yield Bound("size", says, at("size"), condition=f"request.pixels <= {rules.max_pixels}")
    if rules.max_edge is not None:
        edge, says = rules.max_edge, f"the longer edge has at most {rules.max_edge:,} pixels"
        yield Bound("size", says, at("size"), condition=f"request.width <= {edge} && request.height <= {edge}")
    if rules.max_n is not None:
        values = tuple(range(1, min(rules.max_n, MAX_IMAGES) + 1))
        yield Bound("n", f"n is at most {rules.max_n}", at("n"), values)
    if rules.formats is not None:
        yield Bound(
            "output_format", f"only {_listed(rules.formats)} may be asked for", at("output_format"), rules.formats
        )
    if rules.max_prompt_chars is not None:
        limit, says = rules.max_prompt_chars, f"a prompt has at most {rules.max_prompt_chars:,} characters"
        yield Bound("prompt", says, at("prompt"), condition=f"size(request.prompt) <= {limit}")
    if rules.max_partial_images < 3:
        says = f"there are at most {rules.max_partial_images} partial images"
        yield Bound("partial_images", says, at("partial_images"), tuple(range(rules.max_partial_images + 1)))
    if rules.max_input_images is not None and rules.max_input_images < MAX_INPUT_IMAGES:
        says = f"there are at most {rules.max_input_images} input images"
        yield Bound("images", says, at("input_images"), tuple(_images(rules.max_input_images)))


def _qualities(rules: RequestRules, *, listed_only: bool) -> tuple[str, ...]:
    """All that a request can have in the end, those included that only some of the models know."""
    known = {name for model in rules.models or rules.prices.models for name in pricing.qualities(model, rules.prices)}
    if rules.qualities is not None:
        return tuple(name for name in rules.qualities if name == AUTO or name in known)
    return tuple(sorted(known)) if listed_only else ()


def _images(most: int) -> Iterator[Images]:
    yield NO_IMAGES
    for count in range(1, most + 1):
        yield from (Images("edit", count, mask) for mask in (False, True))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"`{name}`" for name in names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown

"""What two policies of one surface could decide differently: the parts that changed, and the values around them.

A part that is the same on both sides can only hide a difference, never make one. So only what changed is varied, and
whatever shares a subject with it; all else stays at a value that neither side minds.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from policyguard.decision import Effect
from policyguard.diff.axes import PRICED, adjusts, after_exemptions, axes_of, bounds_of, checks_differ, environment
from policyguard.diff.witness import SMALL, Pair
from policyguard.policy.critical import Axis, Cases
from policyguard.policy.expr.analysis import Atom, atoms, tree
from policyguard.policy.meaning import canonical
from policyguard.policy.model import ModerationRules, Policy, PolicySet, RequestRules, Rule
from policyguard.policy.world import ONE_IMAGE, World, environment_of, plain_world, subject_of
from policyguard.pricing import price_book
from policyguard.request import AUTO, CATEGORIES, IMAGE_CATEGORIES

# Which subjects a table of parameters can refuse or change by each of its values.
_FIELDS: Mapping[str, tuple[str, ...]] = {
    "models": ("model",),
    "default_model": ("model",),
    "sizes": ("size",),
    "max_pixels": ("size",),
    "max_edge": ("size",),
    "default_size": ("size",),
    "qualities": ("quality",),
    "default_quality": ("quality",),
    "max_n": ("n",),
    "formats": ("output_format",),
    "max_prompt_chars": ("prompt",),
    "max_input_images": ("images",),
    "max_input_bytes": ("images", "image_bytes"),
    "input_types": ("images", "image_type"),
    "max_input_pixels": ("images", "image_size"),
    "max_input_edge": ("images", "image_size"),
    "input_hosts": ("images", "image_host"),
    "max_partial_images": ("partial_images",),
    "unknown_parameters": ("extra",),
    "on_excess": ("n", "quality", "size", "partial_images"),
}
_PICTURES = frozenset({"images", "image_bytes", "image_type", "image_size", "image_host"})
_OUTPUT = frozenset({"output_images"})
_ALL = frozenset(name for names in _FIELDS.values() for name in names)


@dataclass(frozen=True, slots=True)
class Conditions:
    """The atoms of both sides, the subjects that each condition joins, and those of conditions of one side only."""

    atoms: tuple[Atom, ...]
    joins: tuple[frozenset[str], ...]
    changed: frozenset[str]


@dataclass(frozen=True, slots=True)
class Space:
    """What to try: one set of cases for each group of subjects that are decided together.

    The groups are independent: outcomes combine by the strongest, so that a difference shows in one group alone while
    the others stay at the base. `exact`: where no case differs, no request does.
    """

    base: World
    groups: tuple[Cases, ...]
    exact: bool

    def cases(self) -> Iterator[World]:
        for group in self.groups:
            yield from group


def space(pair: Pair, limit: int) -> Space:
    """The worlds in which the two sides may differ."""
    conditions = _conditions(pair)
    changed = changed_subjects(pair) | conditions.changed
    base = _base(pair, conditions)
    groups = [_connected(g | _beside(pair, g), conditions.joins) for g in _groups(changed, conditions.joins)]
    cases = _shared(base, [axes_of(pair, conditions.atoms, base, group) for group in groups or [frozenset()]], limit)
    exact = all(one.exact for one in cases) and not _is_sampled(pair, conditions, base)
    return Space(base, tuple(cases), exact)


def _shared(base: World, groups: Sequence[tuple[Axis, ...]], limit: int) -> list[Cases]:
    """Each group with its part of the limit: what small ones leave, larger ones get."""
    found: list[Cases] = []
    for done, one in enumerate(sorted((Cases(base, axes) for axes in groups), key=lambda cases: cases.total)):
        part = max(1, limit // (len(groups) - done))
        found.append(replace(one, limit=part))
        limit -= min(part, one.total)
    return found


def _groups(changed: frozenset[str], joins: Sequence[frozenset[str]]) -> Iterator[frozenset[str]]:
    """The changed subjects, each with whatever is decided together with it."""
    left = set(changed)
    while left:
        group = _connected(frozenset({min(left)}), [*joins, _PICTURES])
        left -= group
        yield group


def _beside(pair: Pair, group: frozenset[str]) -> frozenset[str]:
    """What else must vary, because it can hide what this group decides.

    Not every model draws every size, knows every quality and takes images; sizes are brought down by price; and where
    another part is moderated it matters which part the scores are of.
    """
    more: set[str] = set()
    if checks_differ(pair) and any(subject.startswith("scores") for subject in group):
        more |= {"images", "scored"}
    if (group | more) & {"images", "size", "quality"}:
        more |= {"model"}
    if "model" in group or ("size" in group and adjusts(pair)):
        more |= PRICED
    return frozenset(more)


def _connected(subjects: frozenset[str], joins: Sequence[frozenset[str]]) -> frozenset[str]:
    while True:
        more = subjects.union(*(join for join in joins if join & subjects))
        if more == subjects:
            return subjects
        subjects = more


def _is_sampled(pair: Pair, conditions: Conditions, base: World) -> bool:
    """Any size can be asked for: where lists differ and sizes are brought down, only some are tried. Nor is every time
    tried at which both an exemption and a condition over `now` change. A base with reasons of its own hides some."""
    times = bool(after_exemptions(pair)) and any("now" in atom.reads for atom in conditions.atoms)
    return (adjusts(pair) and "size" in changed_subjects(pair)) or times or not _is_neutral(pair, base)


# ---- what changed -----------------------------------------------------------------------------------------


def changed_subjects(pair: Pair) -> frozenset[str]:
    """The subjects whose tables differ: parameters, moderation and callers. Conditions are looked at elsewhere."""
    old, new = pair.old, pair.new
    found = {"partial_images"} if old.holds_back != new.holds_back else set()
    found |= set(_of_tables(old.request, new.request)) | _of_moderation(old.moderation, new.moderation)
    if old.checks_output or new.checks_output:
        found |= _of_output(old.moderation, new.moderation)
    if "shadow" in (old.mode, new.mode):
        found |= set(_of_tables(old.limits, new.limits)) | _of_moderation(old.limit_moderation, new.limit_moderation)
        found |= _of_output(old.limit_moderation, new.limit_moderation)
    if old.mode != new.mode:
        found |= _ALL | {"scores", *(f"scores.{c}" for c in CATEGORIES)}
        found |= {"output", *(f"output.{c}" for c in IMAGE_CATEGORIES)}
    return frozenset(found | _of_callers(pair))


def _of_tables(old: RequestRules, new: RequestRules) -> Iterator[str]:
    for name, subjects in _FIELDS.items():
        a, b = getattr(old, name), getattr(new, name)
        if (set(a) != set(b)) if isinstance(a, tuple) and isinstance(b, tuple) else a != b:
            yield from subjects


def _of_moderation(old: ModerationRules, new: ModerationRules) -> set[str]:
    before, after = _thresholds(old), _thresholds(new)
    found = {f"scores.{c}" for c in CATEGORIES if before.get(c) != after.get(c)}
    if old.check - _OUTPUT != new.check - _OUTPUT:
        found |= {"scores", *(f"scores.{c}" for c in CATEGORIES)}
    return found | ({"scores"} if old.when_unavailable != new.when_unavailable else set())


def _of_output(old: ModerationRules, new: ModerationRules) -> set[str]:
    """The same of the images that come out."""
    before, after = _thresholds(old), _thresholds(new)
    found = {f"output.{c}" for c in IMAGE_CATEGORIES if before.get(c) != after.get(c)}
    if (old.check & _OUTPUT) != (new.check & _OUTPUT):
        found |= {"output", *(f"output.{c}" for c in IMAGE_CATEGORIES)}
    return found | ({"output"} if old.when_unavailable != new.when_unavailable else set())


def _thresholds(rules: ModerationRules) -> dict[str, set[tuple[str, float]]]:
    found: dict[str, set[tuple[str, float]]] = {}
    for name, thresholds in (("deny", rules.deny_at), ("review", rules.review_at)):
        for threshold in thresholds:
            found.setdefault(threshold.category, set()).add((name, threshold.at))
    return found


def _of_callers(pair: Pair) -> set[str]:
    def meaning(policies: PolicySet, policy: Policy) -> dict[str, Any]:
        needed = {b.per for b in policy.budgets}
        return {f.name: (f.required, f.default, frozenset(f.values), f.name in needed) for f in policies.caller}

    old, new = (meaning(*side) for side in pair.both)
    found = {f"caller.{name}" for name in old.keys() | new.keys() if old.get(name) != new.get(name)}
    return found | ({"caller.user"} if any(_denies_nobody(*side) for side in pair.both) else set())


def _denies_nobody(policies: PolicySet, policy: Policy) -> bool:
    """Whether what is reviewed for others can be denied for want of a user. What can be reviewed has reviewers."""
    optional = all(f.name != "user" or not (f.required or f.default) for f in policies.caller)
    return optional and bool(policy.review.reviewers)


def _conditions(pair: Pair) -> Conditions:
    found: dict[str, Atom] = {}
    joins: list[dict[Any, frozenset[str]]] = []
    for policies, policy in pair.both:
        environment, rules = environment_of(policies.caller, [q.name for q in policy.questions]), {}
        for one in policy.rules:
            own = [a for text in _sources(policy, one) for a in atoms(tree(text, environment))]
            found.update((atom.key, atom) for atom in own)
            subjects = frozenset(subject_of(path) for atom in own for path in atom.reads)
            rules[_meaning(policy, one)] = subjects | ({"now"} if _until(policy, one) else set())
        joins.append(rules)
    old, new = joins
    one_side = [subjects for key, subjects in (*old.items(), *new.items()) if (key in old) != (key in new)]
    return Conditions(tuple(found.values()), (*old.values(), *new.values()), frozenset().union(*one_side))


def _sources(policy: Policy, rule: Rule) -> list[str]:
    return [rule.when.source, *(e.when.source for e in _exemptions(policy, rule))]


def _exemptions(policy: Policy, rule: Rule) -> list[Any]:
    return [e for e in policy.exempt if rule.id in e.rules and not rule.organisation]


def _until(policy: Policy, rule: Rule) -> list[Any]:
    return [e.until for e in _exemptions(policy, rule)]


def _meaning(policy: Policy, rule: Rule) -> tuple[Any, ...]:
    """What a rule does to decisions, whatever its id and message."""
    mode = rule.mode if rule.organisation else (rule.mode, policy.mode)
    exempt = frozenset((canonical(e.when.source), e.until) for e in _exemptions(policy, rule))
    late = any(one.rule is rule for one in (*policy.prepared.late, *policy.prepared.final))
    moderated = (policy.moderation.when_unavailable, policy.moderation.check) if late else None
    asked = frozenset((q.name, q.when_unavailable) for q in policy.questions if f"answers.{q.name}" in rule.when.reads)
    return (canonical(rule.when.source), rule.then, mode, rule.organisation, exempt, moderated, asked)


# ---- the base ---------------------------------------------------------------------------------------------


def _base(pair: Pair, conditions: Conditions) -> World:
    """A world that neither side minds, if there is one: what conditions read is tried first."""
    read = frozenset(subject_of(path) for atom in conditions.atoms for path in atom.reads)
    base = _plain(pair)
    for subjects in (read, read | _ALL | bounds_of(pair).keys()):
        for _ in range(2):
            if _is_neutral(pair, base):
                return base
            base = _settled(pair, axes_of(pair, conditions.atoms, base, subjects), base)
    return base


def _settled(pair: Pair, found: Sequence[Axis], base: World) -> World:
    """The base with each value that a side minds replaced by one that it minds less."""
    for axis in found:
        tried = [base, *({**base, axis.subject: value} for value in axis.values)]
        base = min(tried, key=lambda world: _strength(pair, world))
    return base


def _plain(pair: Pair) -> World:
    """What both tables list, and callers who say no more than they must.

    Where a review is denied to nobody the base is somebody's: else every review would look like a denial, and changes
    between the two would not show. Nobody's own requests differ only where somebody's do.
    """
    old, new = pair.old.request, pair.new.request
    base = plain_world(environment(pair), pair.now)
    base |= {"surface": pair.new.surface, "extra": {}, "image_bytes": SMALL, "scored": "prompt"}
    base |= {"image_type": "png", "image_size": None, "image_host": None}
    if not all("prompt" in (p.moderation.check | p.limit_moderation.check) for _, p in pair.both):
        base |= {"images": ONE_IMAGE, "scored": "image"}
    for name, a, b in (
        ("model", old.models, new.models),
        ("size", old.sizes, new.sizes),
        ("quality", old.qualities, new.qualities),
        ("output_format", old.formats, new.formats),
        ("image_type", old.input_types, new.input_types),
    ):
        base[name] = _common(base[name], a, b)
    base["size"] = _common(base["size"], *(_everywhere(t.sizes) for t in (old, new)))
    for policies, policy in pair.both:
        needed = {f.name for f in policies.caller if f.required} | {b.per for b in policy.budgets if b.per}
        needed |= {"user"} if _denies_nobody(policies, policy) else set()
        for f in policies.caller:
            if f.name in needed and base[f"caller.{f.name}"] is None and f.default is None:
                base[f"caller.{f.name}"] = f.values[0] if f.values else "somebody"
    return base


def _common(plain: str, old: tuple[str, ...] | None, new: tuple[str, ...] | None) -> str:
    """The plain value where both sides allow it, else the first that they do."""
    both = [value for value in old or new or () if value in (new or old or ()) and value != AUTO]
    return plain if plain in both or not both else both[0]


def _everywhere(sizes: tuple[str, ...] | None) -> tuple[str, ...] | None:
    """The sizes that every family draws."""
    return sizes and tuple(size for size in sizes if size in price_book().sizes["legacy"].fixed)


def _strength(pair: Pair, world: World) -> tuple[int, int, int]:
    old, new = pair.rulings(world, whole=True)
    reasons = sum(r.enforced for r in (*old.reasons, *new.reasons))
    return max(old.effect, new.effect), old.effect + new.effect, reasons + len(old.adjustments) + len(new.adjustments)


def _is_neutral(pair: Pair, base: World) -> bool:
    """Whether nothing but a review of everything is said of the base: a flag would hide flags."""
    said = [reason.id for ruling in pair.rulings(base) for reason in ruling.above(Effect.ALLOW)]
    return {"review.required", "review.output"}.issuperset(said)

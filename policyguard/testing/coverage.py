"""What tests have seen of the conditions of a folder: each rule and each exemption, true and false.

A condition counts where the engine evaluates it: a rule about scores or answers not before moderation, an exemption
only where one of its rules would speak. What cannot be evaluated was seen neither true nor false. Thresholds, lists and
budgets are no conditions and are not counted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from policyguard.decision import Place
from policyguard.engine.decide import facts_with
from policyguard.policy.expr import EvaluationError, Unavailable
from policyguard.policy.model import Armed, Expression, Policy, PolicySet
from policyguard.testing.simulate import Case, Simulated, output_verdict, screened

# How the condition of a rule came out. `early`: the request was denied before it was looked at.
Observed = Literal["true", "false", "unevaluable", "early"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConditionSeen:
    """One condition of one surface, with what has been seen of it."""

    surface: str
    kind: Literal["rule", "exemption"]
    name: str
    place: Place
    true: bool
    false: bool

    @property
    def missing(self) -> tuple[str, ...]:
        return tuple(word for word, seen in (("true", self.true), ("false", self.false)) if not seen)


@dataclass(frozen=True, slots=True)
class Coverage:
    """Every condition, by surface and in the order of the files; each has two branches."""

    conditions: tuple[ConditionSeen, ...]

    @property
    def branches(self) -> int:
        return 2 * len(self.conditions)

    @property
    def seen(self) -> int:
        return self.branches - sum(len(condition.missing) for condition in self.conditions)

    @property
    def percent(self) -> int:
        """Rounded down: 100 is all of them."""
        return 100 * self.seen // self.branches if self.branches else 100

    def of(self, surface: str) -> Coverage:
        return Coverage(tuple(c for c in self.conditions if c.surface == surface))


def observe(policies: PolicySet, surface: str, case: Case, seen: Simulated) -> dict[Place, Observed]:
    """How each condition came out for a case that was decided so, by its place."""
    prepared = policies.surfaces[surface].prepared
    before = screened(policies, surface, case)
    found: dict[Place, Observed] = {}
    for one in prepared.early:
        found |= _seen(one, before.facts, case)
    facts = facts_with(before, seen.decision.verdict, seen.decision.answers)
    for one in prepared.late:
        found |= {one.rule.place: "early"} if before.refused else _seen(one, facts, case)
    final = {**facts, "output": _output(policies.surfaces[surface], case)}
    for one in prepared.final:
        found |= _seen(one, final, case) if seen.answered else {one.rule.place: "early"}
    return found


def _output(policy: Policy, case: Case) -> Mapping[str, float] | None:
    verdict = output_verdict(policy, case)
    return None if verdict is None else verdict.scores


def _seen(armed: Armed, facts: Mapping[str, Any], case: Case) -> dict[Place, Observed]:
    """The rule, and where it speaks its exemptions that have not ended."""
    found = {armed.rule.place: _value(armed.rule.when, facts)}
    if found[armed.rule.place] != "false":
        found |= {e.place: _value(e.when, facts) for e in armed.exempt if case.now.date() <= e.until}
    return found


def _value(when: Expression, inputs: Mapping[str, Any]) -> Observed:
    try:
        return "true" if when(inputs) else "false"
    except (Unavailable, EvaluationError):
        return "unevaluable"


def coverage(policies: PolicySet, observed: Iterable[tuple[str, Mapping[Place, Observed]]]) -> Coverage:
    """What pairs of a surface and its observations have seen, over all surfaces."""
    seen = {(surface, place, value) for surface, values in observed for place, value in values.items()}
    return Coverage(
        tuple(
            ConditionSeen(
                surface=surface,
                kind=kind,
                name=name,
                place=place,
                true=(surface, place, "true") in seen,
                false=(surface, place, "false") in seen,
            )
            for surface, policy in policies.surfaces.items()
            for kind, name, place in _conditions(policy)
        )
    )


def _conditions(policy: Policy) -> Iterator[tuple[Literal["rule", "exemption"], str, Place]]:
    for rule in policy.rules:
        yield "rule", rule.id, rule.place
    for exemption in policy.exempt:
        yield "exemption", f"exempt {', '.join(sorted(exemption.rules))}", exemption.place

"""What a test wanted and what it saw: the differences, in words that say where to look.

A difference names the reason, where its rule stands, and why it did not speak. It shows what the author of the policy
and of the test wrote, and nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from policyguard.decision import Place, Reason
from policyguard.policy.model import Policy, Rule
from policyguard.testing.coverage import Observed
from policyguard.testing.read import Expected
from policyguard.testing.simulate import Case, Simulated

_LONGEST = 100
_WHY_NO_BUDGET = {"deny": "not looked at: denied before money", "review": "not looked at: held before money"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """One thing that is not as expected. `sign` is `-` for what is missing, `+` for what is too much, else empty."""

    what: Literal["outcome", "reasons", "shadow", "adjusted"]
    sign: Literal["-", "+", " "] = " "
    text: str
    note: str = ""
    place: Place | None = None


def differences(
    policy: Policy, case: Case, expected: Expected, seen: Simulated, observed: Mapping[Place, Observed]
) -> tuple[Mismatch, ...]:
    """Nothing where the test passes."""
    found = [*_outcome(expected, seen)]
    look = _Explanation(policy, case, seen, observed)
    if expected.reasons is not None:
        found += look.sets("reasons", expected.reasons, seen.reasons)
    elif found:  # the outcome alone was expected: what spoke says why it is another
        found += [look.unwanted("reasons", reason) for reason in seen.reasons]
    if expected.shadow is not None:
        found += look.sets("shadow", expected.shadow, seen.shadow)
    return (*found, *_adjusted(policy, expected, seen))


def _outcome(expected: Expected, seen: Simulated) -> Iterator[Mismatch]:
    if expected.outcome != seen.outcome:
        yield Mismatch(what="outcome", text=f"expected {expected.outcome}, was {seen.outcome}")


def _adjusted(policy: Policy, expected: Expected, seen: Simulated) -> Iterator[Mismatch]:
    if expected.adjusted is None:
        return
    given = {adjustment.param: adjustment.given for adjustment in seen.adjustments}
    for name in sorted({*expected.adjusted, *given}):
        wanted, got = expected.adjusted.get(name), given.get(name)
        if wanted != got:
            text = f"{name} expected {wanted or 'as it is'}, was {got or 'not adjusted'}"
            yield Mismatch(what="adjusted", text=text, place=policy.request.places.get(name))


@dataclass(frozen=True, slots=True)
class _Explanation:
    """Where a reason comes from, and why it did or did not speak."""

    policy: Policy
    case: Case
    seen: Simulated
    observed: Mapping[Place, Observed]

    def sets(
        self, what: Literal["reasons", "shadow"], wanted: frozenset[str], got: tuple[Reason, ...]
    ) -> list[Mismatch]:
        ids = {reason.id for reason in got}
        missing = [self.missing(what, id_) for id_ in sorted(wanted - ids)]
        return missing + [self.unwanted(what, reason) for reason in got if reason.id not in wanted]

    def unwanted(self, what: Literal["reasons", "shadow"], reason: Reason) -> Mismatch:
        note = f"{reason.effect.word}: {reason.message}" if reason.message else reason.effect.word
        return Mismatch(what=what, sign="+", text=reason.id, note=note, place=reason.place)

    def missing(self, what: Literal["reasons", "shadow"], id_: str) -> Mismatch:
        rule = next((rule for rule in self.policy.rules if rule.id == id_), None)
        elsewhere = self._elsewhere(what, id_)
        if elsewhere:
            return Mismatch(what=what, sign="-", text=id_, note=_recorded(what, elsewhere), place=elsewhere.place)
        if rule is not None:
            return Mismatch(what=what, sign="-", text=id_, note=self._silent(rule), place=rule.place)
        note, place = self._built_in(id_)
        return Mismatch(what=what, sign="-", text=id_, note=note, place=place)

    def _elsewhere(self, what: Literal["reasons", "shadow"], id_: str) -> Reason | None:
        others = self.seen.shadow if what == "reasons" else self.seen.reasons
        return next((reason for reason in others if reason.id == id_), None)

    def _silent(self, rule: Rule) -> str:
        condition = _short(rule.when.source)
        if self.observed.get(rule.place) == "early":
            return "not looked at: denied before moderation"
        return f"false: {condition}"

    def _built_in(self, id_: str) -> tuple[str, Place | None]:
        root, _, name = id_.partition(".")
        if root == "moderation":
            return self._threshold(name)
        if root == "request":
            return "", self.policy.request.places.get(name)
        if root == "budget":
            note = _WHY_NO_BUDGET.get(self.seen.outcome, "had room")
            return note, next((b.place for b in self.policy.budgets if b.id == name), None)
        return "", None

    def _threshold(self, category: str) -> tuple[str, Place | None]:
        rules = self.policy.moderation
        for word, thresholds in (("review", rules.review_at), ("deny", rules.deny_at)):
            for threshold in thresholds:
                if threshold.category == category:
                    score = self.case.scores.get(category, 0.0)
                    return f"score {'-' if score is None else score}, {word} from {threshold.at}", threshold.place
        return "", None


def _recorded(what: Literal["reasons", "shadow"], reason: Reason) -> str:
    if what == "shadow":
        return f"counted: {reason.effect.word}"
    until = reason.values.get("exempt_until")
    if until is None:
        return "in shadow mode: recorded only"
    return f"exempted until {until} by {reason.values['exempt_place']}"


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[: _LONGEST - 3] + "..."

"""Rules: which fire, what cannot be evaluated, and which exemption switches one off for this request. Pure.

What cannot be evaluated is a reason of its own, never a rule that was skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from policyguard.decision import Effect, Kind, Reason
from policyguard.policy.expr import EvaluationError, Unavailable, field_of
from policyguard.policy.model import Armed, Exemption, Policy, Rule
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, ImageRequest

_SCORED: Mapping[str, Collection[str]] = {"scores": CATEGORIES, "output": IMAGE_CATEGORIES}
# Caller values that may stand in a record as they are; the others name a person or may do so.
_OPEN_CALLER_FIELDS = frozenset({"tenant", "tier", "cohort", "feature"})


def fire(armed: tuple[Armed, ...], facts: Mapping[str, Any], policy: Policy, reasons: list[Reason]) -> None:
    """Add the reason of every rule whose condition is true, or cannot be evaluated."""
    for one in armed:
        try:
            if not one.run(facts):
                continue
            reason = _fired(one, facts)
        except Unavailable:
            reason = _unevaluable(one, when_unavailable(one, facts, policy), "an input is unavailable")
        except EvaluationError as error:
            reason = _unevaluable(one, Effect.DENY, f"the condition fails ({error.code})")
        exemption = _exemption(one, facts) if one.exempt else None
        reasons.append(_exempted(reason, exemption) if exemption else reason)


def _fired(armed: Armed, facts: Mapping[str, Any]) -> Reason:
    rule = armed.rule
    return Reason(
        id=rule.id,
        kind=Kind.REVIEW if rule.then is Effect.REVIEW else Kind.RULE,
        effect=rule.then,
        message=rule.message,
        place=rule.place,
        mode=armed.mode,
        values=_values(rule, facts),
    )


def _unevaluable(armed: Armed, effect: Effect, why: str) -> Reason:
    """A rule that cannot be evaluated denies or holds; a flag is only recorded."""
    rule = armed.rule
    recorded_only = rule.then is Effect.FLAG
    return Reason(
        id=rule.id,
        kind=Kind.UNAVAILABLE,
        effect=Effect.FLAG if recorded_only else effect,
        message=f"unevaluable: {why}",
        place=rule.place,
        mode=armed.mode,
        values={"unevaluable": True},
    )


def when_unavailable(armed: Armed, facts: Mapping[str, Any], policy: Policy) -> Effect:
    """The strictest of what is said of the inputs that are not there."""
    reads, answers = armed.rule.when.reads, facts["answers"] or {}
    effects = [
        question.when_unavailable
        for question in policy.questions
        if f"answers.{question.name}" in reads and question.name not in answers
    ]
    if not effects or any(_is_unscored(name, facts) for name in reads):
        effects.append(policy.moderation.when_unavailable)
    return max(effects)


def _is_unscored(name: str, facts: Mapping[str, Any]) -> bool:
    """Whether what `name` reads of scores, of the request or its output, was not assessed."""
    root, _, category = name.partition(".")
    if root not in _SCORED:
        return False
    scores = facts[root] or {}
    return category not in scores if category else len(scores) < len(_SCORED[root])


def _exemption(armed: Armed, facts: Mapping[str, Any]) -> Exemption | None:
    today = facts["now"].date()
    for exemption in armed.exempt:
        if today > exemption.until:
            continue
        try:
            if exemption.when(facts):
                return exemption
        except (Unavailable, EvaluationError):
            continue  # an exemption that cannot be evaluated does not apply
    return None


def _exempted(reason: Reason, exemption: Exemption) -> Reason:
    """An exempted rule is recorded like a shadow rule: who switched it off for this request is part of the record."""
    values = {**reason.values, "exempt_until": exemption.until.isoformat(), "exempt_place": str(exemption.place)}
    return reason._replace(mode="shadow", values=values)


def _values(rule: Rule, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the condition read, without the prompt and without anything that may name a person."""
    values: dict[str, Any] = {}
    for name in sorted(rule.when.reads):
        root, _, rest = name.partition(".")
        if root == "request" and rest and rest != "prompt":
            values[name] = _field(facts["request"], rest)
        elif (root == "caller" and rest in _OPEN_CALLER_FIELDS) or (root in ("scores", "output", "answers") and rest):
            values[name] = (facts[root] or {}).get(rest)
    return values


def _field(request: ImageRequest, name: str) -> Any:
    try:
        return field_of(request, name)
    except EvaluationError:  # of a size that upstream picks
        return None

"""When each check of a surface runs, and what is left of it while moderation is down. Pure.

A rule runs where the last of what it reads is there; that is derived, never written. A rule that reads scores beside
other things may still be decided without them, because `||` and `&&` need no more than one side: its critical points
tell for which requests.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from policyguard.decision import Effect, Mode, Place
from policyguard.engine.rules import when_unavailable
from policyguard.policy.critical import cases
from policyguard.policy.expr import Environment, ExpressionErrors
from policyguard.policy.expr.analysis import ConditionTree, TruthValue, atoms, result, tree
from policyguard.policy.lint.conditions import bounds_of
from policyguard.policy.model import Armed, ModerationRules, Policy
from policyguard.policy.world import World, inputs, subject_of
from policyguard.request import IMAGE_CATEGORIES

Stage = Literal["screen", "judge", "reserve", "inspect"]
_LIMIT = 4_000
_DOWN: Mapping[str, Any] = {"scores": None, "answers": None, "output": None}
_EXEMPT = "decides; an exemption that reads scores does not apply"
_WORDS: Mapping[TruthValue, str] = {"true": "fires", "false": "does not fire"}


@dataclass(frozen=True, slots=True)
class Control:
    """One thing that decides. `down` are the words for what it does while moderation is down.

    `still`: it is decided as ever, for all requests or for some of them; `example` is an admitted request that a rule
    which reads scores decides without them. `sampled`: not all requests could be looked at.
    """

    stage: Stage
    what: str
    effect: str
    mode: Mode
    place: Place | None
    down: str = "decides"
    still: bool = True
    example: World | None = None
    sampled: bool = False


@dataclass(frozen=True, slots=True)
class Outage:
    """What the whole surface does while moderation is down: the effect on `whom`, and where that is said."""

    effect: str
    whom: str
    place: Place


def outage(policy: Policy) -> Outage:
    """Something is moderated on every surface. In shadow only the organisation's limits are enforced."""
    enforced = policy.moderation if policy.mode == "enforce" else policy.limit_moderation
    looked_at = policy.moderation.check | policy.limit_moderation.check
    whom = "every request" if "prompt" in looked_at else "every request with input images"
    if not enforced.deny_at:
        return Outage("recorded", whom, policy.moderation.place)
    return Outage(enforced.when_unavailable.word, whom, enforced.place)


def checks(policy: Policy, environment: Environment) -> list[Control]:
    """Every check of a surface in the order of the path."""
    early = [_as_ever("screen", armed) for armed in policy.prepared.early]
    late = [_without_scores(policy, environment, armed) for armed in policy.prepared.late]
    return [*_table(policy), *early, *_thresholds(policy), *late, *_budgets(policy), *_output(policy)]


def _table(policy: Policy) -> Iterator[Control]:
    for name, place in sorted(policy.request.places.items()):
        yield Control("screen", f"request.{name}", "deny", policy.mode, place)
    if policy.review.required:
        mode: Mode = "enforce" if policy.limit_review else policy.mode
        yield Control("screen", "review.required", "review", mode, policy.review.place)


def _as_ever(stage: Stage, armed: Armed) -> Control:
    return Control(stage, armed.rule.id, armed.rule.then.word, armed.mode, armed.rule.place)


def _thresholds(policy: Policy) -> Iterator[Control]:
    yield from _of(policy.moderation, policy.mode)
    if policy.mode == "shadow":
        yield from _of(policy.limit_moderation, "enforce")


def _of(rules: ModerationRules, mode: Mode) -> Iterator[Control]:
    down = f"cannot be decided: {rules.when_unavailable.word if mode == 'enforce' else 'recorded'}"
    for effect, thresholds in ((Effect.DENY, rules.deny_at), (Effect.REVIEW, rules.review_at)):
        for threshold in thresholds:
            what, says = f"moderation.{threshold.category}", f"{effect.word} at {threshold.at:g}"
            yield Control("judge", what, says, mode, threshold.place, down=down, still=False)


def _budgets(policy: Policy) -> Iterator[Control]:
    for budget in policy.budgets:
        yield Control("reserve", f"budget.{budget.id}", "deny", budget.mode, budget.place)


def _output(policy: Policy) -> Iterator[Control]:
    """What is looked at in an answer. Without scores of it nothing of it can be decided."""
    for rules, mode in ((policy.moderation, policy.mode), (policy.limit_moderation, "enforce")):
        own = rules is policy.moderation or policy.mode == "shadow"
        for check in _of(rules, mode) if own and "output_images" in rules.check else ():
            category = check.what.partition(".")[2]
            if category in IMAGE_CATEGORIES:
                yield replace(check, stage="inspect", what=f"output.{category}")
    if policy.review.hold_output:
        held: Mode = "enforce" if policy.limit_hold_output else policy.mode
        yield Control("inspect", "review.output", "review", held, policy.review.place)
    for armed in policy.prepared.final:
        recorded = armed.rule.then is Effect.FLAG or armed.mode == "shadow"
        down = "recorded" if recorded else when_unavailable(armed, _DOWN, policy).word
        yield replace(_as_ever("inspect", armed), down=f"cannot be decided: {down}", still=False)


# ---- rules without scores ---------------------------------------------------------------------------------


def _without_scores(policy: Policy, environment: Environment, armed: Armed) -> Control:
    seen, exact = _results(policy, environment, armed)
    rule = armed.rule
    recorded = rule.then is Effect.FLAG or armed.mode == "shadow"
    undecided = "recorded" if recorded else when_unavailable(armed, _DOWN, policy).word
    failed = "recorded" if recorded else Effect.DENY.word
    return Control(
        "judge",
        rule.id,
        rule.then.word,
        armed.mode,
        rule.place,
        down=_EXEMPT if armed.exempt and "unavailable" not in seen else _down(seen.keys(), undecided, failed),
        still="true" in seen or "false" in seen,
        example=seen.get("true") if "unavailable" in seen else None,
        sampled=not exact,
    )


def _down(seen: Collection[TruthValue], undecided: str, failed: str) -> str:
    words = [_WORDS[one] for one in ("true", "false") if one in seen]
    words += [f"cannot be decided: {undecided}"] if "unavailable" in seen else []
    words += [f"fails: {failed}"] if "error" in seen else []
    return ", or ".join(words)


def _results(policy: Policy, environment: Environment, armed: Armed) -> tuple[dict[TruthValue, World], bool]:
    """What a condition gives without scores and answers, each with an admitted request, and whether that is all."""
    condition, reads = armed.rule.when.source, armed.rule.when.reads
    bounds = [bound for bound in bounds_of(policy, reads) if not bound.subject.startswith("scores")]
    given: dict[str, tuple[Any, ...]] = {bound.subject: bound.values for bound in bounds if bound.values}
    given |= {name: (0.0,) for name in reads if name.startswith("scores.")}
    given |= {name: (None,) for name in reads if name.startswith("answers.")}
    given |= {"surface": (policy.surface,), "scores": (None,)}
    admitted = " && ".join(f"({bound.condition})" for bound in bounds if bound.condition) or "true"
    alone, within = tree(condition, environment), tree(admitted, environment)
    found = cases(atoms(_both(condition, admitted, environment) or alone), environment, given=given, limit=_LIMIT)
    unsaid = _unsaid(policy, {subject_of(path) for path in reads})
    seen: dict[TruthValue, World] = {}
    for world in found:
        read = inputs(world)
        if result(within, read) == "true":
            seen.setdefault(result(alone, read), {**world, **unsaid})
    return seen, found.exact


def _unsaid(policy: Policy, read: set[str]) -> dict[str, str | None]:
    """What a rule does not read is left to the policy, so that the request is one that it admits."""
    rules = policy.request
    defaults = {
        "model": (rules.default_model, rules.models),
        "size": (rules.default_size, rules.sizes),
        "quality": (rules.default_quality, rules.qualities),
    }
    return {
        name: listed[0] if default is None and listed else None
        for name, (default, listed) in defaults.items()
        if name not in read
    }


def _both(condition: str, admitted: str, environment: Environment) -> ConditionTree | None:
    try:
        return tree(f"({condition}\n) && ({admitted})", environment)
    except ExpressionErrors:  # too large together
        return None

"""Why a request is decided as it is: every rule, threshold and budget with its stage, result and place. Pure.

The decision itself comes from `decide`; this adds the rules that did not fire, which a decision does not keep.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from policyguard.decision import Effect, Place, Reason
from policyguard.engine.decide import Screened, facts_with, open_questions
from policyguard.policy.budget import charged, windows
from policyguard.policy.expr import EvaluationError, Unavailable
from policyguard.policy.model import Budget, Rule, Threshold
from policyguard.request import IMAGE_CATEGORIES, Answers, Verdict

_ORDER = {"screen": 0, "judge": 1}


@dataclass(frozen=True, slots=True)
class Line:
    """One thing that was looked at. `result` is `fires`, `does not fire`, `unevaluable`, `passes` or a number."""

    stage: str
    what: str
    result: str
    effect: str
    mode: str
    place: Place | None
    detail: str = ""


def explain(
    judged: Screened,
    verdict: Verdict | None,
    dimensions: Mapping[str, str | None],
    answers: Answers | None = None,
    output: Verdict | None = None,
) -> list[Line]:
    """Lines in the order of the path: what needs no scores and answers, what does, budgets, what reads the output."""
    lines = [*_built_in(judged), *_questions(judged, answers), *_rules(judged, verdict, answers)]
    if verdict is not None:
        lines += _thresholds(judged, verdict)
    ordered = sorted(lines, key=lambda line: _ORDER[line.stage])
    return [*ordered, *_budgets(judged, dimensions), *_inspected(judged, verdict, answers, output)]


def _inspected(
    judged: Screened, verdict: Verdict | None, answers: Answers | None, output: Verdict | None
) -> Iterator[Line]:
    policy = judged.policy
    if output is not None:
        for line in _thresholds(judged, output):
            category = line.what.partition(".")[2]
            if category in IMAGE_CATEGORIES:
                yield replace(line, stage="inspect", what=f"output.{category}")
    if policy.review.hold_output:
        mode = "enforce" if policy.limit_hold_output else policy.mode
        yield Line("inspect", "review.output", "fires", Effect.REVIEW.word, mode, policy.review.place)
    facts = {**facts_with(judged, verdict, answers), "output": None if output is None else output.scores}
    for one in policy.prepared.final:
        rule, source = one.rule, " ".join(one.rule.when.source.split())
        yield Line("inspect", rule.id, _result(rule, facts), rule.then.word, one.mode, rule.place, source)


def _built_in(judged: Screened) -> Iterator[Line]:
    """Reasons that no rule of a team gave, without those of moderation, which have lines of their own."""
    own = {rule.id for rule in judged.policy.rules}
    for reason in judged.reasons:
        if reason.id not in own and not _is_threshold(reason):
            stage = "judge" if reason.id.startswith("moderation.") else "screen"
            yield Line(stage, reason.id, "fires", reason.effect.word, reason.mode, reason.place, reason.message)


def _is_threshold(reason: Reason) -> bool:
    return reason.id.startswith("moderation.") and "threshold" in reason.values


def _questions(judged: Screened, answers: Answers | None) -> Iterator[Line]:
    """Each question, and whether this request needs the answer."""
    asked = open_questions(judged)
    known = answers.probabilities if answers else {}
    for question in judged.policy.questions:
        value = known.get(question.name)
        result = "unavailable" if value is None else f"is answered {value:.3f}"
        effect = question.when_unavailable.word
        yield Line(
            "judge",
            f"answers.{question.name}",
            result if question in asked else "is not asked",
            effect,
            "enforce",
            question.place,
            f"without an answer: {effect}",
        )


def _rules(judged: Screened, verdict: Verdict | None, answers: Answers | None) -> Iterator[Line]:
    prepared = judged.policy.prepared
    early, late = judged.facts, facts_with(judged, verdict, answers)
    for stage, armed, facts in (("screen", prepared.early, early), ("judge", prepared.late, late)):
        for one in armed:
            rule, source = one.rule, " ".join(one.rule.when.source.split())
            yield Line(stage, rule.id, _result(rule, facts), rule.then.word, one.mode, rule.place, source)


def _result(rule: Rule, facts: Mapping[str, Any]) -> str:
    try:
        return "fires" if rule.when(facts) else "does not fire"
    except (Unavailable, EvaluationError):
        return "unevaluable"


def _thresholds(judged: Screened, verdict: Verdict) -> Iterator[Line]:
    for effect, thresholds in (
        (Effect.DENY, judged.policy.moderation.deny_at),
        (Effect.REVIEW, judged.policy.moderation.review_at),
    ):
        for threshold in thresholds:
            yield _threshold(judged, verdict, threshold, effect)


def _threshold(judged: Screened, verdict: Verdict, threshold: Threshold, effect: Effect) -> Line:
    score = verdict.score(threshold.category)
    result = "unavailable" if score is None else "fires" if score >= threshold.at else "passes"
    detail = f"score {'-' if score is None else f'{score:.3f}'}, {effect.word} at {threshold.at:.3f}"
    what = f"moderation.{threshold.category}"
    return Line("judge", what, result, effect.word, judged.policy.mode, threshold.place, detail)


def _budgets(judged: Screened, dimensions: Mapping[str, str | None]) -> Iterator[Line]:
    ceiling = judged.quote.ceiling_micros if judged.quote else 0
    known = {name: value or "?" for name, value in dimensions.items()}
    for window in windows(judged.policy.budgets, known, judged.now):
        budget = window.budget
        amount = charged(budget, ceiling, judged.request.n or 1)
        result = f"takes {_amount(budget, amount)}"
        detail = f"of {_amount(budget, budget.limit)} each {budget.period}" + (
            f", per {budget.per}" if budget.per else ""
        )
        yield Line("reserve", f"budget.{budget.id}", result, "deny", budget.mode, budget.place, detail)


def _amount(budget: Budget, amount: int) -> str:
    return f"${amount / 1_000_000:,.4f}" if budget.unit == "usd" else f"{amount} {budget.unit}"

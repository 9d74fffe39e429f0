"""Thresholds of moderation scores: what reaches one, and what was not assessed. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Literal

from policyguard.decision import Effect, Kind, Mode, Reason
from policyguard.policy.model import ModerationRules, Threshold
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Verdict

AssessedPart = Literal["input", "output"]
_NAMESPACES: Mapping[AssessedPart, str] = {"input": "moderation", "output": "output"}  # of reasons


def alarming(alarms: tuple[tuple[str, float], ...], verdict: Verdict) -> bool:
    """Whether some score may have an effect, or is not there."""
    scores = verdict.scores
    if verdict.incomplete or len(scores) < len(CATEGORIES):
        return True
    try:
        for category, at in alarms:
            if not scores[category] < at:
                return True
    except KeyError:
        return True
    return False


def thresholds(rules: ModerationRules, verdict: Verdict, mode: Mode, stage: AssessedPart = "input") -> Iterator[Reason]:
    """Of pictures alone only what is looked for in pictures can be missing."""
    missing = set()
    for effect, thresholds in ((Effect.DENY, rules.deny_at), (Effect.REVIEW, rules.review_at)):
        for threshold in thresholds:
            if stage == "output" and threshold.category not in IMAGE_CATEGORIES:
                continue
            lower_bound = verdict.scores.get(threshold.category)
            if lower_bound is not None and lower_bound >= threshold.at:
                yield _moderation(threshold, lower_bound, effect, mode, stage)
            elif verdict.score(threshold.category) is None:
                missing.add(threshold.category)
    if missing:
        yield _moderation_unavailable(rules, verdict, len(missing), mode, stage)


def _moderation(threshold: Threshold, score: float, effect: Effect, mode: Mode, stage: AssessedPart) -> Reason:
    category = threshold.category
    return Reason(
        id=f"{_NAMESPACES[stage]}.{category}",
        kind=Kind.MODERATION,
        effect=effect,
        message=f"moderation scores `{category}` at or above the threshold",
        place=threshold.place,
        mode=mode,
        values={"score": score, "threshold": threshold.at},
    )


def _moderation_unavailable(
    rules: ModerationRules, verdict: Verdict, missing: int, mode: Mode, stage: AssessedPart
) -> Reason:
    return Reason(
        id=f"{_NAMESPACES[stage]}.unavailable",
        kind=Kind.UNAVAILABLE,
        effect=rules.when_unavailable,
        message="moderation did not assess every category",
        place=rules.place,
        mode=mode,
        values={"error": verdict.error or "incomplete", "missing": missing},
    )

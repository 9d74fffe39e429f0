"""What a surface still decides while moderation is down: what is claimed is what the engine does."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import pytest
from support import NOW, ORG, SURFACE, policies

from policyguard.decision import Reason
from policyguard.engine import decide
from policyguard.engine.callers import resolve_caller
from policyguard.engine.stages import Control, checks, outage
from policyguard.policy.model import PolicySet
from policyguard.policy.world import caller as caller_of
from policyguard.policy.world import environment_of
from policyguard.policy.world import request as request_of
from policyguard.request import Caller, ImageRequest, Verdict

DOWN = Verdict(model="omni-moderation-latest", error="down")
REVIEWERS = "review: {reviewers: [group:trust]}\n"
CONDITIONS = {
    "scores.violence > 0.2": "cannot be decided: deny",
    'scores.violence > 0.2 || request.quality == "high"': "fires, or cannot be decided: deny",
    'scores.violence > 0.2 && request.quality == "high"': "does not fire, or cannot be decided: deny",
    "scores.violence > 0.2 || request.n > 5": "cannot be decided: deny",  # n is at most 2
    "scores.violence > 0.2 && request.n < 5": "cannot be decided: deny",
    "scores.violence > 0.2 || request.n <= 5": "fires",
    'caller.tier == "pro" ? scores.hate > 0.1 : request.n == 2': "fires, or does not fire, or cannot be decided: deny",
    "scores.exists(c, scores[c] > 0.4)": "cannot be decided: deny",
    "scores.violence > scores.hate": "cannot be decided: deny",
    "scores.violence > 0.2 || 1 / (request.n - 1) > 5": "cannot be decided: deny, or fails: deny",
}


def loaded(folder: Path, condition: str = "scores.violence > 0.2", extra: str = "", then: str = "deny") -> PolicySet:
    rule = f"rules:\n  - id: late\n    when: '{condition}'\n    then: {then}\n"
    return policies(folder, org=ORG, avatars=SURFACE + REVIEWERS + rule + extra)


def found(policies: PolicySet) -> dict[str, Control]:
    return {check.what: check for check in checks(policies.surfaces["avatars"], environment_of(policies.caller))}


def decided(policies: PolicySet, request: ImageRequest, caller: Caller) -> list[Reason]:
    """What the engine says of the rule while moderation is down."""
    known, unknown = resolve_caller(policies.caller, caller)
    assert not unknown
    screened = decide.screen(policies.surfaces["avatars"], request, known, NOW)
    return [reason for reason in decide.judge(screened, DOWN).reasons if reason.id == "late"]


def said(reasons: list[Reason]) -> str:
    if not reasons:
        return "does not fire"
    if "unevaluable" not in reasons[0].values:
        return "fires"
    return "fails" if "fails" in reasons[0].message else "cannot be decided"


# ---- rules ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("condition", "down"), CONDITIONS.items())
def test_what_a_rule_can_do_without_scores_is_said(tmp_path: Path, condition: str, down: str) -> None:
    check = found(loaded(tmp_path, condition))["late"]
    assert (check.stage, check.down, check.still) == ("judge", down, "fire" in down)


@pytest.mark.parametrize("condition", CONDITIONS)
def test_the_engine_does_for_every_admitted_request_what_is_said(tmp_path: Path, condition: str) -> None:
    loads = loaded(tmp_path, condition)
    check = found(loads)["late"]
    every = product(("low", "medium", "high"), (1, 2), ("free", "pro"))
    does = {
        said(decided(loads, ImageRequest(prompt="a cat", quality=quality, n=n), Caller.of({"user": "u", "tier": tier})))
        for quality, n, tier in every
    }
    assert all(one in check.down for one in does)
    assert check.sampled or {part.split(":")[0] for part in check.down.split(", or ")} == does


@pytest.mark.parametrize("condition", [c for c, down in CONDITIONS.items() if down.startswith("fires, or")])
def test_an_example_is_admitted_and_decided_without_scores(tmp_path: Path, condition: str) -> None:
    loads = loaded(tmp_path, condition)
    example: Any = found(loads)["late"].example
    request, caller = request_of(example), caller_of(example)
    assert said(decided(loads, request, caller)) == "fires"
    screened = decide.screen(loads.surfaces["avatars"], request, resolve_caller(loads.caller, caller)[0], NOW)
    assert screened.reasons == ()


@pytest.mark.parametrize(
    ("then", "extra", "down"),
    [
        ("deny", "", "cannot be decided: deny"),
        ("review", "", "cannot be decided: deny"),
        ("deny", "moderation: {when_unavailable: review}\n", "cannot be decided: review"),
        ("flag", "", "cannot be decided: recorded"),
        ("deny", "mode: shadow\n", "cannot be decided: recorded"),
    ],
)
def test_an_undecided_rule_does_what_the_policy_says(tmp_path: Path, then: str, extra: str, down: str) -> None:
    assert found(loaded(tmp_path, extra=extra, then=then))["late"].down == down


def test_an_exemption_that_reads_scores_makes_its_rule_late_and_does_not_apply_without_them(tmp_path: Path) -> None:
    exempt = (
        "exempt: [{rules: [late], when: scores.violence < 0.1, until: 2027-01-31, by: ada@example.com, why: trial}]\n"
    )
    check = found(loaded(tmp_path, "request.n == 2", exempt))["late"]
    assert (check.stage, check.down) == ("judge", "decides; an exemption that reads scores does not apply")
    assert found(loaded(tmp_path, "request.n == 2"))["late"].stage == "screen"


# ---- everything else --------------------------------------------------------------------------------------


def test_parameters_and_budgets_are_decided_as_ever_and_thresholds_are_not(tmp_path: Path) -> None:
    extra = "budgets: [{id: day, limit: $1 / day}]\nmoderation: {review_at: {violence: 0.3}}\n"
    rows = found(loaded(tmp_path, extra=extra))
    assert (rows["request.size"].stage, rows["request.size"].down) == ("screen", "decides")
    assert (rows["budget.day"].stage, rows["budget.day"].down) == ("reserve", "decides")
    sexual = rows["moderation.sexual"]
    assert (sexual.stage, sexual.effect, sexual.down) == ("judge", "deny at 0.5", "cannot be decided: deny")
    assert sum(what.startswith("moderation.") for what in rows) == 13


@pytest.mark.parametrize(
    ("extra", "effect", "whom"),
    [
        ("", "deny", "every request"),
        ("moderation: {when_unavailable: review}\n", "review", "every request"),
        ("moderation: {check: [input_images]}\n", "deny", "every request with input images"),
        ("mode: shadow\n", "recorded", "every request"),
    ],
)
def test_what_happens_to_the_surface_as_a_whole_is_what_the_engine_does(
    tmp_path: Path, extra: str, effect: str, whom: str
) -> None:
    loads = loaded(tmp_path, "request.n > 1", extra)
    policy = loads.surfaces["avatars"]
    down = outage(policy)
    assert (down.effect, down.whom) == (effect, whom)
    known = resolve_caller(loads.caller, Caller.of({"user": "u"}))[0]
    judged = decide.judge(decide.screen(policy, ImageRequest(prompt="a cat"), known, NOW), DOWN)
    enforced = [reason for reason in judged.reasons if reason.id == "moderation.unavailable" and reason.enforced]
    assert [(reason.effect.word, reason.place) for reason in enforced] == (
        [] if effect == "recorded" else [(effect, down.place)]
    )


def test_limits_of_the_organisation_hold_a_surface_in_shadow(tmp_path: Path) -> None:
    org = ORG + "limits: {moderation: {check: [prompt], deny_at: {default: 0.8}, when_unavailable: deny}}\n"
    loads = policies(tmp_path, org=org, avatars=SURFACE + "mode: shadow\n")
    down = outage(loads.surfaces["avatars"])
    assert (down.effect, Path(down.place.file).name) == ("deny", "org.yaml")


def test_a_rule_over_an_answer_does_what_its_question_says_while_there_is_none(tmp_path: Path) -> None:
    text = """
questions:
  logo: {ask: Is there a logo?, when_unavailable: review}
  face: {ask: Is there a face?}
rules:
  - {id: logos, when: answers.logo > 0.5 || request.n == 2, then: deny}
  - {id: faces, when: answers.face > 0.5 && answers.logo > 0.5, then: review}
review: {reviewers: [group:trust]}
"""
    policies_ = policies(tmp_path, avatars=SURFACE + text)
    policy = policies_.surfaces["avatars"]
    environment = environment_of(policies_.caller, [question.name for question in policy.questions])
    found = {check.what: check.down for check in checks(policy, environment)}
    assert (found["logos"], found["faces"]) == ("fires, or cannot be decided: review", "cannot be decided: deny")

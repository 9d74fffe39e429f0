"""Questions on their way through the flow: when they are asked, what answers decide, and what no answer means."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
from flow.test_admit import Keys, ask, run
from support import NOW, ORG, SURFACE, caller, policies, policy, request, verdict

from policyguard.decision import Admitted, Effect, Held, Kind, Refused
from policyguard.engine import decide
from policyguard.flow.admit import admit as admitting
from policyguard.flow.steps import Look, Moderate
from policyguard.policy.model import Policy, PolicySet
from policyguard.request import IMAGE_CATEGORIES, Answers, Verdict

QUESTIONS = """
questions:
  real_person: {ask: Does the prompt ask for a picture of a real person?, when_unavailable: review}
  logo: {ask: Does the prompt ask for a company's logo?}
"""
RULES = """
rules:
  - {id: real-people, when: answers.real_person > 0.7, then: review}
  - {id: free-logos, when: caller.tier == "free" && answers.logo > 0.5, then: deny}
  - {id: large, when: request.n > 1, then: deny}
review: {reviewers: [group:trust]}
"""


def answers(**given: float) -> Answers:
    return Answers(model="gpt-6-luna", probabilities=given)


def open_names(found: Policy, **changes: Any) -> list[str]:
    tier = changes.pop("tier", "free")
    screened = decide.screen(found, request(**changes), caller(tier=tier), NOW)
    return [question.name for question in decide.open_questions(screened)]


def decided(found: Policy, given: Answers | None, seen: Verdict | None = None) -> dict[str, tuple[Effect, bool]]:
    judged = decide.judge(decide.screen(found, request(), caller(), NOW), seen or verdict(), given)
    return {reason.id: (reason.effect, reason.kind is Kind.UNAVAILABLE) for reason in judged.reasons}


# ---- what is asked ----------------------------------------------------------------------------------------


def test_every_question_that_can_still_decide_something_is_asked(tmp_path: Path) -> None:
    assert open_names(policy(tmp_path, QUESTIONS + RULES)) == ["logo", "real_person"]


def test_a_question_is_not_asked_where_its_rule_is_decided_without_it(tmp_path: Path) -> None:
    assert open_names(policy(tmp_path, QUESTIONS + RULES), tier="pro") == ["real_person"]


def test_a_question_that_no_rule_reads_is_never_asked_and_changes_no_digest(tmp_path: Path) -> None:
    plain, asking = policy(tmp_path / "a"), policy(tmp_path / "b", QUESTIONS)
    assert (open_names(asking), asking.questions) == ([], ())
    assert plain.digest == asking.digest


@pytest.mark.parametrize(
    "change", [("real person?", "famous person?"), ("review}\n  logo", "deny}\n  logo"), ("0.7", "0.8")]
)
def test_what_is_asked_and_what_follows_is_part_of_the_meaning(tmp_path: Path, change: tuple[str, str]) -> None:
    text = QUESTIONS + RULES
    assert text.replace(*change) != text
    assert policy(tmp_path / "a", text).digest != policy(tmp_path / "b", text.replace(*change)).digest


def test_an_exemption_that_reads_an_answer_asks_only_where_its_rule_speaks(tmp_path: Path) -> None:
    text = (
        QUESTIONS
        + """
rules:
  - {id: many, when: request.n > 1, then: deny}
exempt:
  - {rules: [many], when: answers.logo > 0.5, until: 2027-01-31, by: ada@example.com, why: pilot}
"""
    )
    found = policy(tmp_path, text)
    assert (open_names(found, n=1), open_names(found, n=2)) == ([], ["logo"])


def test_the_organisations_questions_are_asked_for_every_surface_that_a_rule_of_theirs_is_for(tmp_path: Path) -> None:
    org = ORG + QUESTIONS + "rules: [{id: logos, when: answers.logo > 0.9, then: deny}]\n"
    found = policies(
        tmp_path,
        org=org,
        avatars=SURFACE
        + "rules: [{id: a, when: answers.real_person > 0.9, then: deny}]\n"
        + "review: {reviewers: [group:trust]}\n",
    ).surfaces["avatars"]
    assert open_names(found) == ["logo", "real_person"]


# ---- what answers decide ----------------------------------------------------------------------------------


def test_an_answer_decides_like_a_score(tmp_path: Path) -> None:
    found = policy(tmp_path, QUESTIONS + RULES)
    assert decided(found, answers(real_person=0.2, logo=0.2)) == {}
    assert decided(found, answers(real_person=0.9, logo=0.9)) == {
        "real-people": (Effect.REVIEW, False),
        "free-logos": (Effect.DENY, False),
    }


def test_the_values_of_a_reason_have_the_answer(tmp_path: Path) -> None:
    found = policy(tmp_path, QUESTIONS + RULES)
    judged = decide.judge(decide.screen(found, request(), caller(), NOW), verdict(), answers(real_person=0.9, logo=0.0))
    assert [reason.values for reason in judged.reasons] == [{"answers.real_person": 0.9}]


@pytest.mark.parametrize("given", [None, answers()])
def test_without_an_answer_each_rule_does_what_its_question_says(tmp_path: Path, given: Answers | None) -> None:
    assert decided(policy(tmp_path, QUESTIONS + RULES), given) == {
        "real-people": (Effect.REVIEW, True),
        "free-logos": (Effect.DENY, True),
    }


BOTH = (
    QUESTIONS
    + """
rules: [{id: both, when: answers.real_person > 0.7 && scores.violence > 0.2, then: deny}]
review: {reviewers: [group:trust]}
"""
)


@pytest.mark.parametrize(
    ("given", "seen", "expected"),
    [
        (answers(real_person=0.1), Verdict(model="m", error="down"), {}),
        (answers(), verdict({"violence": 0.1}), {}),
        (answers(), verdict({"violence": 0.3}), {"both": (Effect.REVIEW, True)}),
        (answers(real_person=0.9), Verdict(model="m", error="down"), {"both": (Effect.DENY, True)}),
        (answers(), Verdict(model="m", error="down"), {"both": (Effect.DENY, True)}),
    ],
)
def test_where_several_inputs_are_down_the_strictest_of_them_holds(
    tmp_path: Path, given: Answers, seen: Verdict, expected: dict[str, Any]
) -> None:
    found = decided(policy(tmp_path, BOTH), given, seen)
    assert {name: value for name, value in found.items() if not name.startswith("moderation")} == expected


def test_an_unanswered_rule_in_shadow_is_only_recorded(tmp_path: Path) -> None:
    text = QUESTIONS + "rules: [{id: a, when: answers.logo > 0.5, then: deny, mode: shadow}]\n"
    judged = decide.judge(decide.screen(policy(tmp_path, text), request(), caller(), NOW), verdict(), answers())
    assert [(reason.id, reason.enforced) for reason in judged.reasons] == [("a", False)]


# ---- the flow ---------------------------------------------------------------------------------------------


def admit(loaded: PolicySet, look: Any = None, **changes: Any) -> tuple[Any, list[Any]]:
    steps: Generator[Any, Any, Any] = admitting(loaded, ask(request(**changes)), Keys())
    return run(steps, Look=look or (verdict(), answers(real_person=0.1, logo=0.1)))


def looks(asked: list[Any]) -> list[Any]:
    return [step for step in asked if isinstance(step, Look | Moderate)]


def test_moderation_and_questions_are_one_stage(tmp_path: Path) -> None:
    answer, asked = admit(policies(tmp_path, avatars=SURFACE + QUESTIONS + RULES))
    (look,) = looks(asked)
    assert isinstance(answer, Admitted)
    assert [question.name for question in look.inquire.questions] == ["logo", "real_person"]
    assert (look.moderate.prompt, look.inquire.timeout_s) == (True, look.moderate.timeout_s)


def test_what_a_rule_denies_already_asks_nothing(tmp_path: Path) -> None:
    answer, asked = admit(policies(tmp_path, avatars=SURFACE + QUESTIONS + RULES), n=2)
    assert isinstance(answer, Refused)
    assert looks(asked) == []


def test_without_an_open_question_there_is_moderation_alone(tmp_path: Path) -> None:
    _, asked = admit(policies(tmp_path, avatars=SURFACE + QUESTIONS))
    assert [type(step) for step in looks(asked)] == [Moderate]


def test_what_answers_hold_waits_for_a_person_and_the_record_says_why(tmp_path: Path) -> None:
    given = Answers(model="gpt-6-luna", probabilities={"real_person": 0.91, "logo": 0.1}, calls=1, input_tokens=1001)
    answer, asked = admit(policies(tmp_path, avatars=SURFACE + QUESTIONS + RULES), (verdict(), given))
    assert isinstance(answer, Held)
    assert answer.decision.answers == given
    body = asked[-1].events[0].body
    assert body["questions"] == {
        "model": "gpt-6-luna",
        "answers_milli": {"logo": 100, "real_person": 910},
        "refused": [],
        "error": None,
        "calls": 1,
        "latency_ms": 0,
        "request_id": None,
        "input_tokens": 1001,
        "cost_micros": 101,
    }
    assert "real person" not in str(body)


def test_a_request_without_questions_records_none(tmp_path: Path) -> None:
    _, asked = admit(policies(tmp_path, avatars=SURFACE))
    assert asked[-1].event.body["questions"] is None


def test_a_rule_over_output_and_an_answer_does_the_strictest_of_what_is_said_of_what_is_missing(tmp_path: Path) -> None:
    rules = QUESTIONS + (
        "moderation: {check: [prompt, output_images]}\nreview: {reviewers: [group:trust]}\n"
        "rules:\n  - {id: known, when: answers.real_person > 0.5 && output.sexual > 0.2, then: deny}\n"
    )
    found = policy(tmp_path, rules)
    none = Answers(model="gpt-6-luna", error="timeout")
    down, fine = Verdict(model="m", error="timeout"), Verdict(model="m", scores=dict.fromkeys(IMAGE_CATEGORIES, 0.3))
    seen = [
        {r.id: r.effect for r in decide.inspect(found, request(), caller(), NOW, verdict(), none, output)}.get("known")
        for output in (fine, down)
    ]
    assert seen == [Effect.REVIEW, Effect.DENY]


def test_why_there_are_no_answers_is_one_word() -> None:
    with pytest.raises(ValueError, match="one word"):
        Answers(model="gpt-6-luna", error="the prompt says: a fox")

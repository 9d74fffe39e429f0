"""A case is decided as a guard decides it: what a simulation says, the real one does."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import MODEL, NOW, SURFACE, caller, request, write_policies
from support import policies as policies_of
from testing.suites import AVATARS, loaded

from policyguard.decision import Admitted, Held
from policyguard.flow.steps import Moderate
from policyguard.guard.guard import Guard
from policyguard.policy.model import PolicySet
from policyguard.request import CATEGORIES, ImageRequest, Outcome, Verdict
from policyguard.testing.simulate import NOON, Case, Simulated, simulate


@pytest.fixture
def policies(tmp_path: Path) -> PolicySet:
    return loaded(tmp_path)


def decided(policies: PolicySet, **changes: Any) -> Simulated:
    asked = {name: changes.pop(name) for name in list(changes) if name in ImageRequest.__dataclass_fields__}
    return simulate(policies, "avatars", Case(**{"request": request(**asked), "caller": caller(), **changes}))


def ids(reasons: Any) -> list[str]:
    return [reason.id for reason in reasons]


# ---- what is given ----------------------------------------------------------------------------------------


def test_scores_and_spending_are_nothing_where_a_case_says_nothing(policies: PolicySet) -> None:
    seen = decided(policies)
    assert (seen.outcome, seen.reasons, seen.shadow, seen.adjustments) == ("allow", (), (), ())
    assert seen.decision.verdict == Verdict(model="omni-moderation-latest", scores=dict.fromkeys(CATEGORIES, 0.0))


ASKING = AVATARS.replace("\nrules:\n", "\nrules:\n  - {id: logos, when: answers.logo > 0.5, then: review}\n") + (
    "questions: {logo: {ask: Is there a logo?}}\n"
)


@pytest.mark.parametrize(
    ("answers", "outcome"),
    [({}, "allow"), ({"logo": 0.6}, "review"), ({"logo": None}, "deny"), ({"logo": 0.5}, "allow")],
)
def test_questions_are_answered_as_a_case_says(tmp_path: Path, answers: Any, outcome: str) -> None:
    assert decided(loaded(tmp_path, ASKING), answers=answers).outcome == outcome


@pytest.mark.parametrize(
    ("case", "outcome", "reasons"),
    [
        ({"scores": {"violence": 0.3}}, "review", ["moderation.violence"]),
        ({"scores": {"violence": 0.5}}, "deny", ["moderation.violence", "moderation.violence"]),
        ({"scores": {"sexual": None}}, "deny", ["moderation.unavailable"]),
        ({"prompt": "a cat on a very long sofa"}, "flag", ["long"]),
        ({"spent": {"user-day": 19}}, "allow", []),
        ({"spent": {"user-day": 20}}, "deny", ["budget.user-day"]),
        ({"spent": {"month": 999_999}}, "deny", ["budget.month"]),
        ({"paused": "tenant"}, "deny", ["paused.tenant"]),
        ({"caller": caller(user=None)}, "deny", ["caller.user"]),
    ],
)
def test_what_is_given_decides(policies: PolicySet, case: Any, outcome: str, reasons: list[str]) -> None:
    seen = decided(policies, **case)
    assert (seen.outcome, ids(seen.reasons)) == (outcome, reasons)


def test_moderation_down_is_every_category_unavailable(policies: PolicySet) -> None:
    seen = decided(policies, scores=dict.fromkeys(CATEGORIES))
    assert seen.decision.verdict == Verdict(model="omni-moderation-latest", error="down")
    assert ids(seen.reasons) == ["moderation.unavailable"]


def test_what_is_only_recorded_is_shadow_budgets_included(policies: PolicySet) -> None:
    seen = decided(policies, n=2)
    assert (seen.outcome, ids(seen.shadow)) == ("allow", ["trial", "budget.tried"])


def test_an_exempted_rule_is_shadow_until_its_last_day(policies: PolicySet) -> None:
    assert ids(decided(policies, quality="high").shadow) == ["pro-quality"]
    late = decided(policies, quality="high", now=datetime(2026, 7, 1, tzinfo=UTC))
    assert ids(late.reasons) == ["pro-quality"]


def test_money_is_asked_for_only_where_a_request_comes_so_far(policies: PolicySet) -> None:
    assert decided(policies).ceiling_micros == decided(policies, scores={"violence": 0.3}).ceiling_micros
    assert decided(policies, model="nothing").ceiling_micros is None


def test_the_clock_stands_at_noon_of_a_fixed_day() -> None:
    assert NOON.isoformat() == "2026-01-15T12:00:00+00:00"


@pytest.mark.parametrize("scope", ["surface", "all", "tenant", "user"])
def test_a_pause_is_the_reason_that_a_guard_gives(tmp_path: Path, scope: Any) -> None:
    where = {"surface": "avatars", "all": "", "tenant": "acme", "user": "u1"}
    with guarded(tmp_path) as guard:
        guard.store.pause(scope, where[scope], why="a trial", by="ada@example.com", now=NOW)
        real: Any = guard.admit(request(), caller(), surface="avatars")
        assert ids(decided(guard.policies, paused=scope, now=NOW).reasons) == ids(real.decision.reasons)


# ---- as the real one --------------------------------------------------------------------------------------


class Told:
    """A moderator that says what the case says."""

    models = frozenset({"omni-moderation-latest"})
    scores: dict[str, float | None]

    def moderate(self, step: Moderate) -> Verdict:
        known = {c: self.scores.get(c, 0.0) for c in CATEGORIES}
        return Verdict(model=step.model, scores={c: score for c, score in known.items() if score is not None})

    async def amoderate(self, step: Moderate) -> Verdict:
        return self.moderate(step)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


def guarded(path: Path, moderator: Any = None, avatars: str = AVATARS) -> Guard:
    write_policies(path / "policies", avatars=avatars)
    url = f"sqlite:///{path / 'record.sqlite3'}"
    return Guard.open(path / "policies", store=url, moderator=moderator or Told(), clock=lambda: NOW)


def mostly(usual: Any, *others: Any) -> st.SearchStrategy[Any]:
    return st.sampled_from([usual] * (6 * len(others)) + list(others))


REQUESTS = st.builds(
    ImageRequest,
    prompt=mostly("a cat", "a cat on a very long sofa"),
    model=mostly(None, MODEL, "dall-e-3"),
    size=mostly(None, "1024x1024", "1536x1024", "3840x2160", "auto"),
    quality=st.sampled_from([None, "low", "high", "medium"]),
    n=st.sampled_from([None, 1, 2, 3]),
    moderation=mostly(None, "low"),
    output_format=mostly(None, "jpeg"),
)
CALLERS = st.builds(
    caller, user=mostly("u1", "u2", None), tenant=st.sampled_from(["acme", "shop"]), tier=mostly("pro", "free", "gold")
)
SCORES = st.just({}) | st.dictionaries(
    st.sampled_from(["violence", "hate", "sexual/minors"]), st.sampled_from([0.1, 0.3, 0.45, 0.6, None])
)
TIGHT = AVATARS.replace("20 images / day", "5 images / day").replace("$1 / month", "$0.30 / month")


@settings(max_examples=20, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(asked=st.lists(st.tuples(REQUESTS, CALLERS, SCORES), min_size=1, max_size=25))
def test_a_simulation_agrees_with_a_guard_on_a_database(
    tmp_path_factory: pytest.TempPathFactory, asked: list[tuple[Any, Any, Any]]
) -> None:
    moderator, spent = Told(), Counter[tuple[str, str | None]]()
    with guarded(tmp_path_factory.mktemp("guard"), moderator, TIGHT) as guard:
        for one, who, scores in asked:
            moderator.scores = scores
            real = guard.admit(one, who, surface="avatars")
            sums = {
                "user-day": spent["user-day", who.user],
                "month": spent["month", None],
                "tried": spent["tried", None],
            }
            case = Case(request=one, caller=who, scores=scores, spent=sums, now=NOW)
            seen = simulate(guard.policies, "avatars", case)
            assert seen.outcome == real.decision.effect.word
            assert seen.decision.reasons == real.decision.reasons
            assert seen.adjustments == real.decision.adjustments
            assert (seen.outcome == "review") == isinstance(real, Held)
            if isinstance(real, Admitted):
                assert seen.ceiling_micros == real.ticket.ceiling_micros
                assert guard.sent(real.ticket)
                assert guard.settle(real.ticket, Outcome()).charged_micros == seen.ceiling_micros  # presumed
                images = real.request.n or 1
                spent.update({("user-day", who.user): images, ("tried", None): images})
                spent["month", None] += real.ticket.ceiling_micros


# ---- what comes out ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("output", "outcome", "reasons"),
    [
        ({}, "allow", []),
        ({"violence": 0.9}, "deny", ["output.violence"]),
        ({"sexual": 0.4}, "review", ["output.sexual"]),
        ({"sexual": None}, "deny", ["output.unavailable"]),
        ({"violence": 0.25}, "flag", ["some-blood"]),
    ],
)
def test_output_is_looked_at_where_the_policy_says_so(
    tmp_path: Path, output: Any, outcome: str, reasons: list[str]
) -> None:
    surface = SURFACE + (
        "moderation: {check: [prompt, output_images], review_at: {sexual: 0.3}}\n"
        "review: {reviewers: [group:trust]}\n"
        "rules: [{id: some-blood, when: output.violence > 0.2 && output.violence < 0.3, then: flag}]\n"
    )
    seen = decided(policies_of(tmp_path, avatars=surface), output=output)
    assert (seen.outcome, ids(seen.reasons), seen.answered) == (outcome, reasons, True)


def test_what_is_denied_before_has_no_output(tmp_path: Path) -> None:
    surface = SURFACE + "moderation: {check: [prompt, output_images]}\n"
    seen = decided(policies_of(tmp_path, avatars=surface), scores={"hate": 0.9}, output={"violence": 0.9})
    assert (ids(seen.reasons), seen.answered) == (["moderation.hate"], False)

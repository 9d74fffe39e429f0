"""The guard as a whole: opening, the two drivers, what it does while something else is broken."""

from __future__ import annotations

import logging
import math
from collections import Counter
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from support import NOW, ORG, SURFACE, caller, request, write_policies

from policyguard.decision import Admitted, Held, Refused
from policyguard.errors import ConfigError, PolicyError
from policyguard.flow.admit import HELD_FOR
from policyguard.flow.states import LegState, ReviewState
from policyguard.guard.guard import SENT_FOR, Guard
from policyguard.moderation.keyword import KeywordModerator
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import CATEGORIES, Failure, Outcome, Usage, Verdict
from policyguard.store import ReviewConflict
from policyguard.store.breaker import PROBES

BUDGET = "budgets: [{id: day, limit: $1 / day}]\n"
REVIEW = "review: {required: true, reviewers: [group:trust], approvals: 2, expires: 4h, escalate: [{after: 30m, to: [group:oncall]}]}\n"  # noqa: E501
USAGE = Outcome(status=200, usage=Usage(output_image_tokens=196))


class Clock:
    """A clock that is set by hand."""

    def __init__(self) -> None:
        self.now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def passes(self, time: timedelta) -> None:
        self.now += time


def opened(
    tmp_path: Path, avatars: str = SURFACE, *, org: str = ORG, moderator: Any = None, clock: Any = None
) -> Guard:
    folder = write_policies(tmp_path / "policies", org=org, avatars=avatars)
    store = f"sqlite:///{tmp_path / 'record.sqlite3'}"
    return Guard.open(folder, store=store, moderator=moderator or ScriptedModerator(), clock=clock or Clock())


def admit(guard: Guard, **changes: Any) -> Any:
    return guard.admit(request(**changes), caller(), surface="avatars")


# ---- opening ----------------------------------------------------------------------------------------------


def test_a_moderator_that_does_not_serve_the_named_model_is_refused_at_open(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="names the moderation model `omni-moderation-latest`"):
        opened(tmp_path, moderator=KeywordModerator())


ASKING = (
    SURFACE
    + """
questions: {logo: {ask: Is there a logo?, when_unavailable: review}}
rules: [{id: logos, when: answers.logo > 0.5, then: review}]
review: {reviewers: [group:trust]}
"""
)


async def admitted(guard: Guard, side: str, **changes: Any) -> Any:
    if side == "sync":
        return admit(guard, **changes)
    return await guard.aadmit(request(**changes), caller(), surface="avatars")


def test_questions_need_a_moderator_that_answers_them(tmp_path: Path) -> None:
    keyword = ASKING.replace("questions:", "moderation: {model: keyword}\nquestions:")
    with pytest.raises(PolicyError, match="asks the question `logo`") as caught:
        opened(tmp_path, keyword, moderator=KeywordModerator())
    assert [problem.code for problem in caught.value.diagnostics] == ["PG507"]


@pytest.mark.anyio
@pytest.mark.parametrize("side", ["sync", "async"])
@pytest.mark.parametrize(
    ("answers", "outcome"), [({}, Admitted), ({"logo": 0.9}, Held), ({"logo": None}, Held), ({"logo": 0.5}, Admitted)]
)
async def test_answers_decide_through_the_guard(tmp_path: Path, side: str, answers: Any, outcome: type) -> None:
    scripted = ScriptedModerator(answers=answers)
    with opened(tmp_path, ASKING, moderator=scripted) as guard:
        given = (request(), caller())
        answer = (
            guard.admit(*given, surface="avatars") if side == "sync" else await guard.aadmit(*given, surface="avatars")
        )
        assert isinstance(answer, outcome)
        assert scripted.calls == 2
        (row,) = [row.event for row in guard.store.events(limit=9) if row.event.type == "request.decided"]
    assert row.body["questions"]["answers_milli"] == {
        n: v * 1000 for n, v in ({"logo": 0.0} | answers).items() if v is not None
    }


@pytest.mark.anyio
@pytest.mark.parametrize("side", ["sync", "async"])
async def test_an_answerer_that_raises_or_says_nothing_counts_as_unavailable(
    tmp_path: Path, side: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(ScriptedModerator):
        def answer(self, step: Any) -> Any:
            if step.request.n == 2:
                raise RuntimeError("a secret of the prompt")

        async def aanswer(self, step: Any) -> Any:
            return self.answer(step)

    with opened(tmp_path, ASKING, moderator=Broken()) as guard:
        for n in (1, 2):
            given = (request(n=n), caller())
            answer = (
                guard.admit(*given, surface="avatars")
                if side == "sync"
                else await guard.aadmit(*given, surface="avatars")
            )
            assert isinstance(answer, Held)
            assert answer.decision.answers is not None
            assert answer.decision.answers.error == "moderator_error"
    assert "secret" not in caplog.text


def test_without_a_key_nothing_weaker_is_chosen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    folder = write_policies(tmp_path / "policies", avatars=SURFACE)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        Guard.open(folder, store=f"sqlite:///{tmp_path / 'r.sqlite3'}")


def test_the_keyword_moderator_works_where_the_policy_names_it(tmp_path: Path) -> None:
    with opened(tmp_path, SURFACE + "moderation: {model: keyword}\n", moderator=KeywordModerator()) as guard:
        assert isinstance(admit(guard), Admitted)
        assert admit(guard, prompt="a nude portrait").code == "moderation_blocked"


def test_policies_that_do_not_load_do_not_open(tmp_path: Path) -> None:
    with pytest.raises(PolicyError):
        opened(tmp_path, SURFACE + "modes: shadow\n")


def test_another_key_does_not_open_the_same_store(tmp_path: Path) -> None:
    opened(tmp_path).close()
    (tmp_path / "record.sqlite3.key").unlink()
    with pytest.raises(ConfigError):
        opened(tmp_path)


def test_a_bad_edit_keeps_the_set_in_force(tmp_path: Path) -> None:
    with opened(tmp_path) as guard:
        before = guard.policies
        (tmp_path / "policies" / "avatars.yaml").write_text("version: 2\n")
        with pytest.raises(PolicyError):
            guard.reload()
        assert guard.policies is before


# ---- money ------------------------------------------------------------------------------------------------


def test_admit_sent_settle_charges_what_was_used(tmp_path: Path) -> None:
    with opened(tmp_path, SURFACE + BUDGET) as guard:
        answer = admit(guard)
        assert guard.sent(answer.ticket) is True
        settled = guard.settle(answer.ticket, USAGE)
        assert (settled.state, settled.charged_micros) == (LegState.SETTLED, 196 * 30)
        assert guard.settle(answer.ticket, Outcome()).changed is False
        (window,) = guard.store.budget_windows()
        assert (window.spent, window.reserved) == (5880, 0)


def test_an_unsent_ticket_runs_out_and_cannot_be_sent_any_more(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, SURFACE + BUDGET, clock=clock) as guard:
        answer = admit(guard)
        clock.passes(HELD_FOR + timedelta(seconds=1))
        assert guard.sent(answer.ticket) is False
        guard.sweep()
        (window,) = guard.store.budget_windows()
        assert (window.spent, window.reserved) == (0, 0)


def test_a_sent_ticket_that_never_comes_back_is_presumed_and_a_late_answer_still_settles(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, SURFACE + BUDGET, clock=clock) as guard:
        answer = admit(guard)
        guard.sent(answer.ticket)
        clock.passes(SENT_FOR + timedelta(seconds=1))
        admit(guard)  # the next reserve does the upkeep
        spent = guard.store.spend()[0]
        assert spent.presumed_micros == answer.ticket.ceiling_micros
        assert guard.settle(answer.ticket, USAGE).state is LegState.SETTLED
        assert guard.store.spend()[0].actual_micros == 5880


def test_a_shadow_budget_counts_and_never_refuses(tmp_path: Path) -> None:
    with opened(tmp_path, SURFACE + "budgets: [{id: day, limit: 1 images / day, mode: shadow}]\n") as guard:
        assert all(isinstance(admit(guard), Admitted) for _ in range(3))
        assert guard.store.budget_windows()[0].reserved == 3


@pytest.mark.anyio
async def test_async_code_takes_the_same_path(tmp_path: Path) -> None:
    with opened(tmp_path, SURFACE + BUDGET) as guard:
        answers: list[Any] = []

        async def one() -> None:
            answers.append(await guard.aadmit(request(n=1, quality="high"), caller(), surface="avatars"))

        async with anyio.create_task_group() as group:
            for _ in range(10):
                group.start_soon(one)
        admitted = [a for a in answers if isinstance(a, Admitted)]
        refused = [a for a in answers if isinstance(a, Refused)]
        assert (len(admitted), {a.code for a in refused}) == (4, {"policy_budget_exceeded"})
        await guard.asent(admitted[0].ticket)
        assert (await guard.asettle(admitted[0].ticket, USAGE)).changed is True


# ---- review -----------------------------------------------------------------------------------------------


def resume(guard: Guard, review_id: str) -> Any:
    return guard.admit(request(), caller(), surface="avatars", review_id=review_id)


def test_two_people_approve_before_a_request_runs_once(tmp_path: Path) -> None:
    with opened(tmp_path, SURFACE + REVIEW) as guard:
        held = admit(guard)
        assert isinstance(held, Held)
        assert guard.store.vote(held.review_id, "ada@example.com", "approve", "", NOW).state is ReviewState.HELD
        assert resume(guard, held.review_id).decision.reasons[-1].id == "review.pending"
        assert guard.store.vote(held.review_id, "grace@example.com", "approve", "", NOW).state is ReviewState.APPROVED
        answer = resume(guard, held.review_id)
        guard.sent(answer.ticket)
        guard.settle(answer.ticket, USAGE)
        assert resume(guard, held.review_id).decision.reasons[-1].id == "review.used"
        item = guard.store.review(held.review_id)
        assert item is not None
        assert item.state is ReviewState.RELEASED


def test_escalation_lets_others_decide_and_nothing_approves_by_itself(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, SURFACE + REVIEW, clock=clock) as guard:
        held = admit(guard)
        clock.passes(timedelta(minutes=31))
        guard.sweep()
        guard.store.vote(held.review_id, "oncall@example.com", "approve", "", clock())
        clock.passes(timedelta(hours=4))
        guard.sweep()
        item = guard.store.review(held.review_id)
        assert item is not None
        assert (item.level, item.state) == (1, ReviewState.EXPIRED)
        assert resume(guard, held.review_id).decision.reasons[-1].id == "review.expired"
        types = [row.event.type for row in guard.store.events(limit=100)]
        assert {"review.escalated", "review.expired"} <= set(types)


def test_levels_of_a_reopened_review_are_recorded_anew(tmp_path: Path) -> None:
    clock = Clock()
    with opened(tmp_path, SURFACE + REVIEW, clock=clock) as guard:
        held = admit(guard)
        clock.passes(timedelta(minutes=31))
        guard.sweep()
        for reviewer in ("ada@example.com", "grace@example.com"):
            guard.store.vote(held.review_id, reviewer, "approve", "", clock())
        (tmp_path / "policies" / "avatars.yaml").write_text(SURFACE.replace("{max: 2}", "{max: 3}") + REVIEW)
        guard.reload()
        resume(guard, held.review_id)
        clock.passes(timedelta(minutes=31))
        guard.sweep()
        assert len(guard.store.events(type="review.escalated")) == 2


def test_a_changed_policy_voids_the_votes(tmp_path: Path) -> None:
    with opened(tmp_path, SURFACE + REVIEW) as guard:
        held = admit(guard)
        for reviewer in ("ada@example.com", "grace@example.com"):
            guard.store.vote(held.review_id, reviewer, "approve", "", NOW)
        (tmp_path / "policies" / "avatars.yaml").write_text(SURFACE.replace("{max: 2}", "{max: 3}") + REVIEW)
        guard.reload()
        assert resume(guard, held.review_id).review_id == held.review_id
        item = guard.store.review(held.review_id)
        assert item is not None
        assert (item.state, item.round) == (ReviewState.HELD, 2)


def test_a_reopened_review_is_for_the_people_of_the_policy_in_force(tmp_path: Path) -> None:
    one = "review: {required: true, reviewers: [grace@example.com], expires: 4h}\n"
    with opened(tmp_path, SURFACE + one) as guard:
        held = admit(guard)
        guard.store.vote(held.review_id, "grace@example.com", "approve", "", NOW)
        (tmp_path / "policies" / "avatars.yaml").write_text(SURFACE + one.replace("grace@", "ada@"))
        guard.reload()
        resume(guard, held.review_id)
        with pytest.raises(ReviewConflict, match="not yours to decide"):
            guard.store.vote(held.review_id, "grace@example.com", "approve", "", NOW)
        assert guard.store.vote(held.review_id, "ada@example.com", "approve", "", NOW).state is ReviewState.APPROVED


@pytest.mark.parametrize("asking", [{"user": "Ada@Example.com"}, {"user": "u1", "engineer": "ada@example.com"}])
def test_nobody_approves_what_they_asked_for_under_another_spelling(tmp_path: Path, asking: dict[str, str]) -> None:
    org = ORG.replace("  feature: {}", "  feature: {}\n  engineer: {}")
    one = "review: {required: true, reviewers: [ada@example.com, grace@example.com], expires: 4h}\n"
    with opened(tmp_path, SURFACE + one, org=org) as guard:
        held: Any = guard.admit(request(), caller(**asking), surface="avatars")
        with pytest.raises(ReviewConflict, match="their own"):
            guard.store.vote(held.review_id, "ada@example.com", "approve", "", NOW)


def test_a_budget_refusal_at_resume_keeps_the_approval(tmp_path: Path) -> None:
    clock = Clock()
    review = "review: {required: true, reviewers: [group:trust], expires: 48h}\n"
    with opened(tmp_path, SURFACE + review + "budgets: [{id: one, limit: 1 images / day}]\n", clock=clock) as guard:
        held = [admit(guard, prompt=f"cat {i}") for i in range(2)]
        for item in held:
            guard.store.vote(item.review_id, "ada@example.com", "approve", "", NOW)
        answers = [
            guard.admit(request(prompt=f"cat {i}"), caller(), surface="avatars", review_id=h.review_id)
            for i, h in enumerate(held)
        ]
        assert (type(answers[0]), answers[1].code) == (Admitted, "policy_budget_exceeded")
        clock.passes(timedelta(days=1))
        again = guard.admit(request(prompt="cat 1"), caller(), surface="avatars", review_id=held[1].review_id)
        assert isinstance(again, Admitted)


# ---- broken things ----------------------------------------------------------------------------------------


class Broken(ScriptedModerator):
    def moderate(self, step: Any) -> Any:
        raise RuntimeError("CANARY")


def test_a_moderator_that_raises_counts_as_unavailable_and_is_not_quoted(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with opened(tmp_path, moderator=Broken()) as guard:
        answer = admit(guard, prompt="CANARY")
    assert answer.code == "policy_unavailable"
    assert "CANARY" not in caplog.text


class Says(ScriptedModerator):
    """A plug-in that was not tested."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer

    def moderate(self, step: Any) -> Any:
        return self.answer(step)


def _scored(score: Any) -> Any:
    return lambda step: Verdict(model=step.model, scores=dict.fromkeys(CATEGORIES, score))


@pytest.mark.parametrize(
    "answer",
    [lambda step: None, lambda step: {"violence": 0.0}, *map(_scored, (math.nan, -1.0, 1.5, "0", None, False))],
    ids=["nothing", "no verdict", "NaN", "below 0", "above 1", "a text", "None", "false"],
)
def test_what_a_moderator_says_without_sense_lets_nothing_pass(tmp_path: Path, answer: Any) -> None:
    with opened(tmp_path, moderator=Says(answer)) as guard:
        assert admit(guard).code == "policy_unavailable"
        refused = anyio.run(partial(guard.aadmit, request(), caller(), surface="avatars"))
    assert isinstance(refused, Refused)
    assert refused.code == "policy_unavailable"


def test_a_canary_in_the_prompt_stands_nowhere_in_the_database(tmp_path: Path) -> None:
    surface = SURFACE + REVIEW + "audit: {prompt: encrypted}\n"
    with opened(tmp_path, surface) as guard:
        admit(guard, prompt="CANARY-PROMPT", user="CANARY-USER")
        guard.admit(request(prompt="CANARY-PROMPT", n=9), caller(user="CANARY-USER"), surface="avatars")
    raw = b"".join(path.read_bytes() for path in tmp_path.glob("record.sqlite3*"))
    assert b"CANARY" not in raw


# ---- an outage --------------------------------------------------------------------------------------------

DOWN = (
    Outcome(status=500, failure=Failure.ERROR),
    Outcome(failure=Failure.TIMEOUT),
    Outcome(status=502, failure=Failure.ERROR),
    Outcome(failure=Failure.CUT),
    Outcome(failure=Failure.ERROR),  # raised
)
BIG = "budgets: [{id: day, limit: $50 / day, alert_at: [50%]}]\n"


def test_ten_minutes_of_failures_do_not_eat_the_budget(tmp_path: Path) -> None:
    """Eight requests in flight each second, half of them answered 500 and half of them cut: 20 and those in flight."""
    clock, in_flight = Clock(), 8
    with opened(tmp_path, SURFACE + BIG, clock=clock) as guard:
        codes, by_minute = Counter[str](), Counter[int]()
        for second in range(600):
            wave = [admit(guard) for _ in range(in_flight)]
            for number, answer in enumerate(wave):
                if isinstance(answer, Admitted):
                    assert guard.sent(answer.ticket)
                    guard.settle(answer.ticket, DOWN[number % len(DOWN)])
                    by_minute[second // 60] += 1
                else:
                    assert (answer.status, answer.code) == (503, "policy_unavailable")
                    assert 0 < answer.retry_after_s <= 30
                    codes[answer.decision.reasons[-1].id] += 1
            clock.passes(timedelta(seconds=1))
        assert by_minute[0] <= 20 + in_flight
        assert max(count for minute, count in by_minute.items() if minute > 0) <= 2 * PROBES  # every half minute
        assert sum(by_minute.values()) + codes["upstream.unavailable"] == 600 * in_flight
        (window,) = guard.store.budget_windows(clock())
        assert window.spent < 1_000_000  # of fifty dollars
        clock.passes(timedelta(seconds=30))
        back = admit(guard)
        guard.sent(back.ticket)
        guard.settle(back.ticket, USAGE)
        assert all(isinstance(admit(guard), Admitted) for _ in range(in_flight))


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(failure=Failure.CANCELLED),
        Outcome(status=200, failure=Failure.NO_USAGE),
        Outcome(status=400, failure=Failure.ERROR, error_code="moderation_blocked", moderation_stage="output"),
        Outcome(status=429, failure=Failure.ERROR),
        USAGE,
    ],
)
def test_what_is_no_fault_of_the_upstream_never_closes_the_door(tmp_path: Path, outcome: Outcome) -> None:
    with opened(tmp_path) as guard:
        for _ in range(30):
            admitted = admit(guard)
            assert guard.sent(admitted.ticket)
            guard.settle(admitted.ticket, outcome)
        assert isinstance(admit(guard), Admitted)


def test_an_alert_is_logged_once_and_names_nobody(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    budget = "budgets: [{id: user-day, limit: 4 requests / day, per: caller.user, alert_at: [50%, 100%]}]\n"
    with opened(tmp_path, SURFACE + budget) as guard, caplog.at_level(logging.WARNING, "policyguard"):
        answers = [admit(guard) for _ in range(5)]
    assert [isinstance(answer, Admitted) for answer in answers] == [True] * 4 + [False]
    assert caplog.messages == [f"budget `user-day` has reached {p} % of its limit" for p in (50, 100)]


def test_an_async_caller_logs_its_alerts_as_well(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    budget = "budgets: [{id: day, limit: 2 requests / day, alert_at: [50%]}]\n"
    with opened(tmp_path, SURFACE + budget) as guard, caplog.at_level(logging.WARNING, "policyguard"):
        anyio.run(partial(guard.aadmit, request(), caller(), surface="avatars"))
    assert caplog.messages == ["budget `day` has reached 50 % of its limit"]

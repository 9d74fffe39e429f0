"""The flow with scripted answers: no store, no clock, no network."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from support import MODEL, NOW, ORG, SURFACE, caller, policies, request, verdict

from policyguard.decision import Admitted, Effect, Held, Refused, Ticket
from policyguard.errors import InvalidRequest
from policyguard.flow import rows
from policyguard.flow.admit import admit as admitting
from policyguard.flow.admit import reject
from policyguard.flow.ask import Ask, Unreadable
from policyguard.flow.reasons import malformed_reason
from policyguard.flow.settle import settle as settling
from policyguard.flow.states import LegState, ReviewState
from policyguard.flow.steps import (
    CheckPaused,
    FindReview,
    Hold,
    Moderate,
    NotResumable,
    OverBudget,
    Pause,
    Record,
    Reopen,
    Reserve,
    Reserved,
    ReviewItem,
    Settle,
    Settled,
)
from policyguard.policy.model import PolicySet
from policyguard.pricing import price_book
from policyguard.request import Failure, ImageRequest, Outcome, Usage, Verdict


class Keys:
    def pseudonym(self, kind: str, text: str) -> str:
        return f"{kind}_{len(text)}"

    def safety_identifier(self, user: str) -> str:
        return "sid"


REVIEWED = SURFACE + "review: {required: true, reviewers: [group:trust], expires: 4h}\n"
PRICED = SURFACE + "budgets:\n  - {id: day, limit: $1 / day}\n  - {id: mine, per: caller.user, limit: 5 images / day}\n"


def ask(r: ImageRequest, **changes: Any) -> Ask:
    values = {"request": r, "caller": caller(), "surface": "avatars", "now": NOW} | {
        "decision_id": "dec_1",
        "leg_id": "leg_1",
        "new_review_id": "rev_1",
    }
    return Ask(**{**values, **changes})


def run(steps: Generator[Any, Any, Any], **answers: Any) -> tuple[Any, list[Any]]:
    """Drive a flow with one answer for each kind of step; answers may be functions of the step."""
    defaults: dict[str, Any] = {"CheckPaused": None, "Moderate": verdict(), "Reserve": Reserved(), "Reopen": True}
    asked: list[Any] = []
    answer: Any = None
    while True:
        try:
            step = steps.send(answer)
        except StopIteration as end:
            return end.value, asked
        asked.append(step)
        answer = {**defaults, **answers}.get(type(step).__name__)
        if isinstance(answer, Callable):  # type: ignore[arg-type]
            answer = answer(step)


def admit(folder: Path, surface: str = SURFACE, r: ImageRequest | None = None, **more: Any) -> tuple[Any, list[Any]]:
    changes = more.pop("ask", {})
    loaded: PolicySet = policies(folder, avatars=surface)
    return run(admitting(loaded, ask(r or request(), **changes), Keys()), **more)


def kinds(asked: list[Any]) -> list[str]:
    return [type(step).__name__ for step in asked]


# ---- cheap before dear ------------------------------------------------------------------------------------


def test_an_allowed_request_is_moderated_then_reserved_in_one_step(tmp_path: Path) -> None:
    answer, asked = admit(tmp_path)
    assert isinstance(answer, Admitted)
    assert kinds(asked) == ["CheckPaused", "Moderate", "Reserve"]


def test_a_door_that_sends_at_once_reserves_what_is_sent_already(tmp_path: Path) -> None:
    _, asked = admit(tmp_path, ask={"sent_for": timedelta(minutes=11)})
    assert asked[-1].sent_until == NOW + timedelta(minutes=11)
    assert admit(tmp_path)[1][-1].sent_until is None


def test_what_a_parameter_refuses_never_costs_a_moderation_call(tmp_path: Path) -> None:
    answer, asked = admit(tmp_path, r=request(n=3))
    assert isinstance(answer, Refused)
    assert (kinds(asked), answer.status, answer.code, answer.param) == (
        ["CheckPaused", "Record"],
        400,
        "policy_violation",
        "n",
    )


def test_what_moderation_refuses_never_reserves(tmp_path: Path) -> None:
    answer, asked = admit(tmp_path, Moderate=verdict({"sexual": 0.9}))
    assert (kinds(asked)[-1], answer.code) == ("Record", "moderation_blocked")


def test_moderation_down_is_a_503_and_spends_nothing(tmp_path: Path) -> None:
    answer, asked = admit(tmp_path, Moderate=Verdict(model="m", error="timeout"))
    assert (kinds(asked)[-1], answer.status, answer.code, answer.retry_after_s) == (
        "Record",
        503,
        "policy_unavailable",
        30,
    )


def test_a_pause_refuses_before_moderation(tmp_path: Path) -> None:
    answer, asked = admit(tmp_path, CheckPaused=Pause("surface", "avatars", "incident", "ada", NOW))
    assert (kinds(asked), answer.status, answer.code) == (["CheckPaused", "Record"], 403, "policy_paused")


def test_an_unknown_surface_is_refused_and_recorded(tmp_path: Path) -> None:
    answer, asked = admit(tmp_path, ask={"surface": "avatar"})
    assert (kinds(asked), answer.status, answer.code) == (["Record"], 403, "policy_no_surface")


def test_who_asks_must_be_known(tmp_path: Path) -> None:
    answer, _ = admit(tmp_path, ask={"caller": caller(user=None)})
    assert (answer.status, answer.code) == (403, "policy_caller_missing")


# ---- money ------------------------------------------------------------------------------------------------


def test_a_reservation_charges_each_budget_at_the_ceiling_in_key_order(tmp_path: Path) -> None:
    answer, asked = admit(tmp_path, PRICED, request(n=2))
    reserve = asked[-1]
    assert isinstance(reserve, Reserve)
    amounts = {c.budget_id: (c.unit, c.amount, c.limit) for c in reserve.charges}
    assert amounts == {"day": ("usd", answer.ticket.ceiling_micros, 1_000_000), "mine": ("images", 2, 5)}
    assert [c.key for c in reserve.charges] == sorted(c.key for c in reserve.charges)
    assert not any("u1" in c.key for c in reserve.charges)


def test_a_full_budget_is_a_429_that_says_which_and_when(tmp_path: Path) -> None:
    answer, asked = admit(tmp_path, PRICED, Reserve=lambda step: OverBudget(step.charges[0], 900_000, 0))
    charge = asked[2].charges[0]
    assert (answer.status, answer.type, answer.code) == (429, "insufficient_quota", "policy_budget_exceeded")
    assert answer.opens_at == charge.ends
    assert answer.decision.reasons[-1].id == f"budget.{charge.budget_id}"
    assert kinds(asked)[-2:] == ["Reserve", "Record"]


# ---- review -----------------------------------------------------------------------------------------------


def item(folder: Path, **changes: Any) -> ReviewItem:
    """The item that holding `request()` on the reviewed surface makes, already approved."""
    _, asked = admit(folder, REVIEWED)
    hold = next(step for step in asked if isinstance(step, Hold))
    names = ("review_id", "decision_id", "surface", "tenant", "user", "subject", "request_digest", "policy_digest")
    more = ("reasons", "approvals", "reviewers", "escalate", "created_at", "due_at", "ceiling_micros")
    values = {name: getattr(hold, name) for name in (*names, *more)}
    return replace(ReviewItem(**values, state=ReviewState.APPROVED, level=0, round=1), **changes)


def resume(folder: Path, found: ReviewItem | None, r: ImageRequest | None = None, **more: Any) -> tuple[Any, list[Any]]:
    changes = {"review_id": "rev_1", "new_review_id": "rev_2", "decision_id": "dec_2", **more.pop("ask", {})}
    return admit(folder, REVIEWED, r, FindReview=found, ask=changes, **more)


def test_a_request_that_needs_a_review_is_held_after_moderation_and_reserves_nothing(tmp_path: Path) -> None:
    answer, asked = admit(tmp_path, REVIEWED)
    assert isinstance(answer, Held)
    assert kinds(asked) == ["CheckPaused", "Moderate", "Hold"]
    assert answer.expires_at == NOW + timedelta(hours=4)
    assert asked[-1].reasons == ("review.required",)


def test_nothing_is_held_for_somebody_without_a_name(tmp_path: Path) -> None:
    org = ORG.replace(", required: true", "")
    loaded = policies(tmp_path, org=org, avatars=REVIEWED)
    answer, asked = run(admitting(loaded, ask(request(), caller=caller(user=None)), Keys()))
    assert (answer.code, kinds(asked)[-1]) == ("policy_caller_missing", "Record")


def test_deny_wins_over_review(tmp_path: Path) -> None:
    answer, _ = admit(tmp_path, REVIEWED, Moderate=verdict({"sexual": 0.9}))
    assert isinstance(answer, Refused)


def test_an_approved_request_is_admitted_and_consumes_the_approval_with_the_reservation(tmp_path: Path) -> None:
    answer, asked = resume(tmp_path, item(tmp_path))
    assert isinstance(answer, Admitted)
    assert (answer.decision.effect, answer.ticket.review_id) == (Effect.ALLOW, "rev_1")
    assert asked[-1].review.review_id == "rev_1"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"state": ReviewState.HELD}, "review.pending"),
        ({"state": ReviewState.REJECTED}, "review.rejected"),
        ({"state": ReviewState.RELEASED}, "review.used"),
        ({"due_at": NOW}, "review.expired"),
        ({"user": "somebody-else"}, "review.unknown"),
        ({"tenant": "somebody-else"}, "review.unknown"),
        ({"surface": "marketing"}, "review.unknown"),
    ],
)
def test_anything_but_my_own_running_approval_is_refused(tmp_path: Path, changes: dict[str, Any], reason: str) -> None:
    answer, _ = resume(tmp_path, item(tmp_path, **changes))
    assert (answer.code, answer.decision.reasons[-1].id) == ("policy_review_required", reason)


def test_an_edited_prompt_does_not_resume(tmp_path: Path) -> None:
    answer, _ = resume(tmp_path, item(tmp_path), request(prompt="a dog"))
    assert answer.decision.reasons[-1].id == "review.mismatch"


def test_an_approval_under_another_policy_is_reviewed_again(tmp_path: Path) -> None:
    answer, asked = resume(tmp_path, item(tmp_path, policy_digest="sha256:other"))
    assert (type(answer), answer.review_id, kinds(asked)[-2:]) == (Held, "rev_1", ["Reopen", "Record"])
    assert isinstance(asked[-2], Reopen)


def test_a_reason_that_the_approval_did_not_show_holds_anew(tmp_path: Path) -> None:
    answer, _ = resume(tmp_path, item(tmp_path, reasons=("something-else",)))
    assert (type(answer), answer.review_id) == (Held, "rev_2")


TWO_REASONS = REVIEWED + "rules: [{id: cats, when: request.n > 0, then: review}]\n"


@pytest.mark.parametrize(
    ("approved_for", "review_id"),
    [
        ((), "rev_2"),
        (("cats",), "rev_2"),
        (("review.required",), "rev_2"),
        (("review.required", "something-else"), "rev_2"),
        (("cats", "review.required"), None),
        (("cats", "review.required", "something-else"), None),
    ],
)
def test_an_approval_lets_through_what_it_covers_as_a_whole(
    tmp_path: Path, approved_for: tuple[str, ...], review_id: str | None
) -> None:
    """The request has two reasons: an approval for one of them is reviewed anew."""
    _, asked = admit(tmp_path, TWO_REASONS)
    digest = asked[-1].policy_digest
    found = item(tmp_path, reasons=approved_for, policy_digest=digest)
    again = {"review_id": "rev_1", "new_review_id": "rev_2", "decision_id": "dec_2"}
    answer, asked = admit(tmp_path, TWO_REASONS, FindReview=found, ask=again)
    if review_id is None:
        assert isinstance(answer, Admitted)
    else:
        assert (type(answer), answer.review_id) == (Held, review_id)
        assert asked[-1].reasons == ("cats", "review.required")


def test_the_second_resume_of_one_approval_is_refused(tmp_path: Path) -> None:
    answer, _ = resume(tmp_path, item(tmp_path), Reserve=NotResumable(ReviewState.RELEASED))
    assert answer.decision.reasons[-1].id == "review.used"


# ---- settle -----------------------------------------------------------------------------------------------

TICKET = Ticket(
    leg_id="leg_1",
    decision_id="dec_1",
    surface="avatars",
    model="gpt-image-2-2026-04-21",
    ceiling_micros=10_000,
    expires_at=NOW,
    rates=price_book().models["gpt-image-2-2026-04-21"].rates,
    record={"dimensions": {"surface": "avatars"}, "keep_days": 400},
)


def settle(outcome: Outcome, ticket: Ticket = TICKET) -> Settle:
    def done(step: Settle) -> Settled:
        return Settled(step.state, step.charge_micros or 0, 0, True)

    _, asked = run(settling(ticket, outcome, NOW), Settle=done)
    return asked[0]


def test_usage_settles_at_the_actual_cost() -> None:
    step = settle(Outcome(status=200, usage=Usage(input_text_tokens=10, output_image_tokens=196)))
    assert (step.state, step.charge_micros) == (LegState.SETTLED, 10 * 5 + 196 * 30)
    assert (step.event.id, step.event.body["actual_micros"]) == ("leg.settled:leg_1", 5930)


def test_a_cost_over_the_ceiling_is_charged_and_recorded_as_overshoot() -> None:
    step = settle(Outcome(status=200, usage=Usage(output_image_tokens=400)))
    assert (step.charge_micros, step.event.body["overshoot_micros"]) == (12_000, 2_000)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429])
def test_a_definite_unbilled_answer_releases(status: int) -> None:
    step = settle(Outcome(status=status, definite=True, failure=Failure.ERROR))
    assert (step.state, step.charge_micros, step.event.body["note"]) == (LegState.RELEASED, 0, "assumed unbilled")


@pytest.mark.parametrize(
    "outcome",
    [
        Outcome(status=400, failure=Failure.ERROR),  # an own app's answer is not definite
        Outcome(status=500, definite=True, failure=Failure.ERROR),
        Outcome(status=502, definite=True, failure=Failure.ERROR),
        Outcome(status=503, definite=True, failure=Failure.ERROR),  # without OpenAI's error body
        Outcome(status=200, definite=True, failure=Failure.NO_USAGE),
        Outcome(status=200, usage=Usage(input_text_tokens=5)),  # images without output tokens are not to be had
        Outcome(failure=Failure.TIMEOUT),
        Outcome(failure=Failure.CUT),
        Outcome(failure=Failure.CANCELLED),
        Outcome(status=400, definite=True, error_code="moderation_blocked", moderation_stage="output"),
        Outcome(status=400, definite=True, error_code="moderation_blocked"),
    ],
)
def test_anything_unsure_is_presumed_at_the_ceiling_never_zero(outcome: Outcome) -> None:
    step = settle(outcome)
    assert (step.state, step.charge_micros, step.event.body["charged_micros"]) == (LegState.PRESUMED, None, 10_000)


def test_a_block_before_generation_and_an_overload_with_its_error_body_release() -> None:
    blocked = Outcome(status=400, definite=True, error_code="moderation_blocked", moderation_stage="input")
    assert settle(blocked).state is LegState.RELEASED
    assert settle(Outcome(status=503, definite=True, error_code="server_is_overloaded")).state is LegState.RELEASED


def test_a_review_ends_with_its_leg() -> None:
    ticket = replace(TICKET, review_id="rev_1")
    released = settle(Outcome(status=200, usage=Usage()), ticket).review_event
    failed = settle(Outcome(status=429, definite=True), ticket).review_event
    assert released is not None
    assert failed is not None
    assert (released.type, failed.type) == ("review.released", "review.resume_failed")


# ---- the record -------------------------------------------------------------------------------------------


def events(asked: list[Any]) -> list[Any]:
    found: list[Any] = []
    for step in asked:
        found += [step.event] if isinstance(step, Reserve) else list(getattr(step, "events", ()))
    return found


@pytest.mark.parametrize("r", [request(), request(n=3), request(prompt="CANARY a cat", user="CANARY")])
def test_every_request_has_one_decision_row_without_prompt_or_user(tmp_path: Path, r: ImageRequest) -> None:
    canary = replace(r, prompt="CANARY " + r.prompt)
    _, asked = admit(tmp_path, r=canary, ask={"caller": caller(user="CANARY-user")})
    rows = [e for e in events(asked) if e.type == "request.decided"]
    assert len(rows) == 1
    assert "CANARY" not in repr(rows[0])
    assert rows[0].dimensions["user"] == "user_11"


def test_the_record_has_every_field_that_was_promised(tmp_path: Path) -> None:
    """Section 7 of the design, but for what the store and the settlement add."""
    seen = verdict({"violence": 0.1}, latency_ms=7, request_ids=("req_m",))
    _, asked = admit(tmp_path, PRICED, ask={"request_id": "client-1", "elapsed_ms": lambda: 9}, Moderate=seen)
    event = events(asked)[0]
    assert (event.decision_id, event.leg_id, event.dimensions["surface"], event.dimensions["tenant"]) == (
        "dec_1",
        "leg_1",
        "avatars",
        "acme",
    )
    assert event.body["request_id"] == "client-1"
    assert event.body["latency_ms"] == {"moderation": 7, "guard": 2}
    assert event.body["request"] == {
        "operation": "generate",
        "model": MODEL,
        "size": "1024x1024",
        "quality": "low",
        "n": 1,
    }
    assert event.body["moderation"].keys() >= {"model", "scores_milli", "incomplete", "error", "calls", "request_ids"}
    names = {"mode", "policy_digest", "estimated_micros", "prices_as_of", "reasons", "adjusted", "prompt_hash", "door"}
    assert event.body.keys() >= names
    step = settle(Outcome(status=200, usage=Usage(output_image_tokens=196), request_id="req_7", latency_ms=12))
    kept = {"usage", "upstream_request_id", "latency_ms", "attempts", "retry_reasons", "actual_micros", "error_code"}
    assert step.event.body.keys() >= kept


def test_scores_are_recorded_as_thousandths(tmp_path: Path) -> None:
    _, asked = admit(tmp_path, Moderate=verdict({"violence": 0.1234}))
    assert events(asked)[0].body["moderation"]["scores_milli"]["violence"] == 123


def test_bad_input_is_one_row_and_a_400(tmp_path: Path) -> None:
    loaded = policies(tmp_path, avatars=SURFACE)
    what = Unreadable(
        reason=malformed_reason(InvalidRequest("too large", status=413)),
        surface="avatars",
        caller=caller(),
        now=NOW,
        decision_id="dec_9",
        door="asgi",
    )
    answer, asked = run(reject(loaded, what, Keys()))
    assert (answer.status, answer.code, kinds(asked)) == (413, "invalid_request", ["Record"])
    assert asked[0].events[0].id == "request.decided:dec_9"


def test_the_request_digest_sees_prompt_parameters_and_images() -> None:
    base = rows.request_digest(request())
    changes: list[dict[str, Any]] = [{"prompt": "a dog"}, {"n": 2}, {"quality": "high"}, {"extra": {"a": 1}}]
    assert len({base, *(rows.request_digest(request(**c)) for c in changes)}) == len(changes) + 1
    assert rows.request_digest(request(user="someone")) == base


def test_prompts_are_kept_only_where_the_policy_says_so(tmp_path: Path) -> None:
    _, asked = admit(tmp_path / "a")
    assert asked[-1].private == ()
    _, asked = admit(tmp_path / "b", SURFACE + "audit: {prompt: encrypted, retain: {private: 30d}}\n")
    assert [(p.kind, p.plaintext, p.keep_days) for p in asked[-1].private] == [("prompt", b"a cat", 30)]


def test_moderation_is_asked_for_exactly_what_the_policy_checks(tmp_path: Path) -> None:
    _, asked = admit(tmp_path)
    moderate = next(s for s in asked if isinstance(s, Moderate))
    assert (moderate.model, moderate.prompt, moderate.images) == ("omni-moderation-latest", True, False)
    paused = next(s for s in asked if isinstance(s, CheckPaused))
    assert (paused.surface, paused.tenant, paused.user) == ("avatars", "acme", "user_2")


def test_a_refused_resume_names_the_review(tmp_path: Path) -> None:
    answer, asked = resume(tmp_path, None)
    assert (answer.review_id, answer.decision.reasons[-1].id) == ("rev_1", "review.unknown")
    assert isinstance(next(s for s in asked if isinstance(s, FindReview)), FindReview)
    assert isinstance(asked[-1], Record)


def test_a_default_org_loads(tmp_path: Path) -> None:
    assert "avatars" in policies(tmp_path, org=ORG, avatars=SURFACE).surfaces

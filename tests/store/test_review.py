from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from store.books import (
    CENTS,
    HOUR,
    MINUTE,
    NOW,
    USER,
    balance,
    charge,
    event,
    hold,
    reserve,
    resume,
    rows,
    settle,
    types,
)

from policyguard.flow.events import Event
from policyguard.flow.states import LegState, ReviewState
from policyguard.flow.steps import FindReview, NotResumable, OverBudget, Reopen, Reserved, ReviewItem
from policyguard.store import Store, Swept


def approved(store: Store, review_id: str = "rev_1") -> None:
    store.perform(hold(review_id), NOW)
    assert store.vote(review_id, "ada", "approve", "", NOW).state is ReviewState.APPROVED


def state(store: Store, review_id: str = "rev_1") -> ReviewState:
    item = store.review(review_id)
    assert item is not None
    return item.state


# ---- hold -------------------------------------------------------------------------------------------------


def test_a_held_request_is_found_as_it_was_held(store: Store) -> None:
    store.perform(hold(), NOW)
    step = hold()
    expected = ReviewItem(
        review_id="rev_1",
        decision_id="dec_rev_1",
        state=ReviewState.HELD,
        surface="avatars",
        tenant="acme",
        user=USER,
        subject=USER,
        request_digest="sha256:r",
        policy_digest="sha256:p",
        reasons=("moderation.violence",),
        approvals=1,
        reviewers=("ada", "grace", "u1"),
        escalate=step.escalate,
        created_at=NOW,
        due_at=NOW + 4 * HOUR,
        ceiling_micros=10 * CENTS,
        level=0,
        round=1,
    )
    assert store.perform(FindReview("rev_1"), NOW) == expected
    assert store.review("rev_1") == expected
    assert store.perform(FindReview("rev_2"), NOW) is None


def test_holding_twice_is_holding_once(store: Store) -> None:
    store.perform(hold(), NOW)
    store.perform(hold(), NOW)
    assert types(store) == ["request.decided", "review.held"]


def test_the_most_urgent_item_comes_first(store: Store) -> None:
    store.perform(hold("rev_1"), NOW)
    store.perform(hold("rev_2", due_at=NOW + HOUR), NOW)
    assert [item.review_id for item in store.reviews()] == ["rev_2", "rev_1"]
    assert [item.review_id for item in store.reviews(limit=1)] == ["rev_2"]
    assert store.reviews([ReviewState.APPROVED]) == []


# ---- resume -----------------------------------------------------------------------------------------------


def test_an_approval_is_consumed_once(store: Store) -> None:
    approved(store)
    assert store.perform(reserve("leg_1", review=resume(by="1")), NOW) == Reserved()
    assert store.perform(reserve("leg_2", review=resume(by="2")), NOW) == NotResumable(ReviewState.RESUMING)
    assert balance(store) == (10 * CENTS, 0)
    assert types(store, review_id="rev_1")[-1] == "review.resuming"


def test_without_an_approval_nothing_is_reserved(store: Store) -> None:
    assert store.perform(reserve("leg_1", review=resume()), NOW) == NotResumable(None)
    store.perform(hold(), NOW)
    assert store.perform(reserve("leg_1", review=resume()), NOW) == NotResumable(ReviewState.HELD)
    assert store.budget_windows() == []


def test_an_approval_that_ran_out_is_worth_nothing(store: Store) -> None:
    approved(store)
    step = reserve("leg_1", review=resume(), expires_at=NOW + 5 * HOUR)
    assert store.perform(step, NOW + 4 * HOUR) == NotResumable(ReviewState.EXPIRED)


def test_an_approval_under_another_policy_is_worth_nothing(store: Store) -> None:
    approved(store)
    step = reserve("leg_1", review=resume(digest="sha256:q"))
    assert store.perform(step, NOW) == NotResumable(ReviewState.APPROVED)


def test_a_budget_refusal_keeps_the_approval(store: Store) -> None:
    approved(store)
    over = charge(11, 10)
    assert store.perform(reserve("leg_1", over, review=resume()), NOW) == OverBudget(over, 0, 0)
    assert state(store) is ReviewState.APPROVED
    assert store.perform(reserve("leg_1", review=resume()), NOW) == Reserved()


def test_a_review_ends_with_its_leg(store: Store) -> None:
    for review, leg, end, expected in (
        ("rev_1", "leg_1", LegState.SETTLED, ReviewState.RELEASED),
        ("rev_2", "leg_2", LegState.PRESUMED, ReviewState.RELEASED),
        ("rev_3", "leg_3", LegState.RELEASED, ReviewState.RESUME_FAILED),
    ):
        approved(store, review)
        store.perform(reserve(leg, review=resume(review)), NOW)
        store.mark_sent(leg, NOW + HOUR, NOW)
        store.perform(settle(leg, end, review=review), NOW)
        assert state(store, review) is expected
        assert types(store, review_id=review)[-1] == f"review.{expected}"


def test_a_late_settle_writes_no_second_end_of_the_review(store: Store) -> None:
    approved(store)
    store.perform(reserve("leg_1", review=resume()), NOW)
    store.mark_sent("leg_1", NOW + HOUR, NOW)
    store.perform(settle("leg_1", LegState.PRESUMED, review="rev_1"), NOW)
    store.perform(settle("leg_1", LegState.RELEASED, review="rev_1"), NOW)
    assert state(store) is ReviewState.RELEASED
    assert types(store, review_id="rev_1").count("review.released") == 1
    assert "review.resume_failed" not in types(store)


# ---- reopen -----------------------------------------------------------------------------------------------


def to_reopen(review_id: str, reopened: Event) -> Reopen:
    return Reopen(
        review_id=review_id,
        policy_digest="sha256:q",
        reasons=("real-people",),
        approvals=1,
        reviewers=("oncall", "ada"),
        escalate=(),
        ceiling_micros=7,
        due_at=NOW + timedelta(hours=1),
        event=reopened,
    )


def reopen(store: Store, review_id: str = "rev_1") -> bool:
    reopened = event("review.reopened", f"{review_id}:dec", review_id=review_id)
    done: bool = store.perform(to_reopen(review_id, reopened), NOW)
    return done


def test_a_changed_policy_voids_the_votes(store: Store) -> None:
    approved(store)
    assert reopen(store)
    item = store.review("rev_1")
    assert item is not None
    assert (item.state, item.round, item.policy_digest, item.reasons) == (
        ReviewState.HELD,
        2,
        "sha256:q",
        ("real-people",),
    )
    assert (item.reviewers, item.escalate, item.ceiling_micros, item.level) == (("oncall", "ada"), (), 7, 0)
    assert store.vote("rev_1", "ada", "approve", "", NOW).state is ReviewState.APPROVED


def test_only_an_approved_item_is_reopened(store: Store) -> None:
    store.perform(hold(), NOW)
    assert not reopen(store)
    assert not reopen(store, "rev_9")
    assert "review.reopened" not in types(store)


# ---- time -------------------------------------------------------------------------------------------------


def test_levels_escalate_once_each_when_their_time_comes(store: Store) -> None:
    store.perform(hold(), NOW)
    assert store.sweep(NOW + 29 * MINUTE) == Swept()
    assert [store.sweep(NOW + 30 * MINUTE), store.sweep(NOW + 31 * MINUTE)] == [Swept(escalated=1), Swept()]
    assert store.sweep(NOW + 2 * HOUR) == Swept(escalated=1)
    item = store.review("rev_1")
    assert item is not None
    assert item.level == 2
    levels = [e.event.body["level"] for e in store.events(type="review.escalated")]
    assert levels == [1, 2]


def test_after_a_reopening_times_and_people_count_anew(store: Store) -> None:
    """Levels that fired before fire again, at the times and to the people of the reopening."""
    store.perform(hold(), NOW)
    assert store.sweep(NOW + 30 * MINUTE) == Swept(escalated=1)
    store.vote("rev_1", "ada", "approve", "", NOW + 31 * MINUTE)
    again = NOW + 40 * MINUTE
    reopened = event("review.reopened", "rev_1:dec", review_id="rev_1")
    steps = ((again + 30 * MINUTE, ("lead",)), (again + HOUR, ("chief",)))
    assert store.perform(replace(to_reopen("rev_1", reopened), escalate=steps, due_at=again + 4 * HOUR), again)
    found = store.review("rev_1")
    assert found is not None
    assert (found.level, found.escalate, found.due_at) == (0, steps, again + 4 * HOUR)
    assert store.sweep(again + 29 * MINUTE) == Swept()
    assert store.sweep(again + 30 * MINUTE) == Swept(escalated=1)
    found = store.review("rev_1")
    assert found is not None
    assert (found.level, found.round) == (1, 2)
    assert store.sweep(again + HOUR) == Swept(escalated=1)
    assert [e.event.body["level"] for e in store.events(type="review.escalated")] == [1, 1, 2]
    assert store.vote("rev_1", "chief", "approve", "", again + HOUR).state is ReviewState.APPROVED


def test_levels_that_were_missed_all_fire(store: Store) -> None:
    store.perform(hold(), NOW)
    assert store.sweep(NOW + 3 * HOUR) == Swept(escalated=2)


def test_what_nobody_decides_runs_out(store: Store) -> None:
    store.perform(hold("rev_1", escalate=()), NOW)
    approved(store, "rev_2")
    assert store.sweep(NOW + 4 * HOUR) == Swept(expired=2)
    assert (state(store), state(store, "rev_2")) == (ReviewState.EXPIRED, ReviewState.EXPIRED)
    assert types(store).count("review.expired") == 2
    assert store.sweep(NOW + 5 * HOUR) == Swept()


def test_a_decided_item_neither_escalates_nor_runs_out(store: Store) -> None:
    store.perform(hold(), NOW)
    store.vote("rev_1", "ada", "reject", "no", NOW)
    assert store.sweep(NOW + 5 * HOUR) == Swept()


def test_the_request_of_a_held_item_is_encrypted(store: Store, url: str) -> None:
    step = hold()
    store.perform(replace(step, private=step.private), NOW)
    assert rows(url, "SELECT id, kind, subject FROM private") == [("request:rev_1", "request", USER)]
    assert store.private("request:rev_1", by="ada", now=NOW) == b"a secret prompt"

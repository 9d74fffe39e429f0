from __future__ import annotations

from dataclasses import replace

import pytest
from store.books import (
    CENTS,
    HOUR,
    MINUTE,
    NOW,
    USER,
    assert_books_balance,
    balance,
    charge,
    hold,
    reserve,
    resume,
    settle,
    types,
)

from policyguard.flow.states import LegState, ReviewState
from policyguard.flow.steps import OverBudget, Reserved, Settled
from policyguard.store import Store, Swept


def test_a_held_leg_is_released_when_its_time_passes(store: Store, url: str) -> None:
    store.perform(reserve("leg_1"), NOW)
    assert store.sweep(NOW + MINUTE - MINUTE / 60) == Swept()
    assert store.sweep(NOW + MINUTE) == Swept(released=1)
    assert balance(store) == (0, 0)
    assert_books_balance(url)


def test_a_sent_leg_is_presumed_at_its_ceiling(store: Store, url: str) -> None:
    store.perform(reserve("leg_1"), NOW)
    store.mark_sent("leg_1", NOW + HOUR, NOW)
    assert store.sweep(NOW + HOUR) == Swept(presumed=1)
    assert balance(store) == (0, 10 * CENTS)
    assert_books_balance(url)


def test_sweeping_twice_is_sweeping_once(store: Store) -> None:
    store.perform(reserve("leg_1"), NOW)
    store.mark_sent("leg_1", NOW + HOUR, NOW)
    assert [store.sweep(NOW + HOUR), store.sweep(NOW + HOUR)] == [Swept(presumed=1), Swept()]
    assert types(store) == ["request.decided", "leg.presumed"]


def test_more_than_one_batch_is_swept_to_its_end(store: Store, url: str) -> None:
    for i in range(205):
        store.perform(reserve(f"leg_{i}", charge(1, 1_000)), NOW)
    assert store.sweep(NOW + HOUR) == Swept(released=205)
    assert_books_balance(url)


def test_a_reserve_first_frees_what_ran_out(store: Store, url: str) -> None:
    full = charge(100, 100)
    store.perform(reserve("leg_1", full), NOW)
    assert store.perform(reserve("leg_2", full), NOW) == OverBudget(full, spent=0, reserved=100)
    assert store.perform(reserve("leg_3", full, expires_at=NOW + HOUR), NOW + MINUTE) == Reserved()
    assert balance(store) == (100, 0)
    assert "leg.released" in types(store)
    assert_books_balance(url)


def test_a_late_settle_after_the_sweep_still_settles(store: Store, url: str) -> None:
    store.perform(reserve("leg_1"), NOW)
    store.mark_sent("leg_1", NOW + HOUR, NOW)
    store.sweep(NOW + HOUR)
    assert store.perform(settle("leg_1"), NOW) == Settled(LegState.SETTLED, 4 * CENTS, 10 * CENTS, changed=True)
    assert balance(store) == (0, 4 * CENTS)
    assert_books_balance(url)


def test_the_row_of_a_swept_leg_says_what_a_guard_would_say(store: Store) -> None:
    store.perform(reserve("leg_1"), NOW)
    store.mark_sent("leg_1", NOW + HOUR, NOW)
    store.sweep(NOW + HOUR)
    row = store.events()[-1].event
    assert (row.id, row.outcome, row.at) == ("leg.presumed:leg_1", "presumed", NOW + HOUR)
    assert (row.decision_id, row.leg_id, row.keep_days) == ("dec_leg_1", "leg_1", 400)
    assert (row.dimensions["surface"], row.dimensions["user"]) == ("avatars", USER)
    assert row.body == {
        "mode": "enforce",
        "policy_digest": "sha256:p",
        "ceiling_micros": 10 * CENTS,
        "charged_micros": 10 * CENTS,
        "actual_micros": None,
        "overshoot_micros": 0,
        "note": "no outcome before its time passed",
    }


FULL = {
    "door": "asgi",
    "request_id": "req_1",
    "retry_of": "dec_0",
    "mode": "enforce",
    "stakes": "low",
    "policy_digest": "sha256:p",
    "request": {"model": "m", "size": "1024x1024", "quality": "low", "n": 1},
    "moderation_parameter": "forced",
    "estimated_micros": 7,
    "prices_as_of": "2026-11-22",
    "prices_digest": "sha256:b",
    "dimensions": {"surface": "avatars", "user": "user_1"},
    "keep_days": 400,
}


@pytest.mark.parametrize("sent", [False, True])
def test_the_row_of_a_swept_leg_has_all_that_its_decision_knew(store: Store, sent: bool) -> None:
    """Every field of a settled leg's row that no answer of the upstream has to say."""
    step = reserve("leg_1")
    store.perform(replace(step, event=replace(step.event, body={**FULL, "asked": {"n": 1}, "reasons": []})), NOW)
    if sent:
        store.mark_sent("leg_1", NOW + HOUR, NOW)
    store.sweep(NOW + HOUR)
    row = store.events()[-1].event
    assert row.type == ("leg.presumed" if sent else "leg.released")
    assert row.body == {
        **FULL,
        "ceiling_micros": 10 * CENTS,
        "charged_micros": 10 * CENTS if sent else 0,
        "actual_micros": None,
        "overshoot_micros": 0,
        "note": "no outcome before its time passed" if sent else "never sent",
    }


def test_a_review_ends_with_the_leg_that_ran_out(store: Store) -> None:
    for number, goes in ((1, False), (2, True)):
        review, leg = f"rev_{number}", f"leg_{number}"
        store.perform(hold(review), NOW)
        store.vote(review, "ada", "approve", "", NOW)
        store.perform(reserve(leg, review=resume(review)), NOW)
        assert store.mark_sent(leg, NOW + HOUR, NOW) if goes else True
    assert store.sweep(NOW + HOUR) == Swept(released=1, presumed=1)
    states = {item.review_id: item.state for item in store.reviews(ReviewState)}
    assert states == {"rev_1": ReviewState.RESUME_FAILED, "rev_2": ReviewState.RELEASED}
    assert types(store, review_id="rev_1")[-1] == "review.resume_failed"
    assert types(store, review_id="rev_2")[-1] == "review.released"

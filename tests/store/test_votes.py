from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from typing import Any

import pytest
from store.books import HOUR, MINUTE, NOW, VAULT, hold, types

from policyguard.flow.states import ReviewState
from policyguard.flow.steps import Vote
from policyguard.store import ReviewConflict, Store


def conflict(vote: Callable[[], Any]) -> str:
    with pytest.raises(ReviewConflict) as raised:
        vote()
    return raised.value.code


def approve(store: Store, who: str = "ada", at: datetime = NOW, **more: Any) -> ReviewState:
    return store.vote("rev_1", who, "approve", "fine", at, **more).state


def test_one_approval_is_enough_where_one_is_asked_for(store: Store) -> None:
    store.perform(hold(), NOW)
    item = store.vote("rev_1", "ada", "approve", "looks harmless", NOW)
    assert (item.state, item.votes) == (ReviewState.APPROVED, (Vote("ada", "approve", 1, NOW, "looks harmless"),))
    assert types(store, review_id="rev_1")[-2:] == ["review.voted", "review.approved"]


def test_two_approvals_need_two_people(store: Store) -> None:
    store.perform(hold(approvals=2), NOW)
    assert approve(store, "ada") is ReviewState.HELD
    assert conflict(lambda: approve(store, "ada")) == "voted"
    assert approve(store, "grace") is ReviewState.APPROVED


def test_any_rejection_rejects(store: Store) -> None:
    store.perform(hold(approvals=2), NOW)
    approve(store, "ada")
    assert store.vote("rev_1", "grace", "reject", "a real person", NOW).state is ReviewState.REJECTED
    assert types(store, review_id="rev_1")[-1] == "review.rejected"


def test_nobody_decides_a_request_of_their_own(store: Store) -> None:
    store.perform(hold(), NOW)
    assert conflict(lambda: approve(store, "u1")) == "own_request"


def test_only_reviewers_decide(store: Store) -> None:
    store.perform(hold(), NOW)
    assert conflict(lambda: approve(store, "mallory")) == "not_reviewer"


def test_a_level_decides_from_its_time_on(store: Store) -> None:
    store.perform(hold(), NOW)
    assert conflict(lambda: approve(store, "oncall", NOW + 29 * MINUTE)) == "not_reviewer"
    assert conflict(lambda: approve(store, "boss", NOW + 30 * MINUTE)) == "not_reviewer"
    assert approve(store, "oncall", NOW + 30 * MINUTE) is ReviewState.APPROVED


def test_a_decided_item_stays_decided(store: Store) -> None:
    store.perform(hold(), NOW)
    approve(store)
    assert conflict(lambda: store.vote("rev_1", "grace", "reject", "", NOW)) == "decided"


def test_a_vote_after_the_time_does_not_count(store: Store) -> None:
    store.perform(hold(), NOW)
    assert conflict(lambda: approve(store, at=NOW + 4 * HOUR)) == "expired"


def test_a_vote_on_another_policy_does_not_count(store: Store) -> None:
    store.perform(hold(), NOW)
    assert conflict(lambda: approve(store, policy_digest="sha256:old")) == "changed"
    assert approve(store, policy_digest="sha256:p") is ReviewState.APPROVED


def test_an_unknown_item_is_said(store: Store) -> None:
    assert conflict(lambda: approve(store)) == "unknown"


def test_a_vote_that_does_not_count_leaves_nothing(store: Store) -> None:
    store.perform(hold(), NOW)
    before = types(store)
    conflict(lambda: approve(store, "mallory"))
    assert types(store) == before
    assert approve(store) is ReviewState.APPROVED


def test_the_record_knows_reviewers_by_pseudonym_only(store: Store) -> None:
    store.perform(hold(), NOW)
    store.vote("rev_1", "ada", "reject", "shows my neighbour", NOW)
    text = repr(store.events(review_id="rev_1"))
    assert VAULT.pseudonym("user", "ada") in text
    assert "neighbour" not in text
    assert "'ada'" not in text


def test_votes_at_the_same_time_decide_once(store: Store) -> None:
    people = tuple(f"reviewer-{i}" for i in range(12))
    store.perform(hold(approvals=4, reviewers=people), NOW)

    def vote(who: str) -> str:
        try:
            return approve(store, who).value
        except ReviewConflict as error:
            return error.code

    with ThreadPoolExecutor(len(people)) as pool:
        answers = sorted(pool.map(vote, people))
    assert answers == sorted(["held"] * 3 + ["approved"] + ["decided"] * 8)
    assert types(store).count("review.approved") == 1

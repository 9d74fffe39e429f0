"""Presumed legs are listed, and put right by somebody with a name, in the window that was charged."""

from __future__ import annotations

from datetime import timedelta

import pytest
from store.books import CENTS, DAY, HOUR, NOW, assert_books_balance, balance, charge, reserve, rows, settle, types

from policyguard.errors import ConfigError, PolicyguardError
from policyguard.flow.states import LegState
from policyguard.flow.steps import Settled
from policyguard.request import Usage
from policyguard.store import PresumedLeg, Store

LATER = NOW + timedelta(days=3)


@pytest.fixture
def presumed(store: Store) -> Store:
    """One leg that its process lost, one that was presumed with an outcome."""
    for leg in ("lost", "known"):
        store.perform(reserve(leg, charge(key="usd"), charge(2, 9, key="images", unit="images"), n=2), NOW)
        store.mark_sent(leg, NOW + HOUR, NOW)
    store.perform(settle("known", LegState.PRESUMED), NOW)
    store.sweep(NOW + HOUR)
    return store


def right(store: Store, leg: str, cost: int | None, by: str = "ada@example.com", usage: Usage | None = None) -> Settled:
    return store.reconcile(leg, cost, by=by, why="the invoice says so", now=LATER, usage=usage)


def test_presumed_legs_are_listed_the_oldest_first(presumed: Store) -> None:
    found = presumed.presumed()
    assert [(leg.leg_id, leg.at, leg.why) for leg in found] == [("known", NOW, "lost"), ("lost", NOW + HOUR, "lost")]
    assert found[0] == PresumedLeg(
        leg_id="known",
        decision_id="dec_known",
        at=NOW,
        surface="avatars",
        model="m",
        size="1024x1024",
        quality="low",
        n=2,
        charged_micros=10 * CENTS,
        request_id=None,
        why="lost",
    )


def test_it_is_settled_at_what_it_cost(presumed: Store, url: str) -> None:
    usage = Usage(output_image_tokens=7)
    assert right(presumed, "lost", 3 * CENTS, usage=usage) == Settled(LegState.SETTLED, 3 * CENTS, 10 * CENTS, True)
    assert (balance(presumed, "usd"), balance(presumed, "images")) == ((0, 13 * CENTS), (0, 4))
    assert [leg.leg_id for leg in presumed.presumed()] == ["known"]
    (row,) = presumed.events(type="leg.settled")
    assert (row.event.body["note"], row.event.body["actual_micros"]) == ("reconciled", 3 * CENTS)
    assert row.event.body["usage"]["output_image_tokens"] == 7
    assert row.event.dimensions["surface"] == "avatars"
    assert_books_balance(url)


def test_it_is_given_back_into_the_window_that_was_charged(presumed: Store, url: str) -> None:
    presumed.perform(reserve("now", charge(key="usd", starts=DAY + timedelta(days=3))), LATER)
    right(presumed, "lost", None)
    windows = {(w.key, w.starts): (w.reserved, w.spent) for w in presumed.budget_windows()}
    assert windows["usd", DAY] == (0, 10 * CENTS)
    assert windows["usd", DAY + timedelta(days=3)] == (10 * CENTS, 0)
    assert windows["images", DAY] == (0, 2)
    assert_books_balance(url)


def test_it_is_done_once(presumed: Store) -> None:
    right(presumed, "lost", None)
    assert right(presumed, "lost", 5) == Settled(LegState.RELEASED, 0, 10 * CENTS, changed=False)
    assert types(presumed, leg_id="lost") == ["request.decided", "leg.presumed", "leg.released"]


def test_only_a_presumed_leg_is_put_right(store: Store) -> None:
    store.perform(reserve("leg_1"), NOW)
    assert right(store, "leg_1", None).changed is False
    store.mark_sent("leg_1", NOW + HOUR, NOW)
    assert right(store, "leg_1", 1).state is LegState.SENT
    assert balance(store) == (10 * CENTS, 0)


def test_a_late_outcome_does_not_undo_it(presumed: Store) -> None:
    right(presumed, "lost", None)
    assert presumed.perform(settle("lost"), LATER).state is LegState.RELEASED
    assert balance(presumed, "usd") == (0, 10 * CENTS)


@pytest.mark.parametrize("by", ["", "  "])
def test_nobody_puts_nothing_right(presumed: Store, by: str) -> None:
    with pytest.raises(ConfigError, match="somebody with a name"):
        right(presumed, "lost", None, by=by)


def test_the_name_and_the_reason_are_kept_encrypted(presumed: Store, url: str) -> None:
    right(presumed, "lost", None)
    (row,) = presumed.events(type="leg.released")
    assert row.event.body["by"].startswith("user_")
    assert "ada" not in str(rows(url, "SELECT body FROM events"))
    note = presumed.private(row.event.body["note_id"], by="grace", now=LATER)
    assert note == b'["ada@example.com","the invoice says so"]'


def test_a_leg_that_does_not_exist_is_said(store: Store) -> None:
    with pytest.raises(PolicyguardError, match="no leg `leg_9`"):
        right(store, "leg_9", None)


def test_several_are_put_right_together_or_not_at_all(presumed: Store) -> None:
    costs = {"known": (2 * CENTS, None), "nowhere": (1, None)}
    with pytest.raises(PolicyguardError, match="there is no leg `nowhere`"):
        presumed.reconcile_all(costs, by="ada@example.com", why="the invoice", now=LATER)
    assert [leg.leg_id for leg in presumed.presumed()] == ["known", "lost"]
    costs = {"known": (2 * CENTS, None), "lost": (3 * CENTS, None)}
    done = presumed.reconcile_all(costs, by="ada@example.com", why="the invoice", now=LATER)
    assert [(leg, one.charged_micros, one.changed) for leg, one in done.items()] == [
        ("known", 2 * CENTS, True),
        ("lost", 3 * CENTS, True),
    ]
    assert presumed.presumed() == []

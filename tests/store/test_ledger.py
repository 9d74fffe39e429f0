from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from store.books import (
    CENTS,
    DAY,
    HOUR,
    MINUTE,
    NOW,
    assert_books_balance,
    balance,
    charge,
    reserve,
    rows,
    settle,
    types,
)

from policyguard.errors import PolicyguardError
from policyguard.flow.states import LegState
from policyguard.flow.steps import OverBudget, Reserved, Settled
from policyguard.store import Store, Swept


def sent(store: Store, leg: str = "leg_1", **facts: object) -> None:
    assert store.perform(reserve(leg, **facts), NOW) == Reserved()
    assert store.mark_sent(leg, NOW + HOUR, NOW)


# ---- reserve ----------------------------------------------------------------------------------------------


def test_a_reservation_holds_its_ceiling_in_every_budget(store: Store, url: str) -> None:
    answer = store.perform(reserve("leg_1", charge(key="a"), charge(2, 5, key="b", unit="images")), NOW)
    assert answer == Reserved()
    assert (balance(store, "a"), balance(store, "b")) == ((10 * CENTS, 0), (2, 0))
    assert_books_balance(url)


def test_the_last_cent_fits_and_one_more_does_not(store: Store) -> None:
    assert store.perform(reserve("leg_1", charge(60, 100)), NOW) == Reserved()
    over = charge(41, 100)
    assert store.perform(reserve("leg_2", over), NOW) == OverBudget(over, spent=0, reserved=60)
    assert store.perform(reserve("leg_3", charge(40, 100)), NOW) == Reserved()
    assert balance(store) == (100, 0)


def test_a_first_charge_beyond_the_limit_makes_no_window(store: Store) -> None:
    over = charge(101, 100)
    assert store.perform(reserve("leg_1", over), NOW) == OverBudget(over, spent=0, reserved=0)
    assert store.budget_windows() == []


def test_a_refusal_changes_nothing(store: Store, url: str) -> None:
    room, none = charge(key="a"), charge(11, 10, key="b")
    assert store.perform(reserve("leg_1", none, room), NOW) == OverBudget(none, spent=0, reserved=0)
    assert store.budget_windows() == []
    assert store.events() == []
    assert rows(url, "SELECT * FROM legs") == []


def test_the_first_budget_without_room_in_key_order_is_named(store: Store) -> None:
    b, a = charge(11, 10, key="b"), charge(21, 20, key="a")
    assert store.perform(reserve("leg_1", b, a), NOW) == OverBudget(a, spent=0, reserved=0)


def test_asking_twice_answers_as_the_first_time(store: Store) -> None:
    step = reserve("leg_1", charge(60, 100))
    assert [store.perform(step, NOW), store.perform(step, NOW)] == [Reserved(), Reserved()]
    assert balance(store) == (60, 0)
    assert types(store) == ["request.decided"]


def test_a_shadow_budget_counts_and_never_refuses(store: Store) -> None:
    shadow = charge(60, 50, key="shadow", mode="shadow")
    step = reserve("leg_1", shadow, charge(60, 100))
    assert store.perform(step, NOW) == Reserved(over=("shadow",))
    assert store.perform(step, NOW) == Reserved(over=("shadow",))
    assert balance(store, "shadow") == (60, 0)


def test_a_changed_limit_keeps_what_was_spent(store: Store) -> None:
    store.perform(reserve("leg_1", charge(60, 100)), NOW)
    over = charge(10, 65)
    assert store.perform(reserve("leg_2", over), NOW) == OverBudget(over, spent=0, reserved=60)
    assert store.perform(reserve("leg_3", charge(10, 200)), NOW) == Reserved()
    assert [(w.limit, w.reserved) for w in store.budget_windows()] == [(200, 70)]


def test_another_window_has_its_own_balance(store: Store) -> None:
    tomorrow = charge(80, 100, starts=DAY + timedelta(days=1))
    assert store.perform(reserve("leg_1", charge(80, 100)), NOW) == Reserved()
    assert store.perform(reserve("leg_2", tomorrow), NOW) == Reserved()
    assert [w.reserved for w in store.budget_windows(NOW)] == [80]
    assert [w.reserved for w in store.budget_windows()] == [80, 80]


def test_the_decision_row_says_how_full_each_budget_was(store: Store) -> None:
    store.perform(reserve("leg_1", charge(60, 100)), NOW)
    store.perform(reserve("leg_2", charge(10, 100)), NOW)
    body = store.events()[-1].event.body
    assert body["budgets"] == [
        {
            "id": "day",
            "window": "2026-11-24T00:00:00+00:00",
            "before": 60,
            "after": 70,
            "limit": 100,
            "unit": "usd",
            "mode": "enforce",
        }
    ]


def test_a_request_without_budgets_has_a_leg_all_the_same(store: Store, url: str) -> None:
    step = reserve("leg_1")
    bare = type(step)(**{**{n: getattr(step, n) for n in step.__slots__}, "charges": ()})
    assert store.perform(bare, NOW) == Reserved()
    assert rows(url, "SELECT leg_id, state FROM legs") == [("leg_1", "held")]


# ---- sent -------------------------------------------------------------------------------------------------


def test_only_an_unexpired_held_leg_is_sent(store: Store) -> None:
    store.perform(reserve("leg_1"), NOW)
    assert not store.mark_sent("leg_1", NOW + HOUR, NOW + MINUTE)
    assert store.mark_sent("leg_1", NOW + HOUR, NOW + 59 * timedelta(seconds=1))
    assert not store.mark_sent("leg_2", NOW + HOUR, NOW)


def test_a_sent_leg_gets_more_time_and_an_ended_one_none(store: Store) -> None:
    sent(store)
    assert not store.mark_sent("leg_1", NOW + 2 * HOUR, NOW)  # a reservation is sent once
    assert store.renew("leg_1", NOW + 3 * HOUR)
    assert store.sweep(NOW + 2 * HOUR).presumed == 0
    store.perform(settle("leg_1"), NOW)
    assert not store.renew("leg_1", NOW + 4 * HOUR)
    assert not store.mark_sent("leg_1", NOW + 4 * HOUR, NOW)


def test_a_request_that_is_sent_at_once_is_reserved_as_sent(store: Store, url: str) -> None:
    store.perform(replace(reserve("leg_1"), sent_until=NOW + HOUR), NOW)
    assert not store.mark_sent("leg_1", NOW + 2 * HOUR, NOW)
    assert store.sweep(NOW + 2 * MINUTE) == Swept()
    assert rows(url, "SELECT state, sent_us = created_us FROM legs") == [("sent", True)]
    assert store.sweep(NOW + HOUR).presumed == 1
    assert balance(store) == (0, 10 * CENTS)
    assert_books_balance(url)


# ---- settle -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "cost", "spent"),
    [(LegState.SETTLED, 4 * CENTS, 4 * CENTS), (LegState.RELEASED, 0, 0), (LegState.PRESUMED, None, 10 * CENTS)],
)
def test_a_leg_ends_with_what_it_cost(store: Store, url: str, state: LegState, cost: int | None, spent: int) -> None:
    sent(store)
    answer = store.perform(settle("leg_1", state, cost), NOW)  # type: ignore[arg-type]
    assert answer == Settled(state, spent, 10 * CENTS, changed=True)
    assert balance(store) == (0, spent)
    assert_books_balance(url)


def test_images_are_charged_in_full_unless_released(store: Store, url: str) -> None:
    for leg in ("leg_1", "leg_2"):
        assert store.perform(reserve(leg, charge(2, 5, unit="images")), NOW) == Reserved()
        assert store.mark_sent(leg, NOW + HOUR, NOW)
    store.perform(settle("leg_1"), NOW)
    store.perform(settle("leg_2", LegState.RELEASED), NOW)
    assert balance(store) == (0, 2)
    assert_books_balance(url)


def test_a_second_end_is_answered_with_the_first(store: Store) -> None:
    sent(store)
    store.perform(settle("leg_1"), NOW)
    for again in (settle("leg_1", cost=9), settle("leg_1", LegState.RELEASED), settle("leg_1", LegState.PRESUMED)):
        assert store.perform(again, NOW) == Settled(LegState.SETTLED, 4 * CENTS, 10 * CENTS, changed=False)
    assert balance(store) == (0, 4 * CENTS)
    assert types(store) == ["request.decided", "leg.settled"]


def test_a_late_settle_corrects_what_was_presumed(store: Store, url: str) -> None:
    sent(store)
    store.perform(settle("leg_1", LegState.PRESUMED), NOW)
    answer = store.perform(settle("leg_1"), NOW)
    assert answer == Settled(LegState.SETTLED, 4 * CENTS, 10 * CENTS, changed=True)
    assert balance(store) == (0, 4 * CENTS)
    assert_books_balance(url)


def test_a_presumed_leg_can_be_given_back(store: Store, url: str) -> None:
    store.perform(reserve("leg_1", charge(key="usd"), charge(2, 5, key="images", unit="images")), NOW)
    store.mark_sent("leg_1", NOW + HOUR, NOW)
    store.perform(settle("leg_1", LegState.PRESUMED), NOW)
    assert (balance(store, "usd"), balance(store, "images")) == ((0, 10 * CENTS), (0, 2))
    store.perform(settle("leg_1", LegState.RELEASED), NOW)
    assert (balance(store, "usd"), balance(store, "images")) == ((0, 0), (0, 0))
    assert_books_balance(url)


def test_a_cost_above_the_ceiling_is_kept(store: Store, url: str) -> None:
    sent(store)
    store.perform(settle("leg_1", cost=15 * CENTS), NOW)
    assert balance(store) == (0, 15 * CENTS)
    assert_books_balance(url)


def test_what_was_used_is_charged_even_where_nobody_said_that_it_was_sent(store: Store) -> None:
    store.perform(reserve("leg_1"), NOW)
    assert store.perform(settle("leg_1"), NOW) == Settled(LegState.SETTLED, 4 * CENTS, 10 * CENTS, changed=True)
    assert balance(store) == (0, 4 * CENTS)


def test_what_was_used_after_an_unsent_reservation_ran_out_is_charged_late(store: Store) -> None:
    store.perform(reserve("leg_1"), NOW)
    store.sweep(NOW + timedelta(days=1))
    assert balance(store) == (0, 0)
    assert store.perform(settle("leg_1"), NOW).changed is True
    assert balance(store) == (0, 4 * CENTS)


def test_a_leg_that_was_never_marked_as_sent_ends_late_once_and_not_to_and_fro(store: Store) -> None:
    store.perform(reserve("leg_1"), NOW)
    changes = [
        store.perform(settle("leg_1", state), NOW).changed for state in [LegState.RELEASED, LegState.PRESUMED] * 3
    ]
    assert changes == [True, True, True, False, False, False]
    assert balance(store) == (0, 0)


def test_a_release_after_it_was_sent_is_final(store: Store) -> None:
    sent(store)
    store.perform(settle("leg_1", LegState.RELEASED), NOW)
    assert store.perform(settle("leg_1"), NOW) == Settled(LegState.RELEASED, 0, 10 * CENTS, changed=False)


def test_a_settle_charges_the_window_of_its_reservation(store: Store) -> None:
    sent(store, expires_at=NOW + timedelta(days=2))
    store.perform(reserve("leg_2", charge(starts=DAY + timedelta(days=1))), NOW + timedelta(days=1))
    store.perform(settle("leg_1"), NOW + timedelta(days=1))
    assert [(w.reserved, w.spent) for w in store.budget_windows()] == [(0, 4 * CENTS), (10 * CENTS, 0)]


def test_a_leg_that_does_not_exist_is_a_bug(store: Store) -> None:
    with pytest.raises(PolicyguardError, match="no leg `leg_9`"):
        store.perform(settle("leg_9"), NOW)


def test_a_replayed_reservation_of_an_ended_leg_changes_nothing(store: Store) -> None:
    sent(store)
    store.perform(settle("leg_1"), NOW)
    assert store.perform(reserve("leg_1"), NOW) == Reserved()
    assert balance(store) == (0, 4 * CENTS)

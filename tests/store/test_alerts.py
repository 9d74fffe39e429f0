"""Every threshold is told once in its window, in the transaction that reached it."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store.books import DAY, HOUR, NOW, charge, refused, reserve, settle, types

from policyguard.flow.states import LegState
from policyguard.flow.steps import Alert, OverBudget, Record, RefusedLeg, Reserved
from policyguard.store import Store

AT = (50, 80, 100)


def taken(store: Store, leg: str, amount: int, limit: int = 100, **changes: Any) -> tuple[int, ...]:
    """The thresholds that one reservation told."""
    budget = charge(amount, limit, alert_at=changes.pop("alert_at", AT), **changes)
    answer = store.perform(reserve(leg, budget, ceiling=amount), NOW)
    assert isinstance(answer, Reserved)
    return tuple(alert.per_cent for alert in answer.alerts)


def test_a_threshold_is_told_when_it_is_reached_and_never_again(store: Store) -> None:
    assert [taken(store, f"leg_{n}", 10) for n in range(10)] == [
        (), (), (), (), (50,), (), (), (80,), (), (100,),
    ]  # fmt: skip
    assert types(store, type="budget.alert") == ["budget.alert"] * 3


def test_one_reservation_can_reach_several(store: Store) -> None:
    assert taken(store, "leg_1", 85) == (50, 80)


def test_the_alert_says_how_full_the_budget_is(store: Store) -> None:
    answer = store.perform(reserve("leg_1", charge(60, 100, alert_at=AT)), NOW)
    assert answer.alerts == (Alert("day", 50, used=60, limit=100, unit="usd"),)
    (stored,) = store.events(type="budget.alert")
    assert stored.event.body == {
        "budget": "day",
        "key": "day",
        "window": DAY.isoformat(),
        "per_cent": 50,
        "used": 60,
        "limit": 100,
        "unit": "usd",
        "mode": "enforce",
    }


def test_a_replayed_reservation_tells_nothing(store: Store) -> None:
    assert [taken(store, "leg_1", 60), taken(store, "leg_1", 60)] == [(50,), ()]


def test_a_refused_reservation_tells_nothing(store: Store) -> None:
    answer = store.perform(reserve("leg_1", charge(60, 100, alert_at=AT), charge(11, 10, key="z")), NOW)
    assert isinstance(answer, OverBudget)
    assert types(store) == []


def test_what_was_given_back_is_not_told_when_it_is_taken_again(store: Store) -> None:
    assert taken(store, "leg_1", 60) == (50,)
    store.perform(settle("leg_1", LegState.RELEASED), NOW)
    assert taken(store, "leg_2", 60) == ()


def test_a_cost_above_its_ceiling_tells_at_the_settle(store: Store) -> None:
    assert taken(store, "leg_1", 40) == ()
    store.mark_sent("leg_1", NOW + HOUR, NOW)
    answer = store.perform(settle("leg_1", cost=90), NOW)
    assert [alert.per_cent for alert in answer.alerts] == [50, 80]
    assert store.perform(settle("leg_1", cost=90), NOW).alerts == ()


def test_a_lowered_limit_tells_at_the_next_change(store: Store) -> None:
    assert [taken(store, "leg_1", 40), taken(store, "leg_2", 1, limit=50)] == [(), (50, 80)]


def test_a_raised_limit_tells_no_threshold_twice(store: Store) -> None:
    assert [taken(store, "leg_1", 80), taken(store, "leg_2", 100, limit=200)] == [(50, 80), ()]
    assert taken(store, "leg_3", 20, limit=200) == (100,)


def test_every_window_and_every_budget_tells_for_itself(store: Store) -> None:
    assert taken(store, "leg_1", 60) == (50,)
    assert taken(store, "leg_2", 60, starts=DAY + timedelta(days=1)) == (50,)
    assert taken(store, "leg_3", 60, key="other") == (50,)


def test_a_shadow_budget_tells_too(store: Store) -> None:
    assert taken(store, "leg_1", 160, mode="shadow") == (50, 80, 100)


def test_without_thresholds_nothing_is_told(store: Store) -> None:
    assert taken(store, "leg_1", 100, alert_at=()) == ()


def test_a_refusal_for_lack_of_room_is_the_last_threshold(store: Store) -> None:
    """Requests come in pieces: a budget of which no piece fits any more never gets to 100 % by itself."""
    assert taken(store, "leg_1", 70) == (50,)
    over = charge(40, 100, alert_at=AT)
    step = Record(refused("dec_2").events, refusal=RefusedLeg({}, 40, over))
    assert [alert.per_cent for alert in store.perform(step, NOW)] == [80, 100]
    assert store.perform(step, NOW) == ()


def test_a_request_larger_than_an_untouched_budget_tells_nothing(store: Store) -> None:
    step = Record(refused("dec_2").events, refusal=RefusedLeg({}, 400, charge(400, 100, alert_at=AT)))
    assert store.perform(step, NOW) == ()


def test_only_a_budget_with_100_per_cent_tells_that_it_has_no_room(store: Store) -> None:
    assert taken(store, "leg_1", 70, alert_at=(50,)) == (50,)
    step = Record(refused("dec_2").events, refusal=RefusedLeg({}, 40, charge(40, 100, alert_at=(50,))))
    assert store.perform(step, NOW) == ()


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(1, 30), st.integers(40, 200)), min_size=1, max_size=12))
def test_whatever_the_limits_are_no_threshold_is_told_twice(store: Store, steps: list[tuple[int, int]]) -> None:
    key = f"k{len(store.budget_windows())}-{len(store.events(limit=10_000))}"
    told: list[int] = []
    for number, (amount, limit) in enumerate(steps):
        answer = store.perform(reserve(f"{key}-{number}", charge(amount, limit, key=key, alert_at=AT)), NOW)
        told += [alert.per_cent for alert in getattr(answer, "alerts", ())]
    assert told == sorted(set(told))

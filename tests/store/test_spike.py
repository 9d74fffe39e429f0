"""Why a day cost what it cost."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from store.books import CENTS, DAY, HOUR, NOW, charge, reserve, settle

from policyguard.store import Store
from policyguard.store.spike import Contribution

TODAY = date(2026, 11, 24)


def cost(store: Store, leg: str, at: datetime, cents: int, **facts: str) -> None:
    store.perform(reserve(leg, charge(1, 10**9), ceiling=cents * CENTS, expires_at=at + HOUR, **facts), at)
    store.mark_sent(leg, at + HOUR, at)
    store.perform(settle(leg, cost=cents * CENTS), at)


@pytest.fixture
def week(store: Store) -> Store:
    """Seven days of two tenants and two models, four and six cents each; then the day."""
    for number in range(1, 8):
        at = NOW - timedelta(days=number)
        cost(store, f"a{number}", at, 4, tenant="acme", model="m")
        cost(store, f"b{number}", at, 6, tenant="beta", model="x")
    return store


def test_the_dimension_that_moved_most_comes_first(week: Store) -> None:
    cost(week, "a", NOW, 4, tenant="acme", model="m")
    cost(week, "b", NOW, 3, tenant="beta", model="x")
    cost(week, "c", NOW, 53, tenant="beta", model="m")
    spike = week.explain_spend(TODAY)
    assert (spike.spent_micros, spike.mean_micros) == (60 * CENTS, 10 * CENTS)
    assert (spike.requests, spike.mean_requests) == (3, 2.0)
    first, second = spike.dimensions[:2]
    # alike growth would be 24 and 36: by model 33 of 60 cents are elsewhere, by tenant 20
    assert (first.by, first.moved_micros, second.by, second.moved_micros) == ("model", 33 * CENTS, "tenant", 20 * CENTS)
    assert first.parts == (Contribution("m", 57 * CENTS, 4 * CENTS), Contribution("x", 3 * CENTS, 6 * CENTS))
    assert [part.change_micros for part in first.parts] == [53 * CENTS, -3 * CENTS]


def test_where_everything_grew_alike_nothing_moved(week: Store) -> None:
    for number in range(3):
        cost(week, f"a-{number}", NOW, 4, tenant="acme", model="m")
        cost(week, f"b-{number}", NOW, 6, tenant="beta", model="x")
    spike = week.explain_spend(TODAY)
    assert spike.spent_micros == 3 * spike.mean_micros
    assert {moved.moved_micros for moved in spike.dimensions} == {0}


def test_a_value_that_is_new_or_gone_is_a_part(week: Store) -> None:
    cost(week, "c", NOW, 10, tenant="new", model="m")
    tenants = next(moved for moved in week.explain_spend(TODAY).dimensions if moved.by == "tenant")
    assert tenants.parts == (
        Contribution("new", 10 * CENTS, 0),
        Contribution("beta", 0, 6 * CENTS),
        Contribution("acme", 0, 4 * CENTS),
    )
    assert tenants.moved_micros == 10 * CENTS


def test_an_earlier_week_does_not_count_and_nothing_before_is_said(store: Store) -> None:
    cost(store, "old", DAY - timedelta(days=8), 4)
    cost(store, "now", NOW, 4)
    spike = store.explain_spend(TODAY)
    assert (spike.spent_micros, spike.mean_micros) == (4 * CENTS, 0)


def test_the_day_is_one_of_the_zone(store: Store) -> None:
    cost(store, "late", DAY - timedelta(minutes=30), 4)  # half past midnight in Berlin
    assert store.explain_spend(TODAY, ZoneInfo("Europe/Berlin")).spent_micros == 4 * CENTS
    assert store.explain_spend(TODAY).spent_micros == 0

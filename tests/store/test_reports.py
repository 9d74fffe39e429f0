from __future__ import annotations

import os
from collections import Counter
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from store.books import CENTS, DAY, HOUR, NOW, charge, refused, reserve, settle

from policyguard.errors import ConfigError
from policyguard.flow.states import LegState
from policyguard.store import BudgetWindow, SpendRow, Store

DAYS = timedelta(days=1)


@pytest.fixture
def day(store: Store) -> Store:
    """One leg of each end on `avatars`, one settled on `marketing` a day later, and two refusals."""
    for name, end in (
        ("a", LegState.SETTLED),
        ("b", LegState.PRESUMED),
        ("c", LegState.RELEASED),
        ("d", None),
        ("e", None),
    ):
        store.perform(reserve(name, n=2, expires_at=NOW + HOUR), NOW)
        if name != "e":
            store.mark_sent(name, NOW + HOUR, NOW)
        if end is not None:
            store.perform(settle(name, end), NOW)
    later = NOW + DAYS
    store.perform(reserve("f", surface="marketing", model="x", expires_at=later + HOUR), later)
    store.mark_sent("f", later + HOUR, later)
    store.perform(settle("f", cost=9 * CENTS), later)
    store.perform(refused("dec_1", ceiling=30 * CENTS, model="m"), NOW)
    store.perform(refused("dec_2", ceiling=0, dimensions={"surface": "id-photos"}), NOW)
    return store


def test_spend_tells_what_became_of_the_money(day: Store) -> None:
    # `d` ran out without an outcome and `e` unsent, both before the leg of the next day was reserved
    total = SpendRow(
        by={},
        requests=6,
        images=7,
        estimated_micros=60 * CENTS,
        reserved_micros=0,
        actual_micros=13 * CENTS,
        presumed_micros=20 * CENTS,
        refused=2,
        refused_micros=30 * CENTS,
    )
    assert day.spend() == [total]


def test_what_is_open_counts_as_reserved(store: Store) -> None:
    store.perform(reserve("a"), NOW)
    (row,) = store.spend()
    assert (row.reserved_micros, row.spent_micros, row.estimated_micros) == (10 * CENTS, 0, 10 * CENTS)


def test_spend_by_surface_has_refused_surfaces_too(day: Store) -> None:
    rows = {row.by["surface"]: (row.requests, row.spent_micros, row.refused) for row in day.spend(["surface"])}
    assert rows == {"avatars": (5, 24 * CENTS, 1), "marketing": (1, 9 * CENTS, 0), "id-photos": (0, 0, 1)}


def test_the_dearest_group_comes_first(day: Store) -> None:
    assert [row.by["surface"] for row in day.spend(["surface"])] == ["avatars", "marketing", "id-photos"]


def test_spend_by_several_dimensions_and_day(day: Store) -> None:
    rows = [(row.by["day"], row.by["surface"], row.requests) for row in day.spend(["day", "surface"])]
    assert rows == [("2026-11-24", "avatars", 5), ("2026-11-25", "marketing", 1), ("2026-11-24", "id-photos", 0)]


def test_refusals_are_known_by_what_was_asked_for(day: Store) -> None:
    rows = [(row.by["model"], row.refused, row.refused_micros) for row in day.spend(["model"])]
    assert rows == [("m", 1, 30 * CENTS), ("x", 0, 0), (None, 1, 0)]


@pytest.mark.parametrize(
    ("zone", "at", "day"),
    [
        ("UTC", "2026-11-24T23:59:59Z", "2026-11-24"),
        ("Europe/Berlin", "2026-11-24T22:59:59.999999Z", "2026-11-24"),
        ("Europe/Berlin", "2026-11-24T23:00:00Z", "2026-11-25"),
        ("Asia/Kolkata", "2026-11-24T18:29:00Z", "2026-11-24"),
        ("Asia/Kolkata", "2026-11-24T18:30:00Z", "2026-11-25"),
        ("America/New_York", "2026-11-25T04:59:00Z", "2026-11-24"),
        ("Pacific/Apia", "2026-11-24T11:00:00Z", "2026-11-25"),
    ],
)
def test_a_day_is_one_of_the_zone(store: Store, zone: str, at: str, day: str) -> None:
    store.perform(reserve("a"), datetime.fromisoformat(at))
    assert [row.by["day"] for row in store.spend(["day"], zone=ZoneInfo(zone))] == [day]


@settings(max_examples=30, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.sets(st.integers(0, 2 * 365 * 96), min_size=1, max_size=20), st.sampled_from(["Europe/Berlin", "Pacific/Apia"])
)
def test_days_are_right_over_every_change_of_the_clocks(store: Store, quarters: set[int], name: str) -> None:
    zone, prefix = ZoneInfo(name), os.urandom(4).hex()
    times = [DAY - 365 * DAYS + quarter * timedelta(minutes=15) for quarter in sorted(quarters)]
    for number, at in enumerate(times):
        store.perform(reserve(f"{prefix}-{number}", charge(1, 10**9), surface=prefix), at)
    found = {
        row.by["day"]: row.requests for row in store.spend(["day", "surface"], zone=zone) if row.by["surface"] == prefix
    }
    assert found == Counter(at.astimezone(zone).date().isoformat() for at in times)


def test_spend_within_a_time(day: Store) -> None:
    assert [row.requests for row in day.spend(since=NOW + DAYS)] == [1]
    assert [row.requests for row in day.spend(until=NOW + DAYS)] == [5]
    assert [row.requests for row in day.spend(since=NOW + 2 * DAYS)] == [0]


def test_an_unknown_dimension_is_said(store: Store) -> None:
    with pytest.raises(ConfigError, match="spend has no `colour`"):
        store.spend(["colour"])


def test_budget_windows_show_balances(store: Store) -> None:
    store.perform(reserve("a", charge(40, 100)), NOW)
    expected = BudgetWindow(
        budget_id="day",
        key="day",
        unit="usd",
        mode="enforce",
        limit=100,
        reserved=40,
        spent=0,
        starts=DAY,
        ends=DAY + DAYS,
    )
    assert store.budget_windows(NOW) == [expected]
    assert store.budget_windows(DAY + DAYS) == []

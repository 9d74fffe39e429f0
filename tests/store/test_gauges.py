"""The ledger as telemetry sees it, on every engine."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

from store.books import CENTS, DAY, HOUR, NOW, charge, hold, reserve, settle

from policyguard.flow.states import LegState
from policyguard.store import Store
from policyguard.store.breaker import FAULTS
from policyguard.store.gauges import BudgetGauge, Gauges


def budget(key: str, **changes: Any) -> Any:
    return replace(charge(**changes), budget_id=key.split("|")[1], key=key)


ORG, TENANT = "org|month|usd|day|UTC|", "avatars|tenant|usd|day|UTC|tenant"


def sent(store: Store, name: str, end: LegState | None, *charges: Any, **changes: Any) -> None:
    store.perform(reserve(name, *(charges or (budget(ORG),)), expires_at=NOW + HOUR, **changes), NOW)
    store.mark_sent(name, NOW + HOUR, NOW)
    if end is not None:
        store.perform(settle(name, end, answered=False), NOW)


def test_an_empty_ledger_has_nothing(store: Store) -> None:
    assert store.gauges(NOW) == Gauges(presumed={}, held={})


def test_a_budget_is_one_sum_however_many_callers_it_counts(store: Store) -> None:
    for name, tenant, end in (("a", "acme", LegState.SETTLED), ("b", "acme", None), ("c", "other", None)):
        sent(store, name, end, budget(ORG), budget(f"{TENANT}|{tenant}", limit=20 * CENTS))
    old = DAY - timedelta(days=1)
    sent(store, "d", None, budget(ORG, starts=old))
    shared: dict[str, Any] = {"unit": "usd", "mode": "enforce", "spent": 4 * CENTS, "reserved": 20 * CENTS}
    assert store.gauges(NOW).budgets == (
        BudgetGauge(owner="avatars", budget_id="tenant", limit=None, fullest=0.7, **shared),
        BudgetGauge(owner="org", budget_id="month", limit=100 * CENTS, fullest=0.24, **shared),
    )


def test_presumed_legs_count_until_they_are_put_right(store: Store) -> None:
    sent(store, "a", LegState.PRESUMED)
    sent(store, "b", LegState.PRESUMED, surface="marketing")
    store.reconcile("b", None, by="ada", why="never billed", now=NOW)
    assert store.gauges(NOW).presumed == {"avatars": (1, 10 * CENTS)}


def test_held_reviews_and_open_breakers_are_counted(store: Store) -> None:
    store.perform(hold(), NOW)
    for number in range(FAULTS + 1):
        sent(store, str(number), LegState.PRESUMED, budget(ORG, limit=10**9), upstream="api.openai.com")
    found = store.gauges(NOW)
    assert (found.held, found.breakers_open) == ({"avatars": 1}, 1)
    assert store.gauges(NOW + HOUR).breakers_open == 0

"""An upstream that fails too often is left alone; several processes count together, because they count rows."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from store.books import MINUTE, NOW, open_at, reserve, settle, types

from policyguard.flow.states import LegState
from policyguard.flow.steps import Reserved, UpstreamDown
from policyguard.store import Store
from policyguard.store.breaker import ASK_AGAIN, FAULTS, OPEN_FOR, PROBES

SECOND = timedelta(seconds=1)
UP = "api.example.com"
LATER = NOW + OPEN_FOR


def ask(store: Store, leg: str, now: datetime = NOW, upstream: str = UP) -> object:
    return store.perform(reserve(leg, upstream=upstream, expires_at=now + MINUTE, ceiling=1), now)


def ends(
    store: Store, leg: str, answered: bool | None, now: datetime = NOW, state: LegState = LegState.PRESUMED
) -> str | None:
    store.mark_sent(leg, now + 11 * MINUTE, now)
    opened: str | None = store.perform(settle(leg, state, 1, answered=answered), now).opened  # type: ignore[arg-type]
    return opened


def fails(store: Store, count: int, now: datetime = NOW, prefix: str = "f") -> list[str | None]:
    """How each of so many faults, one after the other, left the breaker."""
    found = []
    for number in range(count):
        assert isinstance(ask(store, f"{prefix}{number}", now), Reserved)
        found.append(ends(store, f"{prefix}{number}", False, now))
    return found


@pytest.fixture
def down(store: Store) -> Store:
    fails(store, FAULTS + 1)
    return store


def test_more_than_twenty_faults_in_a_minute_open_it(store: Store) -> None:
    assert fails(store, FAULTS + 1) == [None] * FAULTS + [UP]
    assert ask(store, "leg") == UpstreamDown(UP, until=LATER)
    assert types(store, type="upstream.down") == ["upstream.down"]


def test_what_it_refuses_changes_nothing(down: Store) -> None:
    before = down.events(limit=1_000), down.budget_windows()
    assert isinstance(ask(down, "leg"), UpstreamDown)
    assert (down.events(limit=1_000), down.budget_windows()) == before


def test_faults_that_are_a_minute_old_do_not_count(store: Store) -> None:
    fails(store, FAULTS)
    assert fails(store, FAULTS, NOW + MINUTE, "g") == [None] * FAULTS


def test_another_upstream_is_not_concerned(down: Store) -> None:
    assert isinstance(ask(down, "leg", upstream="other"), Reserved)


@pytest.mark.parametrize("answered", [True, None])
def test_what_is_no_fault_opens_nothing(store: Store, answered: bool | None) -> None:
    for number in range(2 * FAULTS):
        assert isinstance(ask(store, f"leg_{number}"), Reserved)
        assert ends(store, f"leg_{number}", answered) is None


def test_after_half_a_minute_a_few_are_let_through(down: Store) -> None:
    answers = [ask(down, f"p{number}", LATER) for number in range(PROBES + 1)]
    assert answers == [Reserved()] * PROBES + [UpstreamDown(UP, LATER + ASK_AGAIN)]


def test_a_probe_that_fails_opens_it_again(down: Store) -> None:
    ask(down, "p", LATER)
    assert ends(down, "p", False, LATER) == UP
    assert ask(down, "leg", LATER + SECOND) == UpstreamDown(UP, LATER + OPEN_FOR)


@pytest.mark.parametrize("state", [LegState.SETTLED, LegState.RELEASED, LegState.PRESUMED])
def test_a_probe_that_is_answered_closes_it(down: Store, state: LegState) -> None:
    ask(down, "p", LATER)
    assert ends(down, "p", True, LATER, state) is None
    assert types(down, type="upstream.up") == ["upstream.up"]
    assert [ask(down, f"leg_{n}", LATER) for n in range(PROBES + 1)] == [Reserved()] * (PROBES + 1)


def test_after_it_closed_old_faults_do_not_count(down: Store) -> None:
    ask(down, "p", LATER)
    ends(down, "p", True, LATER)
    assert fails(down, FAULTS, LATER, "g") == [None] * FAULTS


def test_a_probe_that_says_nothing_leaves_it_and_makes_room(down: Store) -> None:
    for number in range(PROBES):
        ask(down, f"p{number}", LATER)
    ends(down, "p0", None, LATER)
    assert isinstance(ask(down, "p9", LATER), Reserved)
    assert isinstance(ask(down, "leg", LATER), UpstreamDown)


def test_a_probe_that_hangs_makes_room_after_a_minute(down: Store) -> None:
    for number in range(PROBES):
        ask(down, f"p{number}", LATER)
        down.mark_sent(f"p{number}", LATER + 11 * MINUTE, LATER)
    assert isinstance(ask(down, "leg", LATER + MINUTE - SECOND), UpstreamDown)
    assert isinstance(ask(down, "leg", LATER + MINUTE), Reserved)


def test_what_was_in_flight_when_it_opened_does_not_prolong_it(store: Store) -> None:
    ask(store, "slow")
    fails(store, FAULTS + 1)
    assert ends(store, "slow", False, NOW + 20 * SECOND) is None
    assert isinstance(ask(store, "leg", LATER), Reserved)


def test_several_processes_count_together(store: Store, url: str) -> None:
    other = open_at(url)
    fails(store, FAULTS // 2 + 1)
    fails(other, FAULTS // 2, prefix="g")
    assert isinstance(ask(store, "leg"), UpstreamDown)
    assert isinstance(ask(other, "leg"), UpstreamDown)
    other.close()

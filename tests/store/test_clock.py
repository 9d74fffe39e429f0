"""The database's clock decides, whatever the clocks of its hosts say."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from databases import Server
from store.books import HOUR, MINUTE, NOW, VAULT, open_at
from support import SURFACE, caller, request, write_policies

from policyguard.audit.jobs import Jobs
from policyguard.decision import Admitted, Held
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.policy.load import load
from policyguard.request import Failure, Outcome
from policyguard.store import Store
from policyguard.store.address import backend
from policyguard.store.breaker import FAULTS, OPEN_FOR
from policyguard.store.clock import MAX_SKEW_S, Clock, host_now, is_due

SECOND = timedelta(seconds=1)
BUDGET = "budgets: [{id: day, limit: $100 / day}]\n"
REVIEW = "review: {reviewers: [group:trust]}\nrules: [{id: look, when: request.n == 2, then: review, message: Two.}]\n"
SKEWS = {"an hour fast": HOUR, "an hour slow": -HOUR, "30 days fast": timedelta(days=30)}


class Times:
    """Three clocks that are set by hand."""

    def __init__(self) -> None:
        self.database = self.host = NOW
        self.steady = 100.0
        self.answer_s = 0.0  # how long the database takes

    def ask(self) -> datetime:
        self.passes(self.answer_s / 2)
        said = self.database
        self.passes(self.answer_s / 2)
        return said

    def passes(self, seconds: float) -> None:
        self.steady += seconds
        self.host += seconds * SECOND
        self.database += seconds * SECOND

    def clock(self) -> Clock:
        return Clock(self.ask, host=lambda: self.host, steady=lambda: self.steady)


# ---- one clock ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [HOUR, -HOUR, timedelta(days=30), timedelta(0)])
def test_time_goes_on_from_what_the_database_said(skew: timedelta) -> None:
    times = Times()
    times.host += skew
    times.answer_s = 0.5
    clock = times.clock()
    clock.set()
    assert (clock.now(), clock.skew_s) == (times.database, skew.total_seconds())
    times.passes(90)
    times.host -= HOUR  # somebody sets the host's clock
    assert clock.now() == times.database == NOW + 90.5 * SECOND


def test_before_the_first_answer_it_is_the_time_of_the_host() -> None:
    times = Times()
    assert (times.clock().now(), times.clock().is_off) == (NOW, False)
    assert Clock(host=lambda: NOW).now() == NOW


def test_a_slow_answer_does_not_replace_a_quick_one() -> None:
    times = Times()
    clock = times.clock()
    clock.set()
    times.answer_s, times.host = 8.0, times.host + HOUR
    clock.set()
    assert (clock.now(), clock.skew_s) == (times.database, 0.0)


def test_a_host_that_is_off_is_told_of_once_and_when_it_is_right_again(caplog: pytest.LogCaptureFixture) -> None:
    times = Times()
    clock = times.clock()
    with caplog.at_level(logging.INFO, "policyguard"):
        for skew in (MAX_SKEW_S - 1, MAX_SKEW_S + 1, 3600, 0, 0):
            times.host = times.database + skew * SECOND
            clock.set()
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [
        ("WARNING", "the clock of this host differs from the database's by +6 s; the database's is used"),
        ("INFO", "the clock of this host agrees with the database's again"),
    ]


def test_an_sqlite_file_has_the_time_of_its_host(tmp_path: Path) -> None:
    with_host = Store(backend(f"sqlite:///{tmp_path / 'r.sqlite3'}"), cipher=VAULT, host=lambda: NOW)
    with_host.check()
    assert with_host.clock.now() == NOW
    with_host.close()


@pytest.mark.parametrize(
    ("passed", "due"),
    [(29 * SECOND, False), (30 * SECOND, True), (-29 * SECOND, False), (-HOUR, True), (timedelta(days=30), True)],
)
def test_a_clock_that_jumps_stops_nothing(passed: timedelta, due: bool) -> None:
    assert is_due(NOW, NOW + passed, 30 * SECOND) is due
    assert is_due(None, NOW, 30 * SECOND) is True


# ---- two hosts ----------------------------------------------------------------------------------------------


@pytest.fixture
def hosts(postgres: Server, tmp_path: Path) -> Iterator[Callable[[timedelta], Guard]]:
    """Guards on one database, each on a host whose clock is off by so much."""
    policies = load(write_policies(tmp_path / "policies", avatars=SURFACE + BUDGET + REVIEW))
    guards: list[Guard] = []
    with postgres.database() as url:

        def host(skew: timedelta) -> Guard:
            store = Store(backend(url), cipher=VAULT, host=lambda: host_now() + skew)
            store.check()
            guards.append(Guard(policies, store=store, moderator=ScriptedModerator(), vault=VAULT))
            return guards[-1]

        yield host
        for guard in guards:
            guard.close()


def admitted(guard: Guard, **changes: object) -> Admitted:
    answer = guard.admit(request(**changes), caller(), surface="avatars", upstream="api.example.com")
    assert isinstance(answer, Admitted)
    return answer


@pytest.mark.parametrize("off", SKEWS)
def test_a_host_whose_clock_is_off_ends_nothing_of_others(hosts: Callable[..., Guard], off: str) -> None:
    right, wrong = hosts(timedelta(0)), hosts(SKEWS[off])
    sent = admitted(right)
    assert right.sent(sent.ticket)
    held = right.admit(request(n=2), caller(), surface="avatars")
    assert isinstance(held, Held)
    wrong.sweep()
    Jobs(wrong.store, VAULT).once()
    assert [
        r.type for r in (e.event for e in wrong.store.events()) if r.type in ("leg.presumed", "review.expired")
    ] == []
    item = right.store.review(held.review_id)
    assert item is not None
    assert item.state.value == "held"
    assert wrong.store.clock.is_off
    assert abs(wrong.clock() - datetime.now(UTC)) < MINUTE


@pytest.mark.parametrize("off", SKEWS)
def test_both_hosts_count_in_one_window(hosts: Callable[..., Guard], off: str) -> None:
    for guard in (hosts(timedelta(0)), hosts(SKEWS[off])):
        admitted(guard)
        windows = guard.store.budget_windows()
    assert len(windows) == 1


@pytest.mark.parametrize("off", SKEWS)
def test_an_upstream_is_left_alone_no_longer_than_by_a_right_clock(hosts: Callable[..., Guard], off: str) -> None:
    right, wrong = hosts(timedelta(0)), hosts(SKEWS[off])
    legs = [admitted(wrong) for _ in range(FAULTS + 1)]
    for leg in legs:
        wrong.sent(leg.ticket)
        wrong.settle(leg.ticket, Outcome(status=502, failure=Failure.ERROR))
    refused = right.admit(request(), caller(), surface="avatars", upstream="api.example.com")
    assert [reason.id for reason in refused.decision.reasons] == ["upstream.unavailable"]
    assert refused.retry_after_s is not None
    assert refused.retry_after_s <= OPEN_FOR.total_seconds() + 1


def test_a_clock_that_is_set_back_does_not_stop_the_sweep(tmp_path: Path) -> None:
    """In a process on SQLite, whose clock is the host's."""
    now = [NOW]
    policies = load(write_policies(tmp_path / "policies", avatars=SURFACE), now=NOW)
    store = open_at(tmp_path / "r.sqlite3")
    swept: list[datetime] = []
    with Guard(policies, store=store, moderator=ScriptedModerator(), vault=VAULT, clock=lambda: now[0]) as guard:
        guard.sweep = lambda: swept.append(now[0])  # type: ignore[method-assign]
        for at in (NOW, NOW + SECOND, NOW - HOUR, NOW - HOUR + SECOND):
            now[0] = at
            admitted(guard)
    assert swept == [NOW, NOW - HOUR]


def test_a_skewed_host_is_seen_in_the_gauges(hosts: Callable[..., Guard]) -> None:
    wrong = hosts(HOUR)
    (skew,) = [reading.value for reading in wrong.ledger.readings() if reading.metric.name == "policyguard.clock.skew"]
    assert round(skew, -1) == 3600

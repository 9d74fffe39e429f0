from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from guard.test_guard import BUDGET, USAGE, Clock, admit, opened
from store.books import assert_books_balance, rows
from support import SURFACE, caller, request

from policyguard import Guard
from policyguard.decision import Admitted, Refused
from policyguard.errors import StoreUnavailable
from policyguard.flow.states import LegState
from policyguard.flow.steps import Reserve, Settle
from policyguard.guard import later as module
from policyguard.guard.later import Later
from policyguard.store.db.group import Unanswered
from policyguard.telemetry.path import Telemetry

pytestmark = pytest.mark.anyio


@contextmanager
def down(
    guard: Guard, kind: type = Settle, *, after: bool = False, error: type[Exception] = StoreUnavailable
) -> Iterator[None]:
    """The store fails at one kind of step; `after`: when it was done."""
    perform, aperform = guard.store.perform, guard.store.aperform

    def failing(step: Any, now: Any) -> Any:
        if not isinstance(step, kind):
            return perform(step, now)
        if after:
            perform(step, now)
        raise error("down")

    async def afailing(step: Any, now: Any) -> Any:
        return failing(step, now) if isinstance(step, kind) else await aperform(step, now)

    guard.store.perform, guard.store.aperform = failing, afailing  # type: ignore[method-assign]
    try:
        yield
    finally:
        guard.store.perform, guard.store.aperform = perform, aperform  # type: ignore[method-assign]


def states(tmp_path: Path) -> list[str]:
    return [state for (state,) in rows(tmp_path / "record.sqlite3", "SELECT state FROM legs")]


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    with opened(tmp_path, SURFACE + BUDGET) as guard:
        guard._later._every_s = 3600  # the test says when
        yield guard


async def settle(guard: Guard, ticket: Any, side: str) -> Any:
    return guard.settle(ticket, USAGE) if side == "sync" else await guard.asettle(ticket, USAGE)


@pytest.mark.parametrize("side", ["sync", "async"])
async def test_an_end_that_the_store_did_not_hear_is_told_again_until_it_does(guard: Guard, side: str) -> None:
    answer = admit(guard)
    guard.sent(answer.ticket)
    with down(guard):
        assert (await settle(guard, answer.ticket, side)).changed is False
        guard._later.round()
        assert guard._later.waiting == 1
    guard._later.round()
    assert guard._later.waiting == 0
    (window,) = guard.store.budget_windows()
    assert (window.spent, window.reserved) == (5880, 0)


def test_a_thread_tells_it_without_anybody_asking(tmp_path: Path) -> None:
    with opened(tmp_path, SURFACE + BUDGET) as guard:
        guard._later._every_s = 0.01
        answer = admit(guard)
        guard.sent(answer.ticket)
        with down(guard):
            guard.settle(answer.ticket, USAGE)
        while guard._later.waiting:
            threading.Event().wait(0.01)
        assert guard.settle(answer.ticket, USAGE).state is LegState.SETTLED


def test_the_end_of_the_process_tries_once_more(tmp_path: Path) -> None:
    with opened(tmp_path, SURFACE + BUDGET) as guard:
        guard._later._every_s = 3600
        answer = admit(guard)
        guard.sent(answer.ticket)
        with down(guard):
            guard.settle(answer.ticket, USAGE)
    assert states(tmp_path) == ["settled"]


def test_what_cannot_be_told_in_time_is_given_up_and_said(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    guard._later._for_s = -1
    answer = admit(guard)
    guard.sent(answer.ticket)
    with down(guard):
        guard.settle(answer.ticket, USAGE)
    guard._later.round()
    assert guard._later.waiting == 0
    assert "will be presumed at its ceiling" in caplog.text


def test_what_waits_has_a_bound(
    guard: Guard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MOST", 1)
    with down(guard):
        for _ in range(2):
            answer = admit(guard)
            guard.sent(answer.ticket)
            guard.settle(answer.ticket, USAGE)
    assert guard._later.waiting == 1
    assert "will be presumed at its ceiling" in caplog.text


def test_a_reservation_whose_answer_got_lost_is_given_back(guard: Guard, tmp_path: Path) -> None:
    with down(guard, Reserve, after=True, error=Unanswered):
        assert isinstance(guard.admit(request(), caller(), surface="avatars", sends=True), Refused)
    assert states(tmp_path) == ["sent"]
    guard._later.round()
    assert states(tmp_path) == ["released"]
    (window,) = guard.store.budget_windows()
    assert (window.spent, window.reserved) == (0, 0)
    assert_books_balance(tmp_path / "record.sqlite3")
    assert isinstance(admit(guard), Admitted)


def test_a_reservation_that_surely_was_not_made_leaves_nothing_to_do(guard: Guard) -> None:
    with down(guard, Reserve):
        assert isinstance(admit(guard), Refused)
    assert guard._later.waiting == 0


def test_a_process_that_has_nothing_to_tell_has_no_thread() -> None:
    before = set(threading.enumerate())
    later = Later(None, Telemetry(), Clock(), store_timeout_s=1, for_s=1)  # type: ignore[arg-type]
    later.round()
    later.close()
    assert [t.name for t in set(threading.enumerate()) - before if t.name == "policyguard-later"] == []
    assert later.waiting == 0

from __future__ import annotations

from collections.abc import Generator

import pytest

from policyguard.moderation import exchange as exchanging
from policyguard.moderation.answers import Scorable
from policyguard.moderation.exchange import CallAnswered, CallFailed, SendPart, exchange
from policyguard.moderation.merge import PartialVerdict

NOW_S = 1_000.0
Exchange = Generator[SendPart, CallAnswered | CallFailed, PartialVerdict]


@pytest.fixture(autouse=True)
def _a_clock_that_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanging, "monotonic", lambda: NOW_S)


def started(*, seconds: float = 60.0, retry_wait_s: float = 0.5) -> Exchange:
    return exchange(Scorable(text="a cat"), NOW_S + seconds, retry_wait_s)


def end(steps: Exchange, reply: CallAnswered | CallFailed) -> PartialVerdict:
    try:
        steps.send(reply)
    except StopIteration as stop:
        part: PartialVerdict = stop.value
        return part
    raise AssertionError("it goes on")


def test_the_first_attempt_is_sent_at_once_with_the_time_that_is_left() -> None:
    first = next(started(seconds=60))
    assert first.wait_s == 0
    assert first.timeout_s == 60


def test_a_second_attempt_waits_and_has_that_much_less_time() -> None:
    steps = started(seconds=60, retry_wait_s=5)
    next(steps)
    second = steps.send(CallFailed("status_500"))
    assert second.wait_s == 5
    assert second.timeout_s == 55


def test_the_wait_that_the_server_asks_for_goes_before_our_own() -> None:
    steps = started()
    next(steps)
    assert steps.send(CallFailed("rate_limited", retry_after_s=7.0)).wait_s == 7


def test_there_is_no_third_attempt() -> None:
    steps = started()
    next(steps)
    steps.send(CallFailed("status_500", request_id="req_1"))
    part = end(steps, CallFailed("status_502", request_id="req_2"))
    assert (part.error, part.calls, part.request_id) == ("status_502", 2, "req_2")


def test_a_wait_beyond_the_time_limit_ends_with_what_is_known() -> None:
    steps = started(seconds=10)
    next(steps)
    part = end(steps, CallFailed("rate_limited", retry_after_s=11.0))
    assert (part.error, part.calls) == ("rate_limited", 1)


def test_what_is_final_is_not_tried_again() -> None:
    steps = started()
    next(steps)
    assert end(steps, CallFailed("refused", final=True)).calls == 1


def test_a_reply_does_not_show_what_it_holds() -> None:
    assert "secret" not in repr(CallAnswered(b"secret"))

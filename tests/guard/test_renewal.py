"""A request that lasts is not presumed lost while it lives; one whose process died is."""

from __future__ import annotations

import asyncio
import threading
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import anyio
import pytest
from patience import HANGS_S
from support import NOW, SURFACE, caller, request, write_policies

import policyguard
from policyguard.errors import StoreUnavailable
from policyguard.flow.states import LegState
from policyguard.guard.guard import SENT_FOR, Guard
from policyguard.guard.renewal import Renewal
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Outcome, Usage

CONSTANTS = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1}
USAGE = Usage(output_image_tokens=196)


class Renewed:
    """What was renewed; `gone` legs have ended."""

    def __init__(self) -> None:
        self.legs: list[str] = []
        self.gone: set[str] = set()

    def __call__(self, leg_id: str) -> bool:
        self.legs.append(leg_id)
        return leg_id not in self.gone


def test_what_lasts_longer_than_a_round_is_renewed_at_every_round() -> None:
    renewed = Renewed()
    renewal = Renewal(renewed)
    with renewal.alive("a"):
        renewal.beat()
        assert renewed.legs == []
        with renewal.alive("b"):
            renewal.beat()
            renewal.beat()
        renewal.beat()
    renewal.beat()
    assert renewed.legs == ["a", "a", "b", "a"]
    renewal.close()


def test_what_has_ended_is_not_renewed_again() -> None:
    renewed = Renewed()
    renewed.gone.add("a")
    renewal = Renewal(renewed)
    with renewal.alive("a"):
        for _ in range(4):
            renewal.beat()
    assert renewed.legs == ["a"]
    renewal.close()


def test_a_store_that_is_down_is_asked_again() -> None:
    answers = iter([StoreUnavailable("down"), True])

    def renew(leg_id: str) -> bool:
        answer = next(answers)
        if isinstance(answer, Exception):
            raise answer
        return answer

    renewal = Renewal(renew)
    with renewal.alive("a"):
        for _ in range(3):
            renewal.beat()
    assert list(answers) == []
    renewal.close()


def test_the_thread_is_there_while_something_is_in_flight() -> None:
    asked = threading.Event()

    def renew(leg_id: str) -> bool:
        asked.set()
        return True

    renewal = Renewal(renew, every_s=0.001)
    with renewal.alive("a"):
        assert asked.wait(HANGS_S)
    for thread in [t for t in threading.enumerate() if t.name == "policyguard-renewal"]:
        thread.join(HANGS_S)
        assert not thread.is_alive()
    renewal.close()


class Clock:
    def __init__(self) -> None:
        self.now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def guard(tmp_path: Path) -> Any:
    folder = write_policies(tmp_path / "policies", avatars=SURFACE)
    url = f"sqlite:///{tmp_path / 'r.sqlite3'}"
    with Guard.open(folder, store=url, moderator=ScriptedModerator(), clock=Clock(), watch=False) as opened:
        yield opened


def last(guard: Any) -> None:
    """Twenty minutes, minute by minute, with a sweep at each."""
    for _ in range(20):
        guard.clock.now += timedelta(minutes=1)
        guard._renewal.beat()
        guard.sweep()


def ends(guard: Guard) -> list[str]:
    return [row.event.type for row in guard.store.events() if row.event.type.startswith("leg.")]


def test_a_decorated_function_may_take_twenty_minutes(guard: Any) -> None:
    @guard.enforce("avatars", constants=CONSTANTS, usage=lambda result: result)  # type: ignore[misc]
    def draw(prompt: str) -> dict[str, int]:
        last(guard)
        return {"input_tokens": 0, "output_tokens": 196}

    with policyguard.caller(**dict(caller().items())):
        draw("a cat")
    assert ends(guard) == ["leg.settled"]


def test_an_async_one_as_well(guard: Any) -> None:
    @guard.enforce("avatars", constants=CONSTANTS, usage=lambda result: result)  # type: ignore[misc]
    async def draw(prompt: str) -> dict[str, int]:
        await asyncio.to_thread(last, guard)
        return {"input_tokens": 0, "output_tokens": 196}

    with policyguard.caller(**dict(caller().items())):
        anyio.run(draw, "a cat")
    assert ends(guard) == ["leg.settled"]


def test_by_hand_it_lives_as_long_as_the_with(guard: Any) -> None:
    admitted = guard.admit(request(), caller(), surface="avatars")
    guard.sent(admitted.ticket)
    with guard.alive(admitted.ticket):
        last(guard)
    settled = guard.settle(admitted.ticket, Outcome(status=200, usage=USAGE))
    assert (settled.state, settled.changed) == (LegState.SETTLED, True)
    assert ends(guard) == ["leg.settled"]


def test_without_it_the_leg_is_presumed(guard: Any) -> None:
    admitted = guard.admit(request(), caller(), surface="avatars")
    guard.sent(admitted.ticket)
    last(guard)
    assert timedelta(minutes=20) > SENT_FOR
    assert ends(guard) == ["leg.presumed"]

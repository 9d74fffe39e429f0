"""The record does not grow with what unknown callers send; what is known is recorded in any case."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support import AVATARS, NOW, write_policies

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.guard.guard import Guard
from policyguard.guard.strangers import ADDRESSES, ROWS, Strangers
from policyguard.moderation.scripted import ScriptedModerator

PATH = "/avatars/v1/images/generations"
KEPT = "audit: {prompt: encrypted}\n"
SHORT = AVATARS.replace("  n:  ", "  prompt:  {max_chars: 50}\n  n:  ") + KEPT


class Clock:
    now = NOW

    def __call__(self) -> object:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def guard(tmp_path: Path, clock: Clock) -> Iterator[Guard]:
    folder = write_policies(tmp_path / "policies", avatars=SHORT)
    store = f"sqlite:///{tmp_path / 'r.sqlite3'}"
    with Guard.open(folder, store=store, moderator=ScriptedModerator(), clock=clock) as opened:  # type: ignore[arg-type]
        yield opened


@pytest.fixture
def app(guard: Guard) -> PolicyGuardMiddleware:
    async def answer(request: Request) -> JSONResponse:
        return JSONResponse({"created": 1, "data": []})

    return PolicyGuardMiddleware(Starlette(routes=[Route(PATH, answer, methods=["POST"])]), guard=guard)


def client(app: PolicyGuardMiddleware, address: str = "127.0.0.1") -> TestClient:
    return TestClient(app, client=(address, 1))


def rows(guard: Guard, type_: str = "request.decided") -> int:
    return len(guard.store.events(limit=10_000, type=type_))


def test_beyond_its_rows_an_address_is_counted_and_the_count_is_a_row(
    guard: Guard, app: PolicyGuardMiddleware, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "policyguard"):
        answers = [client(app, "203.0.113.9").post(PATH, json={"prompt": "a cat"}) for _ in range(ROWS + 5)]
    assert {answer.status_code for answer in answers} == {403}
    assert rows(guard) == ROWS
    assert sum("the rest is only counted" in record.getMessage() for record in caplog.records) == 1
    assert "203.0.113.9" not in caplog.text
    clock.now += timedelta(minutes=1)
    client(app, "203.0.113.9").post(PATH, json={"prompt": "a cat"})
    (stored,) = guard.store.events(type="request.refusals")
    assert (stored.event.body["count"], stored.event.body["recorded"]) == (5, ROWS)
    assert stored.event.body["address"].startswith("address_")
    assert rows(guard) == ROWS + 1


def test_what_was_counted_is_told_by_the_sweep_at_the_latest(
    guard: Guard, app: PolicyGuardMiddleware, clock: Clock
) -> None:
    for _ in range(ROWS + 2):
        client(app, "203.0.113.9").post(PATH, content=b"no json")
    clock.now += timedelta(minutes=1)
    guard.sweep()
    assert [e.event.body["count"] for e in guard.store.events(type="request.refusals")] == [2]
    guard.sweep()
    assert rows(guard, "request.refusals") == 1


def test_each_address_has_rows_of_its_own_also_behind_a_trusted_proxy(guard: Guard, app: PolicyGuardMiddleware) -> None:
    for number in range(ROWS + 1):
        for last in ("203.0.113.1", "203.0.113.2"):
            forwarded = {"x-forwarded-for": f"10.9.8.{number}, {last}"}  # the first is what the client says
            client(app).post(PATH, json={"prompt": "a cat"}, headers=forwarded)
    assert rows(guard) == 2 * ROWS


def test_a_known_user_is_recorded_in_any_case(guard: Guard, app: PolicyGuardMiddleware) -> None:
    for _ in range(ROWS + 5):
        client(app).post(PATH, json={"prompt": "a cat", "quality": "ultra"}, headers={"x-user-id": "u1"})
    assert rows(guard) == ROWS + 5


def test_a_refusal_of_somebody_unknown_keeps_no_prompt_and_one_of_a_user_no_more_than_may_be_sent(
    guard: Guard, app: PolicyGuardMiddleware
) -> None:
    prompt = "a long prompt " * 1_000
    unknown = client(app).post(PATH, json={"prompt": prompt})
    known = client(app).post(PATH, json={"prompt": prompt}, headers={"x-user-id": "u1"})
    assert [answer.status_code for answer in (unknown, known)] == [403, 400]
    ids = [answer.headers["x-policyguard-decision"] for answer in (unknown, known)]
    kept = [guard.store.private(f"prompt:{id_}", by="ada", now=NOW) for id_ in ids]
    assert kept == [None, prompt[:50].encode()]


def test_many_addresses_share_a_count_and_little_memory() -> None:
    strangers = Strangers(lambda kind, text: f"{kind}_{text}", lambda now: "1")
    for number in range(3 * ADDRESSES):
        strangers.may_record(f"address {number}", NOW)
    assert len(strangers._minutes) == ADDRESSES + 1
    assert not strangers.may_record("another", NOW)
    later = NOW + timedelta(minutes=1)
    (told,) = strangers.counted(later)
    assert (told.body["address"], told.body["count"]) == (None, 2 * ADDRESSES - ROWS + 1)
    assert strangers.may_record("another", later)
    assert len(strangers._minutes) == 1


def test_a_clock_that_is_set_back_ends_the_minute() -> None:
    strangers = Strangers(lambda kind, text: text, lambda now: "1")
    assert [strangers.may_record("a", NOW) for _ in range(ROWS + 1)] == [True] * ROWS + [False]
    assert len(strangers.counted(NOW - timedelta(hours=1))) == 1

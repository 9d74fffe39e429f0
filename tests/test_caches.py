"""No cache keeps what a client sends, unless it is short."""

from __future__ import annotations

import functools
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support import AVATARS, write_policies

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator

MARK = "marked-by-the-test-"
LONG = MARK + "x" * 5_000
PARAMETERS = (
    *("model", "size", "quality", "background", "output_format", "moderation", "input_fidelity", "user"),
    *("safety_identifier", "prompt", "response_format", "style", LONG),
)


def kept() -> Iterator[str]:
    """Long texts with the mark that some cache of any module holds in its keys or values."""
    caches = [found for found in gc.get_objects() if type(found) is functools._lru_cache_wrapper]
    assert len(caches) > 10
    todo: list[Any] = [part for cache in caches for part in gc.get_referents(cache) if isinstance(part, dict)]
    while todo:
        one = todo.pop()
        if isinstance(one, str) and one.startswith(MARK) and len(one) > 200:
            yield one[:40]
        elif isinstance(one, dict):
            todo += [*one.keys(), *one.values()]
        elif isinstance(one, tuple | list) or type(one).__name__ == "_HashedSeq":
            todo += one
        elif not isinstance(one, str | bytes | int | float | type | None):
            todo += [part for part in gc.get_referents(one) if isinstance(part, str | tuple | list)]


def test_the_search_finds_what_a_cache_keeps() -> None:
    cached = functools.lru_cache(maxsize=4)(len)
    cached(LONG)
    assert list(kept()) == [LONG[:40]]
    cached.cache_clear()
    assert list(kept()) == []


@pytest.fixture
def client(tmp_path: Path) -> Iterator[TestClient]:
    async def answer(request: Request) -> JSONResponse:
        return JSONResponse({"created": 1, "data": []})

    folder = write_policies(tmp_path / "policies", avatars=AVATARS)
    guard = Guard.open(folder, store=f"sqlite:///{tmp_path / 'r.sqlite3'}", moderator=ScriptedModerator())
    app = Starlette(routes=[Route("/avatars/v1/images/generations", answer, methods=["POST"])])
    with TestClient(PolicyGuardMiddleware(app, guard=guard), client=("127.0.0.1", 1)) as client:
        yield client
    guard.close()


def test_a_refused_request_leaves_nothing_long_in_any_cache(client: TestClient) -> None:
    who = {"x-user-id": "u1"}
    for number, name in enumerate(PARAMETERS):
        body = {"prompt": "a cat", name: f"{LONG}{number}"}
        client.post("/avatars/v1/images/generations", json=body, headers=who)
        client.post("/avatars/v1/images/generations", data=body, files={"image": b"x"}, headers=who)
        client.post("/avatars/v1/images/edits", data=body, files={"image": b"x"}, headers=who)
    for header in ("x-user-id", "x-tenant", "x-plan", "x-policyguard-review", "x-forwarded-for", "x-request-id"):
        headers = {**who, header: LONG}
        client.post("/avatars/v1/images/generations", json={"prompt": "a cat"}, headers=headers)
    client.post(f"/avatars/v1/images/generations/{LONG}", json={"prompt": "a cat"}, headers=who)
    assert sorted(set(kept())) == []


def test_an_address_that_a_server_took_from_a_header_is_not_kept(tmp_path: Path) -> None:
    from policyguard.adapters.identity import _trusted
    from policyguard.policy.load import load

    policies = load(write_policies(tmp_path / "policies", avatars=AVATARS))
    assert _trusted("127.0.0.1", policies) is True
    assert _trusted(LONG, policies) is False
    assert sorted(set(kept())) == []

"""An app's own route: what an approval covers there is the whole request, because the app reads the whole of it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from adapters.test_asgi import OWN, Answer, App, ask
from support import SURFACE

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.guard.guard import Guard

pytestmark = pytest.mark.anyio
HERE, THERE = "/api/avatars", "/api/avatars-in-oil"
REVIEWED = SURFACE.replace("POST /v1/images/edits", f"{OWN}, {OWN.replace(HERE, THERE)}") + (
    "review: {required: true, reviewers: [group:trust], expires: 1h}\n"
)
BODY: dict[str, Any] = {"text": "a cat", "style": {"name": "plain", "weight": 1}, "layers": ["a", "b"]}
QUERY = b"frame=none&gloss=1"


class Reviewed:
    """A held request that ada has approved, and whoever comes back for it."""

    def __init__(self, guard: Guard) -> None:
        self.app = App()
        self._door = PolicyGuardMiddleware(self.app, guard=guard)
        self._guard = guard
        self._review: list[tuple[bytes, bytes]] = []

    async def hold(self, **more: Any) -> None:
        held = await self.send(**more)
        assert held.code == "policy_review_required"
        review_id = held.document["error"]["policy"]["review_id"]
        self._guard.store.vote(review_id, "ada@example.com", "approve", "fine", self._guard.clock())
        self._review = [(b"x-policyguard-review", review_id.encode())]

    async def send(self, body: Any = BODY, path: str = HERE, query: bytes = QUERY, **more: Any) -> Answer:
        headers = [(b"content-type", b"application/json"), (b"x-user-id", b"u1"), *self._review]
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return await ask(self._door, raw, path=path, query_string=query, headers=headers, **more)


@pytest.fixture
async def reviewed(open_guard: Callable[..., Guard]) -> Reviewed:
    found = Reviewed(open_guard(avatars=REVIEWED))
    await found.hold()
    return found


EDITED: dict[str, dict[str, Any]] = {
    "a field that is not declared": {"body": {**BODY, "style": {"name": "gory", "weight": 1}}},
    "one that is new": {"body": {**BODY, "negative": "clothes"}},
    "one that is gone": {"body": {name: value for name, value in BODY.items() if name != "layers"}},
    "null for a value": {"body": {**BODY, "layers": None}},
    "another kind of number": {"body": {**BODY, "style": {"name": "plain", "weight": 1.0}}},
    "the order of a list": {"body": {**BODY, "layers": ["b", "a"]}},
    "a declared field": {"body": {**BODY, "text": "a dog"}},
    "the query": {"query": b"frame=none&gloss=2"},
    "the order of the query": {"query": b"gloss=1&frame=none"},
    "no query": {"query": b""},
    "another route of the surface": {"path": THERE},
}


@pytest.mark.parametrize("edit", EDITED.values(), ids=EDITED.keys())
async def test_an_approval_does_not_cover_an_edited_request(reviewed: Reviewed, edit: dict[str, Any]) -> None:
    answer = await reviewed.send(**edit)
    reason = answer.document["error"]["policy"]["reasons"][-1]
    assert (answer.status, reason["id"], reviewed.app.bodies) == (403, "review.mismatch", [])
    assert "every field and the query unchanged" in answer.document["error"]["message"]
    assert (await reviewed.send()).status == 200  # the approval is still there


@pytest.mark.parametrize(
    "body",
    [
        BODY,
        json.dumps(dict(reversed(BODY.items())), indent=2).encode(),
        json.dumps(BODY).replace("cat", r"c\u0061t").encode(),
    ],
    ids=["to the byte", "order and spaces", "escapes"],
)
async def test_the_same_request_goes_however_its_json_is_spelt(reviewed: Reviewed, body: Any) -> None:
    assert (await reviewed.send(body)).status == 200
    assert len(reviewed.app.bodies) == 1


async def test_the_route_is_the_same_whatever_its_root_path(reviewed: Reviewed) -> None:
    assert (await reviewed.send(path=f"/outer{HERE}", root_path="/outer")).status == 200


async def test_on_a_route_like_openais_an_approval_covers_the_query_too(open_guard: Callable[..., Guard]) -> None:
    reviewed, path = Reviewed(open_guard(avatars=REVIEWED)), "/v1/images/generations"
    body = {"prompt": "a cat"}
    await reviewed.hold(body=body, path=path, query=b"api-version=1")
    other = await reviewed.send(body, path, b"api-version=1&style=gory")
    assert other.document["error"]["policy"]["reasons"][-1]["id"] == "review.mismatch"
    assert (await reviewed.send(body, path, b"api-version=1")).status == 200

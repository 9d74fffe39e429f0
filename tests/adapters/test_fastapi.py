"""FastAPI and Starlette: the decision in a handler, the refusals in the schema, the lifespan; an app like Django."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI, Request
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.testclient import TestClient
from support import ORG, SURFACE

import policyguard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.fastapi import decision, lifespan, responses
from policyguard.decision import REFUSALS, Decision
from policyguard.errors import ConfigError
from policyguard.guard.guard import Guard

PATH = "/v1/images/generations"
USER = {"x-user-id": "u1"}
USAGE = {"usage": {"input_tokens": 10, "output_tokens": 196}, "data": []}
Allowed = Annotated[Decision, Depends(decision)]


def app_of(guard: Guard | None) -> FastAPI:
    app = FastAPI()
    if guard is not None:
        app.add_middleware(PolicyGuardMiddleware, guard=guard)

    @app.post(PATH, responses=responses())
    async def draw(allowed: Allowed) -> dict[str, Any]:
        assert allowed.request is not None
        return {**USAGE, "decision": allowed.id, "n": allowed.request.n, "effect": allowed.effect.word}

    @app.post("/other")
    async def other(allowed: Allowed) -> str:
        return allowed.id

    return app


def client_of(app: Any) -> TestClient:
    return TestClient(app, client=("127.0.0.1", 50_000))


ADJUST = SURFACE.replace("request:", "request:\n  on_excess: adjust")


def test_a_handler_gets_the_decision_on_its_request(open_guard: Callable[..., Guard]) -> None:
    client = client_of(app_of(open_guard(avatars=ADJUST)))
    answer = client.post(PATH, json={"prompt": "a cat", "n": 9}, headers=USER)
    assert (answer.status_code, answer.json()["n"], answer.json()["effect"]) == (200, 2, "allow")
    assert answer.json()["decision"] == answer.headers["x-policyguard-decision"]


@pytest.mark.parametrize("path", [PATH, "/other"])
def test_a_handler_without_the_middleware_fails_and_says_what_is_missing(path: str) -> None:
    with pytest.raises(ConfigError, match="add `PolicyGuardMiddleware`"):
        client_of(app_of(None)).post(path, json={"prompt": "a cat"})


def test_a_handler_that_no_surface_has_fails(open_guard: Callable[..., Guard]) -> None:
    client = TestClient(app_of(open_guard()), raise_server_exceptions=False)
    assert client.post("/other", json={"prompt": "a cat"}, headers=USER).status_code == 500


def test_a_client_cannot_bring_a_decision_of_its_own() -> None:
    app = Starlette(routes=[Route("/x", _state, methods=["POST"])])
    with pytest.raises(ConfigError):
        client_of(app).post("/x", headers={"policyguard": "dec_1"})


async def _state(request: Request) -> Any:
    request.state.policyguard = "dec_1"
    return await decision(request)


# ---- OpenAPI ----------------------------------------------------------------------------------------------


def test_every_refusal_is_in_the_schema_of_the_app() -> None:
    said = app_of(None).openapi()["paths"][PATH]["post"]["responses"]
    codes = {}
    for status in said.keys() - {"200", "422"}:
        error = said[status]["content"]["application/json"]["schema"]["properties"]["error"]
        codes[int(status)] = set(error["properties"]["code"]["enum"])
    by_table: dict[int, set[str]] = {413: {"invalid_request"}}
    for refusal in REFUSALS.values():
        by_table.setdefault(refusal.status, set()).add(refusal.code)
    assert codes == by_table


@pytest.mark.parametrize(
    ("body", "headers"),
    [({"prompt": "a cat", "n": 9}, USER), ({"prompt": "a cat"}, {}), ({}, USER)],
    ids=["denied", "nobody", "malformed"],
)
def test_a_refusal_has_the_shape_that_the_schema_says(
    open_guard: Callable[..., Guard], body: Any, headers: dict[str, str]
) -> None:
    answer = client_of(app_of(open_guard())).post(PATH, json=body, headers=headers)
    schema = responses()[answer.status_code]["content"]["application/json"]["schema"]
    _matches(schema, answer.json())
    assert answer.json()["error"]["code"] in schema["properties"]["error"]["properties"]["code"]["enum"]


def _matches(schema: Any, value: Any) -> None:
    """What is required is there, and objects hold what is declared."""
    for name, part in schema.get("properties", {}).items():
        assert name in value
        if part.get("type") == "object" and "properties" in part:
            _matches(part, value[name])
        for item in value[name] if part.get("type") == "array" else ():
            _matches(part["items"], item)


def test_what_one_app_changes_in_its_responses_another_does_not_see() -> None:
    responses()[400]["description"] = "changed"
    assert "policy_violation" in responses()[400]["description"]


# ---- lifespan ---------------------------------------------------------------------------------------------


def test_the_lifespan_follows_the_policies_and_closes_the_guard_after_the_apps_own(
    open_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, seen = open_guard(watch=60), []
    close = guard.aclose

    async def closed() -> None:
        seen.append("closed")
        await close()

    monkeypatch.setattr(guard, "aclose", closed)

    @asynccontextmanager
    async def own(app: Any) -> AsyncIterator[dict[str, str]]:
        seen.append("following" if guard._watch.following else "not yet")
        yield {"client": "open"}
        seen.append("end of the app's own")

    async def shown(request: Request) -> JSONResponse:
        return JSONResponse(request.state.client)

    app = Starlette(routes=[Route("/", shown)], lifespan=lifespan(guard, own))
    with TestClient(app) as client:
        assert client.get("/").json() == "open"
    with TestClient(FastAPI(lifespan=lifespan(guard))):
        seen.append("a lifespan alone")
    assert seen == ["following", "end of the app's own", "closed", "a lifespan alone", "closed"]


# ---- another server's shape -------------------------------------------------------------------------------


@pytest.mark.anyio
async def test_an_app_that_listens_for_a_disconnect_beside_its_work_is_guarded(
    open_guard: Callable[..., Guard],
) -> None:
    """As Django does: it reads the body, waits for a disconnect in a task, and cancels that at the end."""
    seen: list[Any] = []

    async def django_like(scope: Any, receive: Any, send: Any) -> None:
        message = {"more_body": True}
        while message.get("more_body"):
            message = await receive()
            seen.append(message["body"])
        listening = asyncio.ensure_future(receive())
        await asyncio.sleep(0)
        await send({"type": "http.response.start", "status": 200, "headers": ((b"content-type", b"application/json"),)})
        await send({"type": "http.response.body", "body": json.dumps(USAGE).encode()})
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)

    guard = open_guard(org=ORG)
    door, sent = PolicyGuardMiddleware(django_like, guard=guard), []
    body: list[Any] = [{"type": "http.request", "body": b'{"prompt": "a cat", "moderation": "low"}'}]

    async def receive() -> Any:
        return body.pop() if body else await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"x-user-id", b"u1")]
    scope = {
        "type": "http",
        "method": "POST",
        "path": PATH,
        "root_path": "",
        "headers": headers,
        "client": ("127.0.0.1", 5),
    }
    await door(scope, receive, send)
    assert json.loads(seen[0])["moderation"] == "auto"
    assert [message["type"] for message in sent] == ["http.response.start", "http.response.body"]
    assert [r.event.type for r in guard.store.events(limit=9)] == ["request.decided", "leg.settled"]


# ---- who asks, from a dependency --------------------------------------------------------------------------

CONSTANTS: Any = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1}


def plain(user: str) -> Iterator[None]:
    with policyguard.caller(user=user):
        yield


async def coroutine(user: str) -> AsyncIterator[None]:
    with policyguard.caller(user=user):
        yield


def drawing(guard: Guard, dependency: Any, *, guarded: bool) -> TestClient:
    """Handlers, sync and async, that ask a dependency who the user is, and draw."""
    app = FastAPI()
    if guarded:
        app.add_middleware(PolicyGuardMiddleware, guard=guard)

    @guard.enforce("avatars", constants=CONSTANTS)
    def draw(prompt: str) -> Any:
        return USAGE

    @app.get("/sync", dependencies=[Depends(dependency)])
    def in_a_thread() -> Any:
        return draw("a cat")

    @app.get("/async", dependencies=[Depends(dependency)])
    async def on_the_loop() -> Any:
        return draw("a cat")

    return TestClient(app)


@pytest.mark.parametrize("path", ["/sync", "/async"])
@pytest.mark.parametrize(("dependency", "guarded"), [(plain, True), (coroutine, True), (coroutine, False)])
def test_a_dependency_says_who_asks_for_its_own_request_alone(
    open_guard: Callable[..., Guard], dependency: Any, guarded: bool, path: str
) -> None:
    guard = open_guard()
    client = drawing(guard, dependency, guarded=guarded)
    for user in ("u1", "u2"):
        assert client.get(path, params={"user": user}).status_code == 200
    users = [row.event.dimensions["user"] for row in guard.store.events(type="request.decided")]
    assert users == [guard.vault.pseudonym("user", user) for user in ("u1", "u2")]


def test_a_plain_dependency_without_the_middleware_is_an_error_and_not_a_lost_caller(
    open_guard: Callable[..., Guard],
) -> None:
    with pytest.raises(ConfigError, match="write it with `async def`, or add `PolicyGuardMiddleware`"):
        drawing(open_guard(), plain, guarded=False).get("/async", params={"user": "u1"})

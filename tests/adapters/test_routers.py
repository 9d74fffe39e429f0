"""Routes by method and path as real routers see them: whoever reaches a guarded handler was decided.

Each app is wrapped from outside, so that the guard knows nothing of it. What is sent is made up from a small grammar.
"""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote

import anyio
import django
import django.test.signals  # clears the caches of urls when a setting changes
import pytest
from adapters.test_asgi import HEADERS, OWN, App, ask, decisions
from asgiref.wsgi import WsgiToAsgi
from django.conf import settings
from django.core.handlers.asgi import ASGIHandler
from django.http import HttpResponse
from django.test.utils import override_settings
from django.urls import path as django_path
from django.urls import re_path
from django.views.decorators.http import require_http_methods
from fastapi import FastAPI
from flask import Flask
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Mount, Route
from support import SURFACE, write_policies
from tool_bodies import PRICES, RESPONSES

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated"),  # by FastAPI, and used all the same
]
BODY = b'{"text": "a cat"}'
ROUTE = "/api/avatars"
METHODS = ["POST", "PUT", "PATCH"]


@pytest.fixture
def guard(open_guard: Callable[..., Guard]) -> Guard:
    claimed = ", ".join(OWN.replace("POST", method) for method in METHODS)
    return open_guard(avatars=SURFACE.replace("POST /v1/images/edits", claimed))


# ---- apps: each has the claimed handler, and says in `reached` that it was called -------------------------------


class Reached(list[str]):
    """The methods of the calls of a guarded handler."""


def starlette(reached: Reached) -> Any:
    async def draw(request: Any) -> Any:
        reached.append(request.method)
        return PlainTextResponse("{}")

    return Starlette(routes=[Mount("/api", routes=[Route("/avatars", draw, methods=METHODS)])])


def fastapi(reached: Reached, root_path: str = "", route: str = ROUTE) -> Any:
    app = FastAPI(root_path=root_path)

    @app.api_route(route, methods=METHODS)
    async def draw() -> dict[str, Any]:
        reached.append("POST")
        return {}

    return app


def flask(reached: Reached) -> Any:
    app = Flask("guarded")

    @app.route(ROUTE, methods=METHODS)
    def draw() -> str:
        reached.append("POST")
        return "{}"

    return WsgiToAsgi(app)


def quart(reached: Reached) -> Any:
    app = Quart("guarded")

    @app.route(ROUTE, methods=METHODS)
    async def draw() -> str:
        reached.append("POST")
        return "{}"

    return app


@pytest.fixture
def django_app() -> Iterator[Callable[..., Any]]:
    if not settings.configured:
        settings.configure(SECRET_KEY="only for tests")
    django.setup()
    urls = ModuleType("urls_of_a_guarded_app")
    with override_settings(ALLOWED_HOSTS=["*"], MIDDLEWARE=[], ROOT_URLCONF=urls, DEFAULT_CHARSET="utf-8"):

        def make(reached: Reached, pattern: Any = None) -> Any:
            @require_http_methods(METHODS)
            def draw(request: Any) -> Any:
                reached.append(request.method)
                return HttpResponse("{}")

            urls.urlpatterns = [pattern(draw) if pattern else django_path("api/avatars", draw)]  # type: ignore[attr-defined]
            return ASGIHandler()

        yield make


# ---- the cases that were found ----------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["post", "Post", "pOST"])
async def test_a_method_in_any_case_is_decided_where_an_app_takes_it(
    guard: Guard, method: str, django_app: Any
) -> None:
    for make in (flask, quart, django_app):
        reached = Reached()
        answer = await send(PolicyGuardMiddleware(make(reached), guard=guard), ROUTE, method=method)
        assert (answer.status, reached, answer.decided) == (200, ["POST"], True)
    assert len(decisions(guard)) == 3


@pytest.mark.parametrize(
    "path", ["/outer/api/avatars", "/outer/api/avatars/", "/outer//api/AVATARS", "/a/b/api/avatars"]
)
async def test_a_prefix_that_only_the_app_knows_is_refused_and_recorded(guard: Guard, path: str) -> None:
    reached = Reached()
    answer = await send(PolicyGuardMiddleware(fastapi(reached, "/outer"), guard=guard), path)
    assert (answer.status, answer.error["code"], reached) == (403, "policy_no_surface", [])
    assert "call it exactly as the policy writes it" in answer.error["policy"]["reasons"][0]["message"]
    assert [event.outcome for event in decisions(guard)] == ["deny"]


async def test_a_script_name_that_only_django_knows_is_refused(guard: Guard, django_app: Any) -> None:
    with override_settings(FORCE_SCRIPT_NAME="/outer"):
        reached = Reached()
        answer = await send(PolicyGuardMiddleware(django_app(reached), guard=guard), "/outer/api/avatars")
    assert (answer.error["code"], reached) == ("policy_no_surface", [])


async def test_a_claimed_route_without_the_prefix_that_the_app_takes_off_is_refused(guard: Guard) -> None:
    """FastAPI takes a path with its root path and without."""
    reached = Reached()
    answer = await send(PolicyGuardMiddleware(fastapi(reached, "/api", "/avatars"), guard=guard), "/avatars")
    assert (answer.error["code"], reached) == ("policy_no_surface", [])


@pytest.mark.parametrize(("path", "root"), [("/outer/api/avatars", "/outer"), ("/avatars", "/api"), (ROUTE, "")])
async def test_a_root_path_that_the_guard_is_told_is_decided(guard: Guard, path: str, root: str) -> None:
    reached = Reached()
    app = fastapi(reached, root, ROUTE.removeprefix(root) or ROUTE)
    answer = await send(PolicyGuardMiddleware(app, guard=guard, root_path=root), path)
    assert (answer.status, reached, answer.decided) == (200, ["POST"], True)


async def test_where_the_root_path_is_known_other_routes_with_the_same_end_pass(guard: Guard) -> None:
    app = App()
    door = PolicyGuardMiddleware(app, guard=guard, root_path="")
    for path in ("/v2/api/avatars", "/avatars"):
        assert (await ask(door, BODY, path=path)).status == 200
    assert (len(app.bodies), decisions(guard)) == (2, [])


async def test_below_a_claimed_root_every_path_could_be_it_unless_the_root_path_is_known(
    open_guard: Callable[..., Guard],
) -> None:
    """What the app takes off can be all of a path."""
    guard, app = open_guard(avatars=SURFACE.replace("POST /v1/images/edits", OWN.replace(ROUTE, "/"))), App()
    for path in ("/outer", "/outer/", "/other"):
        assert (await ask(PolicyGuardMiddleware(app, guard=guard), BODY, path=path)).code == "policy_no_surface"
    assert app.bodies == []
    assert (await ask(PolicyGuardMiddleware(app, guard=guard, root_path=""), BODY, path="/other")).status == 200


async def test_a_root_path_that_runs_into_the_path_leads_around_nothing(guard: Guard) -> None:
    """A server adds `--root-path` to a target without a slash; Werkzeug puts the slash there."""
    reached = Reached()
    answer = await send(PolicyGuardMiddleware(flask(reached), guard=guard), "/outerapi/avatars", root_path="/outer")
    assert (answer.error["code"], reached) == ("policy_no_surface", [])


async def test_a_route_of_the_responses_api_without_its_prefix_is_looked_at(tmp_path: Path) -> None:
    surface = RESPONSES.replace("POST /v1/responses", "POST /x/v1/responses")
    folder, app = write_policies(tmp_path / "policies", avatars=surface, prices=PRICES), App()
    drawn = b'{"model": "m", "input": "a cat", "tools": [{"type": "image_generation"}]}'
    with Guard.open(folder, store=f"sqlite:///{tmp_path / 'record.sqlite3'}", moderator=ScriptedModerator()) as guard:
        door = PolicyGuardMiddleware(app, guard=guard)
        assert (await ask(door, drawn, path="/responses")).code == "policy_no_surface"
        assert (await ask(door, b'{"model": "m", "input": "a cat"}', path="/responses")).status == 200
    assert len(app.bodies) == 1


# ---- a grammar of targets ---------------------------------------------------------------------------------


class Grammar:
    """Targets that are the claimed route in some reader's eyes: raw, as a client writes them. Mostly plain."""

    def __init__(self, seed: str) -> None:
        self._random = random.Random(seed)

    def _or(self, plain: Any, *others: Any) -> Any:
        return plain if self._random.random() < 0.75 else self._random.choice(others)

    def method(self) -> str:
        return str(
            self._or("POST", "post", "Post", "PUT", "put", "PATCH", "GET", "HEAD", "OPTIONS", "DELETE", "po\u017ft")
        )

    def root(self) -> str:
        return str(self._or("", "/outer", "/api", "/outer/"))

    def target(self) -> str:
        prefix = self._or("", "/outer", "/outer/api", "/api", "outer", "/OUTER", "/x/y", "//outer", "/outer;v=1", ".")
        segments = self._or(["api", "avatars"], ["avatars"], ["api", "avatar", "s"], ["outer", "api", "avatars"])
        lead = self._or("/", "", "//", "/./", "/../", "%2f", "/%20", "/x/../")
        slash = self._or("/", "//", "/./", "/x/../", "%2f", "%2F", "\\", "%5c", "%252f", "/;/", "/%2e/")
        tail = self._or("", "/", "//", "/.", "/..", ";", ";a=b", "%00", "%0a", "%20", "?x", "%3fx", "#x", "%23", "/%0A")
        change = (_encoded, _twice, _wide, _long_s, _spaced, _param, str.upper, str.title)
        return prefix + lead + slash.join(self._or(str, *change)(segment) for segment in segments) + tail


def _encoded(text: str) -> str:
    return "".join(f"%{ord(letter):02x}" for letter in text)


def _twice(text: str) -> str:
    return f"%25{ord(text[0]):02x}{text[1:]}"


def _wide(text: str) -> str:
    return chr(ord(text[0]) + 0xFEE0) + text[1:]


def _long_s(text: str) -> str:
    return text.replace("s", "\u017f")


def _spaced(text: str) -> str:
    return f"{text[:2]}%09{text[2:]}"


def _param(text: str) -> str:
    return f"{text};v=1"


@dataclass
class Answer:
    status: int = 0
    headers: dict[bytes, bytes] = field(default_factory=dict)
    body: bytes = b""

    @property
    def decided(self) -> bool:
        return b"x-policyguard-decision" in self.headers

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


async def send(door: Any, target: str, method: str = "POST", **scope: Any) -> Answer:
    """As a server hands it over: decoded once, without its query. The client stays until it has its answer."""
    raw, _, query = target.partition("?")
    left, answer = [{"type": "http.request", "body": BODY, "more_body": False}], Answer()

    async def receive() -> Any:
        return left.pop() if left else await anyio.sleep_forever()

    async def take(message: Any) -> None:
        if message["type"] == "http.response.start":
            answer.status, answer.headers = message["status"], dict(message["headers"])
        answer.body += message.get("body", b"")

    given = {"type": "http", "http_version": "1.1", "scheme": "http", "method": method, "path": unquote(raw)}
    given |= {"query_string": query.encode(), "headers": list(HEADERS), "client": ("127.0.0.1", 5), **scope}
    await door(given, receive, take)
    return answer


CASES = 400  # for each app


@pytest.mark.parametrize("name", ["starlette", "fastapi", "fastapi below", "fastapi beside", "flask", "quart"])
async def test_whoever_reaches_a_guarded_handler_was_decided(guard: Guard, name: str) -> None:
    makers: dict[str, Callable[[Reached], Any]] = {
        "starlette": starlette,
        "fastapi": fastapi,
        "fastapi below": lambda reached: fastapi(reached, "/outer"),
        "fastapi beside": lambda reached: fastapi(reached, "/api", "/avatars"),
        "flask": flask,
        "quart": quart,
    }
    await _fuzz(guard, makers[name], seed=name)


@pytest.mark.parametrize("script_name", [None, "/outer", "/outer/"])
@pytest.mark.parametrize("pattern", ["path", "re_path"])
async def test_whoever_reaches_a_guarded_view_of_django_was_decided(
    guard: Guard, django_app: Any, script_name: str | None, pattern: str
) -> None:
    patterns = {
        "path": lambda view: django_path("api/avatars", view),
        "re_path": lambda view: re_path(r"^/?api/avatars/?$", view),
    }
    with override_settings(FORCE_SCRIPT_NAME=script_name):
        await _fuzz(guard, lambda reached: django_app(reached, patterns[pattern]), seed=f"{script_name}{pattern}")


async def _fuzz(guard: Guard, make: Callable[[Reached], Any], seed: str, cases: int = CASES) -> Counter[str]:
    counts: Counter[str] = Counter()
    reached = Reached()
    door = PolicyGuardMiddleware(make(reached), guard=guard)
    grammar = Grammar(seed)
    for _ in range(cases):
        method, target, root = grammar.method(), grammar.target(), grammar.root()
        reached.clear()
        answer = await send(door, target, method=method, root_path=root)
        assert answer.decided or not reached, (method, target, root)
        counts[f"{'reached' if reached else 'kept off'}, {'decided' if answer.decided else 'not ours'}"] += 1
    assert counts["reached, decided"] >= cases / 20  # or the grammar says nothing
    return counts

"""The proxy as an app of its own pages: who sees the metrics, and which pages of the web may ask it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx2
import pytest
from proxy.wire_upstream import WireUpstream, wire_upstream
from starlette.types import ASGIApp, Receive, Scope, Send
from support import NOW, ORG, SURFACE

from policyguard.guard.guard import Guard
from policyguard.proxy.moderator import UpstreamModerator
from policyguard.proxy.serving import Options, create_app
from policyguard.proxy.upstream import Upstream

pytestmark = pytest.mark.anyio
GENERATIONS = "/v1/images/generations"
ORIGIN = "https://app.example.com"


@pytest.fixture
async def server() -> AsyncIterator[WireUpstream]:
    async with wire_upstream() as running:
        yield running


@pytest.fixture
async def app_of(server: WireUpstream, open_guard: Callable[..., Guard]) -> AsyncIterator[Callable[..., Any]]:
    made: list[Upstream] = []

    def make(**options: Any) -> ASGIApp:
        upstream = Upstream(key="sk-upstream", base_url=server.url)
        made.append(upstream)
        guard = open_guard(avatars=SURFACE, org=ORG, moderator=UpstreamModerator(upstream, retry_wait_s=0))
        guard.store.proxy_keys.create(
            "sk-1", name="t", surfaces=("avatars",), caller={"user": "u1"}, names_user=False, by="ada", now=NOW
        )
        return create_app(Options(**options), (guard, upstream))

    yield make
    for one in made:
        await one.aclose()


async def ask(app: ASGIApp, method: str, path: str, client: tuple[str, int] = ("127.0.0.1", 9), **given: Any) -> Any:
    async def here(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "client": client}, receive, send)

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=here), base_url="http://proxy") as http:
        return await http.request(method, path, **given)


# ---- metrics ----------------------------------------------------------------------------------------------

FORWARDED = (
    "x-forwarded-for x-forwarded-proto x-forwarded-host forwarded via x-real-ip x-client-ip x-cluster-client-ip"
    " cf-connecting-ip true-client-ip fastly-client-ip x-original-forwarded-for x-envoy-external-address"
).split()


@pytest.mark.parametrize("name", FORWARDED)
async def test_what_a_reverse_proxy_passes_on_is_shown_no_metrics(app_of: Callable[..., Any], name: str) -> None:
    app = app_of()
    assert (await ask(app, "GET", "/metrics")).status_code == 200
    for value in ("203.0.113.9", "127.0.0.1", ""):
        answer = await ask(app, "GET", "/metrics", headers={name.title(): value})
        assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")


async def test_metrics_through_a_reverse_proxy_are_for_who_allows_it(app_of: Callable[..., Any]) -> None:
    app = app_of(metrics_forwarded=True)
    headers = {"x-forwarded-for": "203.0.113.9"}
    assert (await ask(app, "GET", "/metrics", headers=headers)).status_code == 200
    assert (await ask(app, "GET", "/metrics", ("203.0.113.9", 9), headers=headers)).status_code == 403


# ---- browsers ---------------------------------------------------------------------------------------------


def preflight(origin: str = ORIGIN) -> dict[str, str]:
    return {
        "origin": origin,
        "access-control-request-method": "POST",
        "access-control-request-headers": "authorization,content-type,x-stainless-lang,x-policyguard-user",
    }


async def test_no_page_of_the_web_may_ask_unless_it_is_named(app_of: Callable[..., Any]) -> None:
    app = app_of()
    answer = await ask(app, "OPTIONS", GENERATIONS, headers=preflight())
    assert answer.status_code == 401
    headers = {"origin": ORIGIN, "authorization": "Bearer sk-1"}
    made = await ask(app, "POST", GENERATIONS, headers=headers, json={"prompt": "a cat"})
    assert made.status_code == 200
    assert not any(name.startswith("access-control") for name in made.headers)


async def test_a_named_origin_asks_and_reads_who_decided(app_of: Callable[..., Any], server: WireUpstream) -> None:
    app = app_of(cors_origins=(ORIGIN,))
    answer = await ask(app, "OPTIONS", GENERATIONS, headers=preflight())
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, ORIGIN)
    assert "x-stainless-lang" in answer.headers["access-control-allow-headers"]
    assert server.seen == []
    headers = {"origin": ORIGIN, "authorization": "Bearer sk-1"}
    made = await ask(app, "POST", GENERATIONS, headers=headers, json={"prompt": "a cat"})
    refused = await ask(app, "POST", GENERATIONS, headers={"origin": ORIGIN}, json={"prompt": "a cat"})
    assert (made.status_code, refused.status_code) == (200, 401)
    for each in (made, refused):
        assert each.headers["access-control-allow-origin"] == ORIGIN
        assert "x-policyguard-decision" in each.headers["access-control-expose-headers"]


async def test_another_origin_is_not_answered(app_of: Callable[..., Any]) -> None:
    app = app_of(cors_origins=(ORIGIN,))
    answer = await ask(app, "OPTIONS", GENERATIONS, headers=preflight("https://evil.example"))
    assert answer.status_code == 400
    assert "access-control-allow-origin" not in answer.headers


@pytest.mark.parametrize(("options", "allowed"), [({}, None), ({"cors_origins": (ORIGIN,)}, ORIGIN)])
async def test_what_the_upstream_says_to_browsers_is_not_passed_on(
    app_of: Callable[..., Any], server: WireUpstream, options: dict[str, Any], allowed: str | None
) -> None:
    body = b'{"data": [], "usage": {"input_tokens": 1, "output_tokens": 1}}'
    head = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\naccess-control-expose-headers: X-Request-ID\r\n"
    server.answers[GENERATIONS] = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    headers = {"origin": ORIGIN, "authorization": "Bearer sk-1"}
    answer = await ask(app_of(**options), "POST", GENERATIONS, headers=headers, json={"prompt": "a cat"})
    assert answer.headers.get("access-control-allow-origin") == allowed

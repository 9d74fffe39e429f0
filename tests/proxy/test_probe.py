"""The look at the upstream: what lasts is told once and answered as what it is; what passes stays an outage."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from proxy.test_proxy import Client, no_pages
from proxy.wire_upstream import WireUpstream, http, wire_upstream
from support import ORG, SURFACE

from policyguard.errors import ConfigError
from policyguard.guard.guard import Guard
from policyguard.proxy import probe
from policyguard.proxy.health import pages
from policyguard.proxy.listen import is_here
from policyguard.proxy.moderator import UpstreamModerator
from policyguard.proxy.probe import BAD_S, GOOD_S, PROBE, Probe, probe_upstream
from policyguard.proxy.proxy import Proxy
from policyguard.proxy.upstream import Upstream

pytestmark = pytest.mark.anyio
MODELS = http(200, {"object": "list", "data": []})
REFUSED = http(401, {"error": {"message": "Incorrect API key provided.", "code": "invalid_api_key"}})


@pytest.fixture
async def server() -> AsyncIterator[WireUpstream]:
    async with wire_upstream() as running:
        running.answers["/v1/models"] = MODELS
        yield running


@pytest.fixture
async def upstream_at() -> AsyncIterator[Callable[[str], Upstream]]:
    made: list[Upstream] = []

    def make(url: str) -> Upstream:
        made.append(Upstream(key="sk-upstream", base_url=url))
        return made[-1]

    yield make
    for one in made:
        await one.aclose()


@pytest.fixture
async def upstream(server: WireUpstream, upstream_at: Callable[[str], Upstream]) -> Upstream:
    return upstream_at(server.url)


def says(found: tuple[Any, ...]) -> list[tuple[bool, str]]:
    return [(one.stops, one.says) for one in found]


async def test_a_good_upstream_is_asked_for_its_models_and_nothing_else(
    server: WireUpstream, upstream: Upstream
) -> None:
    assert await probe_upstream(upstream, "me") == ()
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body, seen.headers[PROBE]) == ("GET", "/v1/models", b"", "me")


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (REFUSED, "refuses the key"),
        (http(401, {}, 'www-authenticate: Bearer realm="policyguard"'), "a policyguard proxy"),
        (http(508, {}), "this proxy itself"),
        (http(407, {}), "proxy of the environment"),
        (http(301, {}, "location: https://elsewhere.example"), "redirects"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>", "not OpenAI's API"),
    ],
)
async def test_what_lasts_stops(server: WireUpstream, upstream: Upstream, answer: bytes, words: str) -> None:
    server.answers["/v1/models"] = answer
    ((stops, said),) = says(await probe_upstream(upstream))
    assert stops
    assert words in said
    assert "sk-upstream" not in said


@pytest.mark.parametrize("status", [403, 429, 500, 503])
async def test_what_passes_or_says_nothing_does_not_stop(server: WireUpstream, upstream: Upstream, status: int) -> None:
    server.answers["/v1/models"] = http(status, {"error": {"message": "no"}})
    assert await probe_upstream(upstream) == ()


@pytest.mark.parametrize(
    ("path", "words"), [("", "without `/v1`"), ("/v1/v1", "more behind `/v1`"), ("/v1/images", "more behind `/v1`")]
)
async def test_an_address_that_is_written_wrongly_is_told_by_asking_at_the_right_one(
    server: WireUpstream, upstream_at: Callable[[str], Upstream], path: str, words: str
) -> None:
    wrong = upstream_at(server.url.removesuffix("/v1") + path)
    for answer in (MODELS, REFUSED):
        server.answers["/v1/models"] = answer
        ((stops, said),) = says(await probe_upstream(wrong))
        assert (stops, words in said) == (True, True)


async def test_a_server_without_a_list_of_models_is_not_stopped(server: WireUpstream, upstream: Upstream) -> None:
    del server.answers["/v1/models"]
    ((stops, said),) = says(await probe_upstream(upstream))
    assert (stops, "no list of models" in said) == (False, True)


async def test_nobody_there_is_an_outage(upstream_at: Callable[[str], Upstream]) -> None:
    assert says(await probe_upstream(upstream_at("http://127.0.0.1:9/v1"))) == [(False, "it cannot be reached now")]


async def test_a_name_that_there_is_not_stops_and_plain_http_is_told(
    upstream_at: Callable[[str], Upstream], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "no")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    plain, unresolved = says(await probe_upstream(upstream_at("http://images.example.com/v1")))
    assert (plain[0], "in the clear" in plain[1]) == (False, True)
    assert unresolved == (True, "its host name cannot be resolved")


async def test_a_look_is_kept_and_its_cause_is_logged_once(
    server: WireUpstream, upstream: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    clock = [0.0]
    probe = Probe(upstream, "me", lambda: clock[0])
    caplog.set_level(logging.INFO, "policyguard")
    server.answers["/v1/models"] = REFUSED
    for at in (0.0, 1.0, BAD_S - 1, BAD_S, BAD_S + 1):
        clock[0] = at
        assert (await probe.look(), probe.stops) != ((), False)
    assert len(server.seen) == 2
    server.answers["/v1/models"] = MODELS
    clock[0] = BAD_S * 3
    assert (await probe.look(), probe.stops) == ((), False)
    clock[0] += GOOD_S - 1
    await probe.look()
    assert len(server.seen) == 3
    assert [record.levelname for record in caplog.records] == ["ERROR", "INFO"]


def test_an_address_with_a_password_is_refused_without_it() -> None:
    with pytest.raises(ConfigError, match="password") as raised:
        Upstream(key="sk-x", base_url="https://ada:canary@api.openai.com/v1")
    assert "canary" not in str(raised.value)


# ---- in the proxy -----------------------------------------------------------------------------------------


@pytest.fixture
def proxied(server: WireUpstream, upstream: Upstream, open_guard: Callable[..., Guard]) -> tuple[Client, Probe]:
    guard = open_guard(avatars=SURFACE, org=ORG, moderator=UpstreamModerator(upstream, retry_wait_s=0))
    probe = Probe(upstream, "me")
    proxy = Proxy(guard, upstream, pages=no_pages, open_paths=frozenset(), probe=probe)
    return Client(proxy, guard, server), probe


async def test_what_lasts_is_no_503_that_asks_to_come_again(
    server: WireUpstream, proxied: tuple[Client, Probe]
) -> None:
    client, probe = proxied
    server.answers["/v1/models"] = server.answers["/v1/moderations"] = REFUSED
    await probe.look()
    answer = await client.ask(client.key())
    assert (answer.status, answer.code) == (502, "upstream_misconfigured")
    assert answer.headers["x-should-retry"] == "false"
    assert "retry-after" not in answer.headers
    assert client.upstream.images == server.seen  # the look alone


async def test_an_outage_stays_one(server: WireUpstream, proxied: tuple[Client, Probe]) -> None:
    client, probe = proxied
    server.answers["/v1/models"] = server.answers["/v1/moderations"] = http(500, {})
    await probe.look()
    answer = await client.ask(client.key())
    assert (answer.status, answer.code, "retry-after" in answer.headers) == (503, "policy_unavailable", True)


async def test_a_proxy_that_looks_at_itself_finds_itself(proxied: tuple[Client, Probe]) -> None:
    client, _ = proxied
    for path in ("/v1/models", "/models", "/anything"):
        found = await client.ask("sk-upstream", path=path, method="GET", **{PROBE: "me"})
        assert (found.status, found.code) == (508, "upstream_misconfigured")
        other = await client.ask("sk-upstream", path=path, method="GET", **{PROBE: "another"})
        assert other.status == 401


async def test_readyz_says_what_lasts_and_warns_of_the_rest(
    server: WireUpstream, upstream: Upstream, proxied: tuple[Client, Probe]
) -> None:
    from contextlib import asynccontextmanager

    import httpx2

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        yield

    client, _ = proxied
    for answer, status, problems, warnings in (
        (MODELS, 200, 0, 0),
        (REFUSED, 503, 1, 0),
        (http(404, {}), 200, 0, 1),
    ):
        server.answers["/v1/models"] = answer
        app = pages(client.guard, lifespan, Probe(upstream, "me"))
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://proxy") as asks:
            ready = await asks.get("/readyz")
        said = ready.json()
        assert (ready.status_code, len(said["problems"]), len(said["warnings"])) == (status, problems, warnings)


# ---- at the start -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("bound", "url", "here"),
    [
        ("127.0.0.1", "http://127.0.0.1:{port}/v1", True),
        ("127.0.0.1", "http://localhost:{port}/v1", True),
        ("127.0.0.1", "http://LOCALHOST:{port}/v1", True),
        ("127.0.0.1", "http://[::1]:{port}/v1", True),
        ("127.0.0.1", "http://0.0.0.0:{port}/v1", True),
        ("0.0.0.0", "http://127.0.0.1:{port}/v1", True),
        ("0.0.0.0", "http://localhost:{port}/v1", True),
        ("127.0.0.1", "http://127.0.0.1:1/v1", False),
        ("127.0.0.1", "http://127.0.0.1/v1", False),
        ("127.0.0.1", "https://api.openai.com:{port}/v1", False),
        ("127.0.0.1", "http://192.0.2.1:{port}/v1", False),
        ("0.0.0.0", "http://192.0.2.1:{port}/v1", False),
    ],
)
def test_an_upstream_that_is_the_socket_itself_is_noticed(bound: str, url: str, here: bool) -> None:
    with socket.socket() as listening:
        listening.bind((bound, 0))
        assert is_here(listening, url.format(port=listening.getsockname()[1])) is here


async def test_nobody_waits_for_a_look_that_is_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    now, mute, looks = [0.0], asyncio.Event(), []

    async def look_at(*_: object) -> tuple[object, ...]:
        looks.append(now[0])
        if len(looks) > 1:
            await mute.wait()
        return ()

    monkeypatch.setattr(probe, "probe_upstream", look_at)
    watched = Probe(None, "", lambda: now[0])  # type: ignore[arg-type]
    assert await watched.look() == ()
    now[0] = 2 * GOOD_S
    under_way = asyncio.create_task(watched.look())
    await asyncio.sleep(0)
    assert await watched.look() == ()
    mute.set()
    await under_way
    assert len(looks) == 2

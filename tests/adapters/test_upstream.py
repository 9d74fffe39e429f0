"""The upstream seam over real sockets: what goes up, what comes back, and how it fails."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import AsyncIterator

import pytest
from adapters.wire_upstream import WireUpstream, http, wire_upstream
from patience import HANGS_S

from policyguard.adapters.moderator import UpstreamModerator
from policyguard.adapters.upstream import Upstream, UpstreamFailed, to_upstream
from policyguard.errors import ConfigError
from policyguard.request import CATEGORIES, Failure, ImageRequest
from policyguard.steps import Moderate

pytestmark = pytest.mark.anyio
PATH = "/v1/images/generations"


@pytest.fixture
async def server() -> AsyncIterator[WireUpstream]:
    async with wire_upstream() as running:
        yield running


@pytest.fixture
async def upstream(server: WireUpstream) -> AsyncIterator[Upstream]:
    made = Upstream(key="sk-upstream", base_url=server.url, connect_timeout_s=HANGS_S, read_timeout_s=HANGS_S)
    yield made
    await made.aclose()


async def ask(upstream: Upstream, body: bytes = b"{}") -> tuple[int, dict[bytes, bytes], bytes]:
    async with upstream.post("/images/generations", [(b"content-type", b"application/json")], body) as answer:
        return answer.status, dict(answer.headers), b"".join([chunk async for chunk in answer.chunks()])


async def test_the_key_is_put_on_and_the_body_goes_as_it_is(server: WireUpstream, upstream: Upstream) -> None:
    assert (await ask(upstream, b'{"prompt":  "a cat"}'))[0] == 200
    (seen,) = server.seen
    assert (seen.method, seen.path, seen.body) == ("POST", PATH, b'{"prompt":  "a cat"}')
    assert seen.headers["authorization"] == "Bearer sk-upstream"
    assert {"user-agent", "accept", "accept-encoding", "cookie"}.isdisjoint(seen.headers)


async def test_what_is_compressed_passes_compressed(server: WireUpstream, upstream: Upstream) -> None:
    packed = gzip.compress(b"{}")
    head = f"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {len(packed)}\r\n\r\n"
    server.answers[PATH] = head.encode() + packed
    status, headers, body = await ask(upstream)
    assert (status, headers[b"content-encoding"], body) == (200, b"gzip", packed)


async def test_a_redirect_is_an_answer_and_is_not_followed(server: WireUpstream, upstream: Upstream) -> None:
    server.answers[PATH] = http(302, {}, f"location: {server.url}/elsewhere")
    assert (await ask(upstream))[0] == 302
    assert len(server.seen) == 1


async def test_cookies_and_what_is_meant_for_the_holder_of_the_key_stay(
    server: WireUpstream, upstream: Upstream
) -> None:
    server.answers[PATH] = http(
        200, {}, "set-cookie: a=b", "openai-organization: acme", "connection: x-odd", "x-odd: 1"
    )
    _, headers, _ = await ask(upstream)
    assert set(headers) == {b"content-type", b"content-length"}
    await ask(upstream)
    assert "cookie" not in server.seen[1].headers


async def test_connections_are_kept(server: WireUpstream, upstream: Upstream) -> None:
    for _ in range(3):
        await ask(upstream)
    assert (server.connections, len(server.seen)) == (1, 3)


async def test_a_proxy_of_the_environment_is_not_used(
    server: WireUpstream, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert (await ask(upstream))[0] == 200


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
async def test_a_connection_that_ends_too_soon_is_cut_and_nothing_is_sent_again(
    server: WireUpstream, upstream: Upstream, sent: bytes
) -> None:
    await ask(upstream)  # on a kept connection, too
    server.answers[PATH] = [sent]
    with pytest.raises(UpstreamFailed) as caught:
        await ask(upstream)
    assert (caught.value.failure, len(server.seen)) == (Failure.CUT, 2)


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{"])
async def test_silence_is_a_timeout(server: WireUpstream, sent: bytes) -> None:
    hasty = Upstream(key="sk-upstream", base_url=server.url, read_timeout_s=0.1)
    server.answers[PATH] = [sent, asyncio.Event()]
    with pytest.raises(UpstreamFailed) as caught:
        await ask(hasty)
    assert caught.value.failure is Failure.TIMEOUT
    await hasty.aclose()


async def test_nobody_there_is_cut() -> None:
    upstream = Upstream(key="sk-x", base_url="http://127.0.0.1:9/v1")
    with pytest.raises(UpstreamFailed) as caught:
        await ask(upstream)
    assert caught.value.failure is Failure.CUT
    await upstream.aclose()


def test_each_event_loop_has_connections_of_its_own() -> None:
    async def once(port: int = 0) -> int:
        async with wire_upstream(port) as server:
            upstream = made.setdefault("one", Upstream(key="sk-x", base_url=server.url))
            assert (await ask(upstream))[0] == 200
            await upstream.aclose()
            return server.port

    made: dict[str, Upstream] = {}
    asyncio.run(once(asyncio.run(once())))


async def test_the_key_is_in_no_repr_and_no_error(server: WireUpstream, upstream: Upstream) -> None:
    server.answers[PATH] = [b""]
    with pytest.raises(UpstreamFailed) as caught:
        await ask(upstream)
    assert "sk-upstream" not in repr(upstream) + repr(caught.value) + str(caught.value)


def test_headers_between_neighbours_and_of_the_proxy_stay_behind() -> None:
    sent = [
        (b"connection", b"keep-alive, X-Hop"),
        (b"x-hop", b"1"),
        (b"authorization", b"Bearer sk-policyguard-1"),
        (b"cookie", b"a=b"),
        (b"x-policyguard-user", b"u1"),
        (b"x-forwarded-for", b"10.0.0.1"),
        (b"x-user-id", b"u1"),
        (b"openai-organization", b"other"),
        (b"openai-beta", b"x=1"),
        (b"x-stainless-retry-count", b"0"),
        (b"user-agent", b"OpenAI/Python"),
    ]
    kept = [name for name, _ in to_upstream(sent, frozenset((b"x-user-id",)))]
    assert kept == [b"openai-beta", b"x-stainless-retry-count", b"user-agent"]


@pytest.mark.parametrize("address", ["", "http://", "ftp://x", "x/v1", "https://x?y=1"])
def test_an_address_that_is_none_is_an_error(address: str) -> None:
    if not address:
        assert Upstream(key="sk-x", base_url=address).base_url == "https://api.openai.com/v1"
    else:
        with pytest.raises(ConfigError):
            Upstream(key="sk-x", base_url=address)


# ---- the moderator over it --------------------------------------------------------------------------------


async def test_the_moderator_asks_over_it(server: WireUpstream, upstream: Upstream) -> None:
    step = Moderate("omni-moderation-latest", ImageRequest(prompt="a cat"), True, False, HANGS_S)
    verdict = await UpstreamModerator(upstream).amoderate(step)
    assert (verdict.error, set(verdict.scores)) == (None, set(CATEGORIES))
    (seen,) = server.seen
    assert (seen.path, json.loads(seen.body)) == (
        "/v1/moderations",
        {"model": "omni-moderation-latest", "input": "a cat"},
    )


async def test_a_silent_moderation_is_a_timeout_within_the_policys_time(
    server: WireUpstream, upstream: Upstream
) -> None:
    server.answers["/v1/moderations"] = [b"", asyncio.Event()]
    step = Moderate("omni-moderation-latest", ImageRequest(prompt="a cat"), True, False, 0.1)
    assert (await UpstreamModerator(upstream).amoderate(step)).error == "timeout"

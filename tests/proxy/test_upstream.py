"""The upstream seam over real sockets: what goes up, what comes back, and how it fails."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import gzip
import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx2
import pytest
from patience import HANGS_S
from proxy.wire_upstream import WireUpstream, http, wire_upstream

from policyguard.errors import ConfigError
from policyguard.flow.steps import Moderate
from policyguard.proxy.moderator import UpstreamModerator
from policyguard.proxy.upstream import Upstream, UpstreamFailed, environment_proxy, to_upstream
from policyguard.request import CATEGORIES, Failure, ImageRequest

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


async def test_a_proxy_of_the_environment_is_not_used_unless_asked_for(
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


def test_an_empty_address_is_that_of_the_api() -> None:
    assert Upstream(key="sk-x", base_url="").base_url == "https://api.openai.com/v1"


@pytest.mark.parametrize("address", ["http://", "ftp://x", "x/v1", "https://x?y=1"])
def test_an_address_that_is_none_is_an_error(address: str) -> None:
    with pytest.raises(ConfigError, match="the upstream's address must be like `https://api"):
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


# ---- proxies of the environment -----------------------------------------------------------------------------

PROXIES = [f"{name}_proxy" for name in ("http", "https", "all", "no")]


@pytest.fixture
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class ForwardProxy:
    """Takes CONNECT, and forwards plain requests to the port `to`; what it was asked for is kept."""

    def __init__(self, to: int) -> None:
        self.to, self.asked, self.credentials = to, list[str](), list[str]()
        self.status = b"200 OK"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target = head.decode("latin-1").split(" ", 2)[:2]
        self.asked.append(f"{method} {target}")
        self.credentials += [
            line.split(" ", 2)[2]
            for line in head.decode().split("\r\n")
            if line.lower().startswith("proxy-authorization")
        ]
        if self.status != b"200 OK":
            writer.write(b"HTTP/1.1 " + self.status + b"\r\ncontent-length: 0\r\n\r\n")
            writer.close()
            return
        if method == "CONNECT":
            writer.write(b"HTTP/1.1 200 OK\r\n\r\nno TLS is spoken here\r\n")
            writer.close()
            return
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.to)
        up_writer.write(head.replace(target.encode(), b"/" + target.split("/", 3)[3].encode(), 1))
        await asyncio.gather(pipe(reader, up_writer), pipe(up_reader, writer))


async def pipe(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while piece := await reader.read(65_536):
            writer.write(piece)
            await writer.drain()
    writer.close()


@contextlib.asynccontextmanager
async def forward_proxy(to: int) -> AsyncIterator[tuple[ForwardProxy, str]]:
    proxy = ForwardProxy(to)
    server = await asyncio.start_server(proxy.serve, "127.0.0.1", 0)
    async with server:
        yield proxy, f"127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.usefixtures("no_proxies")
async def test_a_plain_upstream_is_asked_through_the_proxy(
    server: WireUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with forward_proxy(server.port) as (proxy, address):
        monkeypatch.setenv("HTTP_PROXY", f"http://ada:sec%20ret@{address}")
        upstream = Upstream(key="sk-x", base_url="http://images.internal/v1", trust_env=True)
        assert (await ask(upstream, b'{"n":1}'))[0] == 200
        await upstream.aclose()
    assert proxy.asked == ["POST http://images.internal/v1/images/generations"]
    assert [base64.b64decode(each) for each in proxy.credentials] == [b"ada:sec ret"]
    assert (server.seen[0].path, server.seen[0].body) == (PATH, b'{"n":1}')


@pytest.mark.usefixtures("no_proxies")
async def test_a_tls_upstream_is_asked_through_a_tunnel(server: WireUpstream, monkeypatch: pytest.MonkeyPatch) -> None:
    async with forward_proxy(server.port) as (proxy, address):
        monkeypatch.setenv("https_proxy", f"ada:secret@{address}")
        upstream = Upstream(key="sk-x", base_url="https://api.openai.com/v1", trust_env=True)
        with pytest.raises(UpstreamFailed) as caught:
            await ask(upstream)
        await upstream.aclose()
    assert proxy.asked == ["CONNECT api.openai.com:443"]
    assert base64.b64decode(proxy.credentials[0]) == b"ada:secret"
    assert (caught.value.failure, server.seen) == (Failure.CUT, [])


async def test_a_server_without_tls_is_named_as_the_cause() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        upstream = Upstream(key="sk-x", base_url=f"https://127.0.0.1:{port}/v1")
        with pytest.raises(UpstreamFailed) as caught:
            await ask(upstream)
        await upstream.aclose()
    assert caught.value.cause == "it does not speak TLS"


@pytest.mark.parametrize(
    ("errno", "cause"), [(socket.EAI_NONAME, "its host name cannot be resolved"), (socket.EAI_AGAIN, None)]
)
async def test_a_name_that_there_is_not_lasts_and_a_resolver_that_is_down_does_not(
    monkeypatch: pytest.MonkeyPatch, errno: int, cause: str | None
) -> None:
    def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(errno, "no")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    upstream = Upstream(key="sk-x", base_url="https://images.example.com/v1")
    with pytest.raises(UpstreamFailed) as caught:
        await ask(upstream)
    await upstream.aclose()
    assert caught.value.cause == cause


@pytest.mark.usefixtures("no_proxies")
async def test_a_proxy_that_refuses_is_named_as_the_cause(
    server: WireUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with forward_proxy(server.port) as (proxy, address):
        proxy.status = b"407 Who"
        monkeypatch.setenv("https_proxy", address)
        upstream = Upstream(key="sk-x", base_url="https://api.openai.com/v1", trust_env=True)
        with pytest.raises(UpstreamFailed) as caught:
            await ask(upstream)
        await upstream.aclose()
    assert caught.value.cause == "the proxy of the environment refuses with 407"


@pytest.mark.parametrize(
    "excepted",
    [
        "",
        "*",
        "openai.com",
        ".openai.com",
        "*.openai.com",
        "api.openai.com",
        "notopenai.com",
        "api.openai.com:443",
        "x, y",
        *("127.0.0.1", "127.0.0.0/8", "::1", "localhost", "10.0.0.0/8", "localhost:8080", ".com", "internal"),
    ],
)
@pytest.mark.usefixtures("no_proxies")
def test_exceptions_are_those_of_httpx(monkeypatch: pytest.MonkeyPatch, excepted: str) -> None:
    """The library's own calls go by httpx; both must take the same way."""
    monkeypatch.setenv("all_proxy", "http://proxy.internal:3128")
    monkeypatch.setenv("no_proxy", excepted)
    with httpx2.Client(trust_env=True) as client:
        for url in (
            "https://api.openai.com/v1",
            "http://openai.com/v1",
            "http://127.0.0.1:8080/v1",
            "http://[::1]:8080/v1",
            "http://localhost:8080/v1",
            "http://10.1.2.3/v1",
            "http://images.internal/v1",
        ):
            direct = client._transport_for_url(httpx2.URL(url)) is client._transport
            parts = urlsplit(url)
            ours = environment_proxy(parts.scheme, parts.hostname or "", parts.port)
            assert (ours is None) == direct, (url, excepted)


@pytest.mark.usefixtures("no_proxies")
def test_a_proxy_that_is_not_spoken_is_told_at_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("all_proxy", "socks5://127.0.0.1:1080")
    with pytest.raises(ConfigError, match="HTTPS_PROXY"):
        Upstream(key="sk-x", trust_env=True)


@pytest.mark.usefixtures("no_proxies")
async def test_no_credentials_come_from_netrc(
    server: WireUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login root password other\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    upstream = Upstream(key="sk-upstream", base_url=server.url, trust_env=True)
    assert (await ask(upstream))[0] == 200
    assert server.seen[0].headers["authorization"] == "Bearer sk-upstream"
    await upstream.aclose()

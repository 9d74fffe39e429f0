"""The client door with the real SDK against the sandbox: what it promises about money, retries, proxies and threads."""

from __future__ import annotations

import io
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from patience import HANGS_S
from PIL import Image
from support import ORG, SURFACE, write_policies

import policyguard
from policyguard.adapters.transport import guarded
from policyguard.guard.guard import Guard
from policyguard.moderation.openai import OpenAIModerator

pytestmark = [pytest.mark.acceptance, pytest.mark.anyio]
DOLLAR = "budgets: [{id: dollar, limit: $1 / day}]\n"


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64), "teal").save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def open_guard(sandbox: Any, tmp_path: Path) -> Iterator[Callable[..., Guard]]:
    opened: list[Guard] = []

    def make(extra: str = "") -> Guard:
        folder = write_policies(tmp_path / "policies", org=ORG, avatars=SURFACE + extra)
        moderator = OpenAIModerator(base_url=f"{sandbox.url}/v1", api_key="sk-sandbox")
        opened.append(Guard.open(folder, store=f"sqlite:///{tmp_path / 'record.sqlite3'}", moderator=moderator))
        return opened[-1]

    yield make
    for guard in opened:
        guard.close()


@pytest.fixture
def clients(sandbox: Any) -> Iterator[Callable[..., OpenAI]]:
    opened: list[OpenAI] = []

    def make(guard: Guard, url: str | None = None, **options: Any) -> OpenAI:
        plain = OpenAI(**{"api_key": "sk-sandbox", "base_url": url or f"{sandbox.url}/v1", "max_retries": 0, **options})
        opened.append(guarded(plain, guard, surface="avatars", caller=lambda: {"user": "u1"}))
        return opened[-1]

    yield make
    for client in opened:
        client.close()


def legs(guard: Guard) -> list[tuple[str, int, Any]]:
    rows = [row.event for row in guard.store.events(limit=10_000) if row.event.type.startswith("leg.")]
    return [(event.type, event.body["attempts"], event.body["failure"]) for event in rows]


SETTLED = ("leg.settled", 1, None)

# ---- the calls of the SDK ---------------------------------------------------------------------------------


def test_generate_and_edit_with_files_are_decided_forced_and_settled(
    open_guard: Callable[..., Guard], clients: Callable[..., OpenAI], sandbox: Any
) -> None:
    guard = open_guard()
    client = clients(guard)
    client.images.generate(prompt="a cat", extra_body={"moderation": "low"})
    client.with_options(timeout=HANGS_S).images.with_raw_response.generate(prompt="a cat", moderation="low")
    files = [("a.png", png(), "image/png"), ("b.png", io.BytesIO(png()), "image/png")]
    client.images.edit(prompt="a hat", image=files, mask=png(), extra_body={"moderation": "low"})
    client.post("/images/generations", body={"prompt": "a cat"}, cast_to=object)
    rows = sandbox.counts()["requests"]
    assert [(row["path"].rsplit("/", 1)[-1], row["moderation"]) for row in rows] == [
        ("generations", "auto"),
        ("generations", "auto"),
        ("edits", None),
        ("generations", "auto"),
    ]
    assert all(row["safety_identifier"] and "u1" not in row["safety_identifier"] for row in rows)
    assert legs(guard) == [SETTLED] * 4


async def test_the_async_client_does_the_same(open_guard: Callable[..., Guard], sandbox: Any) -> None:
    guard = open_guard()
    plain = AsyncOpenAI(api_key="sk-sandbox", base_url=f"{sandbox.url}/v1", max_retries=0)
    async with guarded(plain, guard, surface="avatars") as client:
        with policyguard.caller(user="u1"):
            await client.images.generate(prompt="a cat", moderation="low")
            await client.images.edit(prompt="a hat", image=("a.png", png(), "image/png"))
            async with client.images.with_streaming_response.generate(prompt="a cat") as streamed:
                assert (await streamed.parse()).usage is not None
            with pytest.raises(openai.BadRequestError) as caught:
                await client.images.generate(prompt="a swordfight at dawn")
    assert caught.value.code == "moderation_blocked"
    assert (sandbox.counts()["generations"], legs(guard)) == (3, [SETTLED] * 3)


def test_errors_of_openai_and_of_the_policy_are_the_sdks_own(
    open_guard: Callable[..., Guard], clients: Callable[..., OpenAI], sandbox: Any
) -> None:
    guard = open_guard()
    client = clients(guard)
    for fault, error in {
        "429": openai.RateLimitError,
        "500": openai.InternalServerError,
        "503": openai.InternalServerError,
        "moderation_blocked": openai.BadRequestError,
        "cut": openai.APIConnectionError,
    }.items():
        sandbox.fault("/v1/images/generations", fault, times=1)
        with pytest.raises(error) as caught:
            client.images.generate(prompt="a cat")
        assert getattr(caught.value, "body", None) is None or "policy" not in caught.value.body  # type: ignore[operator]
    with pytest.raises(openai.BadRequestError) as refused:
        client.images.generate(prompt="a cat", size="4096x4096")
    assert refused.value.body["policy"]["surface"] == "avatars"  # type: ignore[index]
    assert Counter(kind for kind, _, _ in legs(guard)) == {"leg.released": 3, "leg.presumed": 2}


def test_the_sdks_retries_are_legs_of_their_own(
    open_guard: Callable[..., Guard], clients: Callable[..., OpenAI], sandbox: Any
) -> None:
    guard = open_guard()
    sandbox.fault("/v1/images/generations", "500", times=2)
    assert clients(guard, max_retries=2).images.generate(prompt="a cat").usage is not None
    assert legs(guard) == [("leg.presumed", 1, "error"), ("leg.presumed", 2, "error"), ("leg.settled", 3, None)]
    decided = [row.event for row in guard.store.events() if row.event.type == "request.decided"]
    first = decided[0].decision_id
    assert [event.body["retry_of"] for event in decided] == [None, first, first]
    (row,) = guard.store.spend()
    assert (row.requests, row.reserved_micros, row.presumed_micros > row.actual_micros > 0) == (3, 0, True)


def test_a_timeout_is_presumed_for_each_attempt(
    open_guard: Callable[..., Guard], clients: Callable[..., OpenAI], sandbox: Any
) -> None:
    guard = open_guard()
    sandbox.fault("/v1/images/generations", "slow=600")
    hasty = clients(guard, max_retries=1).with_options(timeout=httpx2.Timeout(HANGS_S, read=0.2))
    with pytest.raises(openai.APITimeoutError):
        hasty.images.generate(prompt="a cat")
    assert legs(guard) == [("leg.presumed", 1, "timeout"), ("leg.presumed", 2, "timeout")]


async def test_a_cancelled_call_is_charged(open_guard: Callable[..., Guard], sandbox: Any) -> None:
    guard = open_guard()
    sandbox.fault("/v1/images/generations", "slow=600", times=1)
    plain = AsyncOpenAI(api_key="sk-sandbox", base_url=f"{sandbox.url}/v1", max_retries=0)
    client = guarded(plain, guard, surface="avatars", caller=lambda: {"user": "u1"})
    async with client, anyio.create_task_group() as group:
        group.start_soon(lambda: client.images.generate(prompt="a cat"))
        while sandbox.counts()["paths"].get("/v1/images/generations", 0) == 0:
            await anyio.lowlevel.checkpoint()
        group.cancel_scope.cancel()
    assert legs(guard) == [("leg.presumed", 1, "cancelled")]
    (row,) = guard.store.spend()
    assert row.presumed_micros > 0 == row.reserved_micros


# ---- money ------------------------------------------------------------------------------------------------


def test_a_one_dollar_budget_bounds_fifty_concurrent_requests(
    open_guard: Callable[..., Guard], clients: Callable[..., OpenAI], sandbox: Any
) -> None:
    """Each costs at most $0.211, so four fit, whatever the SDK would retry."""
    guard = open_guard(DOLLAR)
    client = clients(guard, max_retries=2)

    def ask(number: int) -> str | None:
        try:
            client.images.generate(prompt=f"a cat {number}", size="1024x1024", quality="high")
        except openai.RateLimitError as error:
            return error.code
        return None

    with ThreadPoolExecutor(50) as pool:
        codes = Counter(pool.map(ask, range(50)))
    assert codes == {None: 4, "policy_budget_exceeded": 46}
    assert sandbox.counts()["generations"] == 4
    (window,) = guard.store.budget_windows()
    assert (0 < window.spent <= 1_000_000, window.reserved) == (True, 0)


# ---- a proxy from the environment -------------------------------------------------------------------------


class Proxy:
    """A forwarding HTTP proxy that notes what goes through it."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        with httpx2.Client(trust_env=False) as onward:
            while True:
                try:
                    connection, _ = self._listening.accept()
                except OSError:
                    return
                with connection, connection.makefile("rb") as reader:
                    self._relay(connection, reader, onward)

    def _relay(self, connection: socket.socket, reader: Any, onward: httpx2.Client) -> None:
        line = reader.readline().decode()
        if not line:
            return
        method, url, _ = line.split(" ")
        self.asked.append(f"{method} {url}")
        headers = {}
        while (header := reader.readline().strip().decode()) != "":
            name, _, value = header.partition(": ")
            headers[name.lower()] = value
        body = reader.read(int(headers.get("content-length", 0)))
        answer = onward.request(method, url, headers=headers, content=body)
        head = f"HTTP/1.1 {answer.status_code} OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
        connection.sendall(f"{head}content-length: {len(answer.content)}\r\n\r\n".encode() + answer.content)

    def close(self) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join()


@pytest.fixture
def proxy() -> Iterator[Proxy]:
    running = Proxy()
    yield running
    running.close()


def test_a_proxy_from_the_environment_does_not_lead_past_the_guard(
    open_guard: Callable[..., Guard],
    clients: Callable[..., OpenAI],
    sandbox: Any,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guard = open_guard()
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, proxy.url)
    client = clients(guard)
    client.images.generate(prompt="a cat", moderation="low")
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt="a cat", n=9)
    with pytest.raises(openai.PermissionDeniedError):
        client.post("/images/variations", body={"prompt": "a cat"}, cast_to=object)
    assert [line for line in proxy.asked if "/images" in line] == [f"POST {sandbox.url}/v1/images/generations"]
    assert [row["moderation"] for row in sandbox.counts()["requests"]] == ["auto"]
    assert legs(guard) == [SETTLED]

"""What the SDK's clients do, and whose they are."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import anyio
import httpx2
import pytest
from moderation.upstream import BASE_URL, Side, answer, ask, error, ok, over_sdk
from moderation.upstream import step as question
from openai import AsyncOpenAI, OpenAI
from patience import HANGS_S

from policyguard.errors import ConfigError
from policyguard.moderation.openai import OpenAIModerator
from policyguard.request import CATEGORIES, Verdict

pytestmark = pytest.mark.anyio


def unavailable(verdict: Verdict) -> set[str]:
    return {c for c in CATEGORIES if verdict.score(c) is None}


async def test_the_sdk_does_not_retry_behind_our_back(side: Side) -> None:
    counts: list[str | None] = []

    def handler(request: httpx2.Request) -> httpx2.Response:
        counts.append(request.headers.get("x-stainless-retry-count"))
        return error(503)

    await ask(side, over_sdk(handler), question())
    assert counts == ["0", "0"]


async def test_without_a_key_or_a_client_it_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        OpenAIModerator()


async def test_a_sync_client_alone_serves_async_code_too() -> None:
    transport = httpx2.MockTransport(lambda request: ok(answer(request)))
    client = OpenAI(api_key="sk-test", base_url=BASE_URL, http_client=httpx2.Client(transport=transport))
    verdict = await OpenAIModerator(client).amoderate(question())
    assert unavailable(verdict) == set()


async def test_an_async_client_alone_does_not_serve_sync_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somewhere-else")
    transport = httpx2.MockTransport(lambda request: ok(answer(request)))
    http_client = httpx2.AsyncClient(transport=transport)
    made = OpenAIModerator(aclient=AsyncOpenAI(api_key="sk-test", base_url=BASE_URL, http_client=http_client))
    assert unavailable(await made.amoderate(question())) == set()
    with pytest.raises(ConfigError, match="give `client` too"):
        made.moderate(question())


async def test_clients_of_the_caller_stay_open() -> None:
    client = httpx2.Client(transport=httpx2.MockTransport(lambda request: ok(answer(request))))
    made = OpenAIModerator(OpenAI(api_key="sk-test", base_url=BASE_URL, http_client=client))
    await made.aclose()
    assert not client.is_closed


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A real socket, for what connections do."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    running = Server()
    thread = threading.Thread(target=running.serve_forever)
    thread.start()
    yield running
    running.shutdown()
    thread.join()
    running.server_close()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.peers: list[int] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"


class Answers(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        sent = self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(answer(httpx2.Request("POST", BASE_URL, content=sent))).encode()
        assert isinstance(self.server, Server)
        self.server.peers.append(self.client_address[1])
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Quiet."""


def test_connections_are_kept_but_not_over_a_fork(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    made = OpenAIModerator(base_url=server.url, api_key="sk-test")
    assert [unavailable(made.moderate(question())) for _ in range(2)] == [set(), set()]
    pid, parents = os.getpid(), made._client()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    assert unavailable(made.moderate(question())) == set()
    first, second, after_fork = server.peers
    assert first == second != after_fork
    made.close()
    parents.close()  # by the parent, which here is the same process


def test_each_event_loop_has_a_client_of_its_own(server: Server) -> None:
    made = OpenAIModerator(base_url=server.url, api_key="sk-test")

    async def twice() -> list[set[str]]:
        try:
            return [unavailable(await made.amoderate(question())) for _ in range(2)]
        finally:
            await made.aclose()

    assert [anyio.run(twice), anyio.run(twice)] == [[set(), set()], [set(), set()]]
    assert len(set(server.peers)) == 2


def test_a_call_that_drips_is_ended_not_only_left_behind() -> None:
    ended = threading.Event()
    pace = threading.Event()

    class Drip(httpx2.SyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            while True:
                pace.wait(0.01)
                yield b" "

        def close(self) -> None:
            ended.set()

    verdict = over_sdk(lambda request: httpx2.Response(200, stream=Drip())).moderate(question(timeout_s=0.1))
    assert (verdict.error, ended.wait(HANGS_S)) == ("timeout", True)


def test_importing_the_module_does_not_import_the_sdk() -> None:
    code = "import sys, policyguard.moderation.openai; print('openai' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={**os.environ})
    assert done.stdout.strip() == "False"

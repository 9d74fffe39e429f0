"""Attempts to have images made that no policy decided, at the proxy, the middleware and the client.

Behind each door stands an upstream that takes everything. Each trick is refused in OpenAI's own words, or served as it
was decided; what arrived is read again, as leniently as can be, and has to be what the policy allows; and as many
generations are counted as the record has legs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from acceptance.doors import KEY, WsgiServer
from acceptance.framing import FRAMES, Frame
from acceptance.greedy import Greedy, Said, say
from acceptance.judge import AVATARS, MARKETING, UNTRUSTING, Judge, check_record
from acceptance.tricks import FINE, JSON, TRICKS, Trick, sent
from patience import HANGS_S
from starlette.applications import Starlette
from support import write_policies
from tool_bodies import PRICES

from policyguard.adapters import wsgi
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.environ import scope_of
from policyguard.adapters.fastapi import lifespan
from policyguard.audit.keys import load_key
from policyguard.audit.private import Vault
from policyguard.guard.guard import Guard
from policyguard.moderation.openai import OpenAIModerator
from policyguard.sandbox.server import Server
from policyguard.store.proxy_keys import digest

pytestmark = pytest.mark.acceptance


def raw(trick: Trick, *headers: tuple[str, str]) -> bytes:
    sent = [("host", "app.test"), *headers, *trick.headers, ("content-length", str(len(trick.body)))]
    lines = "".join(f"{name}: {value}\r\n" for name, value in (*sent, ("connection", "close")))
    return f"{trick.method} {trick.target} HTTP/1.1\r\n{lines}\r\n".encode() + trick.body


# ---- the proxy --------------------------------------------------------------------------------------------


@pytest.fixture
def greedy() -> Greedy:
    return Greedy()


@pytest.fixture
def sandbox(greedy: Greedy) -> Iterator[Server]:
    """In place of the sandbox alone."""
    with Server(greedy) as server:
        yield server


def generated(sandbox: Server) -> int:
    counts = httpx2.get(f"{sandbox.url}/sandbox/requests", trust_env=False).json()
    return int(counts["generations"])


def told(tried: Mapping[str, str | None]) -> str:
    """The tricks that worked."""
    assert len(tried) >= 60
    return "\n".join(f"{name}: {problem}" for name, problem in tried.items() if problem)


def identifier(key_file: Path) -> tuple[str, str]:
    """How the upstream and the record know the one caller."""
    vault = Vault(load_key(key_file, create=False))
    return vault.safety_identifier("u1"), vault.pseudonym("user", "u1")


def test_nothing_gets_past_the_proxy(proxy: Callable[..., Any], sandbox: Server, greedy: Greedy) -> None:
    app = proxy(org=UNTRUSTING, avatars=AVATARS, marketing=MARKETING, prices=PRICES)
    key = app.key("avatars", user="u1")
    name, user = identifier(app.key_file)
    judge = Judge(greedy, name)
    tried = {n: judge.problem(say(app.url, raw(t, bearer(key))), t.served) for n, t in TRICKS.items()}
    tried |= spoken(app.url, judge, ": ".join(bearer(key)))
    tried |= {n: judge.problem(say(app.url, raw(t)), t.served) for n, t in keys(app, key).items()}
    assert told(tried) == ""
    assert [answer.status for answer in say(app.url, raw(sent(FINE), bearer(key)))] == [200]
    app.stop()
    store = app.store()
    events = [row.event for row in store.events(limit=10_000)]
    store.close()
    check_record(events, judge, user, generated(sandbox))


def bearer(key: str) -> tuple[str, str]:
    return "authorization", f"Bearer {key}"


def keys(app: Any, key: str) -> dict[str, Trick]:
    """What somebody might have in place of a key for this surface."""
    marketing, revoked = app.key("marketing", user="u2"), app.key("avatars", user="u2")
    both = app.key("avatars", "marketing", user="u1")
    store = app.store()
    found = store.proxy_keys.find(digest(revoked))
    assert store.proxy_keys.revoke(found.id, why="test", by="ada", now=datetime.now(UTC))
    store.close()
    elsewhere = ("x-policyguard-surface", "avatars")
    headers: dict[str, tuple[tuple[str, str], ...]] = {
        "no key": (),
        "an empty key": (bearer(""),),
        "a wrong key": (bearer("sk-policyguard-wrong"),),
        "the upstream's key": (bearer(KEY),),
        "two keys": (bearer(key), bearer(key)),
        "two keys in one": (bearer(f"{key}, Bearer {key}"),),
        "a key for basic": (("authorization", f"Basic {key}"),),
        "a key in another header": (("x-api-key", key),),
        "a key here and there": (bearer(key), ("api-key", key)),
        "a wrong key in Azure's header": (("api-key", "sk-policyguard-wrong"), ("x-api-key", key)),
        "the upstream's key in Azure's header": (("api-key", KEY),),
        "a key in Azure's header for basic": (("api-key", f"Bearer {key}"),),
        "a key in a cookie": (("cookie", f"key={key}; authorization=Bearer {key}"),),
        "a key for the proxy before": (("proxy-authorization", f"Bearer {key}"),),
        "a part of a key": (bearer(key[:-1]),),
        "a key in capitals": (bearer(key.upper()),),
        "a revoked key": (bearer(revoked),),
        "the key's own digest": (bearer(digest(key)),),
        "the key of another surface": (bearer(marketing), elsewhere),
        "a surface that is none": (bearer(key), ("x-policyguard-surface", "nowhere")),
        "one of two surfaces": (bearer(both),),
        "an empty surface of two": (bearer(both), ("x-policyguard-surface", "")),
        "two surfaces of two": (bearer(both), elsewhere, elsewhere),
        "a surface in capitals": (bearer(marketing), ("x-policyguard-surface", "AVATARS")),
    }
    return {name: Trick(json.dumps(FINE).encode(), headers=(JSON, *more)) for name, more in headers.items()}


def spoken(url: str, judge: Judge, auth: str) -> dict[str, str | None]:
    """Those that a server may rightly wait for more of wait together, so that one of them may answer for another."""

    def said(frame: Frame) -> list[Said]:
        data = frame.data.replace(b"%AUTH%: %KEY%", auth.encode())
        return say(url, data, patience_s=2 if frame.waits else HANGS_S)

    tried = {n: judge.problem(said(frame), frame.served) for n, frame in FRAMES.items() if not frame.waits}
    waiting = {n: frame for n, frame in FRAMES.items() if frame.waits}
    with ThreadPoolExecutor(len(waiting)) as pool:
        answers = dict(zip(waiting, pool.map(said, waiting.values()), strict=True))
    return tried | {n: judge.problem(answers[n], frame.served) for n, frame in waiting.items()}


# ---- the middleware ---------------------------------------------------------------------------------------


@contextmanager
def served(app: Any, http: str) -> Iterator[str]:
    server = Server(app)
    server._server.config.http = http
    with server:
        yield server.url


def opened(folder: Path, sandbox: Server) -> Guard:
    policies = write_policies(folder / "policies", org=UNTRUSTING, avatars=AVATARS, marketing=MARKETING, prices=PRICES)
    moderator = OpenAIModerator(base_url=f"{sandbox.url}/v1", api_key=KEY)
    store = f"sqlite:///{folder}/record.sqlite3"
    return Guard.open(policies, store=store, moderator=moderator, key_file=folder / "key", watch=False)


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_nothing_gets_past_the_middleware(tmp_path: Path, sandbox: Server, greedy: Greedy, http: str) -> None:
    guard = opened(tmp_path, sandbox)
    name, user = guard.vault.safety_identifier("u1"), guard.vault.pseudonym("user", "u1")
    judge = Judge(greedy, name)
    app = PolicyGuardMiddleware(behind(greedy, guard), guard=guard, caller=lambda scope: {"user": "u1"})
    with served(app, http) as url:
        tried = {n: judge.problem(say(url, raw(t)), t.served) for n, t in TRICKS.items()}
        tried |= spoken(url, judge, "x-name: abcde")
        assert [answer.status for answer in say(url, raw(sent(FINE)))] == [200]
    events = [row.event for row in guard.store.events(limit=10_000)]
    guard.store.close()
    assert told(tried) == ""
    check_record(events, judge, user, generated(sandbox))


# Werkzeug's server refuses the one itself, and after a body that nobody read it waits for the client to close.
OF_THE_SERVER = ("5,000 headers", "a megabyte beside")


def test_nothing_gets_past_the_middleware_of_wsgi(tmp_path: Path, sandbox: Server, greedy: Greedy) -> None:
    """How requests are framed is the server's business: what comes to the door has been read by it."""
    guard = opened(tmp_path, sandbox)
    name, user = guard.vault.safety_identifier("u1"), guard.vault.pseudonym("user", "u1")
    judge = Judge(greedy, name)
    app = wsgi.PolicyGuardMiddleware(forwards(sandbox.url), guard=guard, caller=lambda environ: {"user": "u1"})
    with guard, WsgiServer(app) as server:
        tricks = {name: trick for name, trick in TRICKS.items() if name not in OF_THE_SERVER}
        tried = {n: judge.problem(say(server.url, raw(t)), t.served) for n, t in tricks.items()}
        assert [answer.status for answer in say(server.url, raw(sent(FINE)))] == [200]
        events = [row.event for row in guard.store.events(limit=10_000)]
    assert told(tried) == ""
    check_record(events, judge, user, generated(sandbox))


def forwards(url: str) -> Any:
    """A WSGI app that forwards whatever it gets."""

    def app(environ: Any, start_response: Any) -> list[bytes]:
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        connection = HTTPConnection(urlsplit(url).netloc)
        connection.putrequest(environ["REQUEST_METHOD"], environ["RAW_URI"], skip_host=True, skip_accept_encoding=True)
        mine = (b"content-length", b"connection", b"transfer-encoding")
        for header, value in scope_of(environ)["headers"]:
            if header not in mine:
                connection.putheader(header, value)
        connection.putheader("authorization", f"Bearer {KEY}")
        connection.putheader("content-length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        hops = ("connection", "transfer-encoding", "date", "server")
        kept = [(name, value) for name, value in answer.getheaders() if name.lower() not in hops]
        start_response(f"{answer.status} {answer.reason}", kept)
        whole = answer.read()
        connection.close()
        return [whole]

    return app


def behind(greedy: Greedy, guard: Guard) -> Any:
    """An app that forwards whatever it gets."""
    started = Starlette(lifespan=lifespan(guard))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await started(scope, receive, send)
            return
        headers = [*scope["headers"], (b"authorization", f"Bearer {KEY}".encode())]
        await greedy({**scope, "headers": headers}, receive, send)

    return app

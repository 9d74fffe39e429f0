"""A prompt, a user's name, pixels and a key are in no span, metric, log line, event, webhook or error of ours.

Every door, with everything going well and with everything failing in words that quote the request, while every
library logs at DEBUG: those that are pinned show nothing of it either.
"""

from __future__ import annotations

import base64
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import pytest
from openai import OpenAI
from support import SURFACE
from telemetry.canary import ANSWER, DOORS, KEY, PICTURE, PROMPT, WHO, found_in, logged, written
from telemetry.listening import Heard

from policyguard.adapters.transport import guarded
from policyguard.errors import StoreUnavailable
from policyguard.flow.steps import Moderate, Reserve, Settle
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Verdict


class Quotes(ScriptedModerator):
    """Fails in the words of the request."""

    def moderate(self, step: Moderate) -> Verdict:
        raise RuntimeError(step.request.prompt)


class Case(NamedTuple):
    """`down`: the step at which the store fails. `upstream`: what it raises, else it answers."""

    asked: Mapping[str, Any] = {}
    surface: str = ""
    moderator: ScriptedModerator | None = None
    down: type | None = None
    upstream: Exception | None = None


REVIEW = "review: {required: true, reviewers: [group:trust], escalate: [{after: 1h, to: [group:oncall]}]}\n"
CASES = {
    "allowed": Case(),
    "with a picture": Case({"picture": True}),
    "a parameter is denied": Case({"n": 9}),
    "a rule reads the prompt": Case(
        surface="rules: [{id: no-canaries, when: 'request.prompt.contains(\"canary\")', then: deny}]\n"
    ),
    "no request at all": Case({"size": "canaryprompt"}),
    "moderation denies": Case(moderator=ScriptedModerator({"sexual": 0.9})),
    "moderation is unavailable": Case(moderator=ScriptedModerator(error="timeout")),
    "moderation is unavailable in a sentence": Case(moderator=ScriptedModerator(error=PROMPT)),
    "the moderator quotes the prompt": Case(moderator=Quotes()),
    "held for review": Case(surface=REVIEW),
    "the budget is spent": Case(surface="budgets: [{id: day, limit: $0.0001 / day, alert_at: [50%]}]\n"),
    "the store is down": Case(down=Reserve),
    "the store is down at the end": Case(down=Settle),
    "the upstream quotes the prompt": Case(upstream=RuntimeError(PROMPT)),
    "the upstream takes too long": Case(upstream=TimeoutError(PROMPT)),
}


def fail_at(guard: Guard, kind: type, monkeypatch: pytest.MonkeyPatch) -> None:
    perform, aperform = guard.store.perform, guard.store.aperform

    def failing(step: Any, now: Any) -> Any:
        if isinstance(step, kind):
            raise StoreUnavailable("the store cannot answer") from RuntimeError(PROMPT)
        return perform(step, now)

    async def afailing(step: Any, now: Any) -> Any:
        if isinstance(step, kind):
            raise StoreUnavailable("the store cannot answer") from RuntimeError(PROMPT)
        return await aperform(step, now)

    monkeypatch.setattr(guard.store, "perform", failing)
    monkeypatch.setattr(guard.store, "aperform", afailing)


class Answering(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        body = json.dumps(ANSWER).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def answering() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("door", DOORS)
def test_what_is_private_is_seen_nowhere(
    door: str,
    case: str,
    open_guard: Callable[..., Guard],
    heard: Heard,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.DEBUG)  # of everybody's, before anything is opened
    given = CASES[case]
    guard = open_guard(avatars=SURFACE + given.surface, moderator=given.moderator)

    def upstream() -> Mapping[str, Any]:
        if given.upstream is not None:
            raise given.upstream
        return ANSWER

    with monkeypatch.context() as patched:
        if given.down is not None:
            fail_at(guard, given.down, patched)
        said = DOORS[door](guard, upstream, dict(given.asked))
    places = {place: found_in(text) for place, text in written(guard, heard)}
    assert {place: signs for place, signs in places.items() if signs} == {}
    assert found_in(said) == set()
    assert {record.name for record in caplog.records if found_in(logged(record))} == set()
    assert [record for record in caplog.records if record.name == "policyguard"]
    assert heard.spans


def test_over_a_real_connection_too(
    open_guard: Callable[..., Guard], heard: Heard, caplog: pytest.LogCaptureFixture, answering: str
) -> None:
    caplog.set_level(logging.DEBUG)
    guard = open_guard()
    with OpenAI(api_key=KEY, base_url=answering, max_retries=1) as sdk:
        client = guarded(sdk, guard, surface="avatars", caller=lambda: WHO)
        client.images.generate(prompt=PROMPT, n=1)
        client.images.edit(prompt=PROMPT, image=("canary.png", PICTURE, "image/png"), n=1)
    assert {record.name for record in caplog.records if found_in(logged(record))} == set()
    assert {"httpx2", "policyguard"} <= {record.name for record in caplog.records}
    assert any(record.name.startswith("httpcore2") for record in caplog.records)


def test_the_canary_would_be_seen(
    open_guard: Callable[..., Guard], heard: Heard, caplog: pytest.LogCaptureFixture
) -> None:
    """The look-out works: a host that says so itself is heard."""
    caplog.set_level(logging.DEBUG)
    guard = open_guard()
    with heard.tracing.get_tracer("host").start_as_current_span("host", attributes={"said": PROMPT}):
        DOORS["client"](guard, lambda: ANSWER, {})
    logging.getLogger("host").debug("picture %s", base64.b64encode(PICTURE).decode())
    assert {place for place, text in written(guard, heard) if found_in(text)} == {"span host"}
    assert {record.name for record in caplog.records if found_in(logged(record))} == {"host"}

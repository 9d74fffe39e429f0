"""What the middleware adds to a Starlette request, in microseconds, where it waits for nobody.

Run it: `python tests/bench/bench_middleware.py`. The policy has parameters, a moderator that answers at once, rules and
prices, and no budgets; the store answers at once, too, so that what is counted is the door, the decision and its
record, not a disk. What no middleware of this kind can do without (take the body, read it, decide, hand it on, find
the usage) stands beside it, by the same parts in thirty lines. CPU of this thread, the best of nine runs.
"""

from __future__ import annotations

import asyncio
import json
import logging
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from time import thread_time
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.body import Replay
from policyguard.audit.private import Vault
from policyguard.engine import decide
from policyguard.flow.states import LegState
from policyguard.flow.steps import CheckPaused, Record, Reserve, Reserved, Settle, Settled
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.policy.load import load
from policyguard.request import CATEGORIES, Caller, Verdict
from policyguard.wire import forms
from policyguard.wire.outcome import OutcomeReader

AIM_US, WORST_US = 8, 25
PATH = "/avatars/v1/images/generations"
ORG = """
version: 1
organisation: Example Corp
trusted_proxies: [127.0.0.1/32]
caller:
  user: {from: 'http.headers["x-user-id"]', required: true}
  tier: {from: 'http.headers["x-plan"]', values: [free, pro], default: free}
"""
SURFACE = """
version: 1
surface: avatars
title: Profile pictures
owner: growth@example.com
stakes: low
routes: [POST /avatars/v1/images/generations]
request:
  models:  {allow: [gpt-image-2-2026-04-21], default: gpt-image-2-2026-04-21}
  sizes:   {allow: [1024x1024, 1024x1536], default: 1024x1024}
  quality: {allow: [low, medium, high], default: low}
moderation: {check: [prompt]}
rules:
  - {id: pro-quality, when: 'caller.tier == "free" && request.quality == "high"', then: deny}
  - {id: long-prompts, when: size(request.prompt) > 1000, then: deny}
"""
ALLOWED = json.dumps({"prompt": "a fox in a scarf", "size": "1024x1024", "quality": "low", "n": 1}).encode()
DENIED = ALLOWED.replace(b'"low"', b'"high"')
ANSWER = json.dumps({"created": 1, "data": [{"b64_json": "A" * 900}], "usage": {"output_tokens": 196}}).encode()
HEADERS = [(b"content-type", b"application/json"), (b"x-user-id", b"u1"), (b"x-plan", b"free")]
VERDICT = Verdict(model="omni-moderation-latest", scores=dict.fromkeys(CATEGORIES, 0.01), calls=1)
ANSWERS: dict[type, Any] = {
    CheckPaused: None,
    Record: None,
    Reserve: Reserved(),
    Settle: Settled(LegState.SETTLED, 5880, 5900, True),
}


class Instant:
    """A store that keeps nothing and answers at once."""

    async def aperform(self, step: Any, now: datetime) -> Any:
        return ANSWERS[type(step)]

    async def amark_sent(self, leg_id: str, expires_at: datetime, now: datetime) -> bool:
        return True

    def close(self) -> None:
        return None


async def handler(request: Request) -> Response:
    await request.body()
    return Response(ANSWER, media_type="application/json")


APP = Starlette(routes=[Route(PATH, handler, methods=["POST"]), Route("/other", handler, methods=["POST"])])


class Least:
    """What nobody can do without: the body is taken, read and decided, and the usage of the answer found."""

    def __init__(self, app: Any, policies: Any) -> None:
        self.app, self.policy = app, policies.surfaces["avatars"]

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        parsed = forms.read("generations", message["body"], "application/json")
        who = Caller(user="u1", tier="free")
        decision = decide.judge(decide.screen(self.policy, parsed.request, who, datetime.now(UTC)), VERDICT)
        body, _ = parsed.write(decision.request, None)
        reader: OutcomeReader | None = None

        async def read(message: Any) -> None:
            nonlocal reader
            if message["type"] == "http.response.start":
                headers = {n.decode("latin-1"): v.decode("latin-1") for n, v in message["headers"]}
                reader = OutcomeReader(message["status"], headers)
            elif reader is not None:
                reader.feed(message["body"])
            await send(message)

        await self.app(scope, Replay(body, receive), read)
        if reader is not None:
            reader.outcome()


# ---- the bench -------------------------------------------------------------------------------------------------


async def ask(door: Any, body: bytes, path: str = PATH) -> int:
    status = 0

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        nonlocal status
        status = message.get("status", status)

    scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "client": ("127.0.0.1", 5)}
    await door({**scope, "headers": list(HEADERS), "root_path": "", "server": None}, receive, send)
    return status


def best(door: Any, body: bytes, path: str = PATH, count: int = 1_000) -> float:
    """Microseconds a request."""

    async def run() -> float:
        begun = thread_time()
        for _ in range(count):
            await ask(door, body, path)
        return (thread_time() - begun) / count * 1e6

    return min(asyncio.run(run()) for _ in range(9))


def main() -> int:
    logging.getLogger("policyguard").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "org.yaml").write_text(ORG)
        Path(folder, "avatars.yaml").write_text(SURFACE)
        policies = load(folder)
    guard = Guard(policies, store=Instant(), moderator=ScriptedModerator(), vault=Vault(bytes(32)))  # type: ignore[arg-type]
    guard._sweep_is_due = lambda: False  # there is nothing to sweep
    door = PolicyGuardMiddleware(APP, guard=guard)
    assert [asyncio.run(ask(door, body)) for body in (ALLOWED, DENIED)] == [200, 400]
    floor = best(APP, ALLOWED)
    print(f"{'the app alone':<46} {floor:7.1f} us")
    rows = (
        ("another route, through the middleware", door, ALLOWED, "/other"),
        ("the least that has to be done", Least(APP, policies), ALLOWED, PATH),
        ("allowed: decided, recorded, charged", door, ALLOWED, PATH),
    )
    found = [(name, best(app, body, path) - floor) for name, app, body, path in rows]
    for name, added in found:
        print(f"{name:<46} {added:+7.1f} us")
    denied = best(door, DENIED)
    print(f"{'denied by a rule, the app is not reached':<46} {denied:7.1f} us")
    print(f"aim {AIM_US} us, never over {WORST_US} us, for the second and third row")
    return 0


if __name__ == "__main__":
    main()

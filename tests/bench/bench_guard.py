"""CPU of one guarded request, one decision, and an import, each beside a floor in the same run.

    python tests/bench/bench_guard.py

Prints figures and never fails: machines differ, ratios travel.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import anyio

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.engine.decide import judge, screen
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.policy.load import load
from policyguard.request import CATEGORIES, Caller, ImageRequest, Verdict

POLICIES = Path(__file__).parents[2] / "policies"
PATH = "/avatars/v1/images/generations"
BODY = b'{"prompt": "a red fox in a knitted scarf, watercolour", "quality": "low", "n": 1}'
ANSWER = json.dumps({"data": [{"b64_json": "eA=="}], "usage": {"input_tokens": 10, "output_tokens": 196}}).encode()
SCOPE = {
    "type": "http",
    "method": "POST",
    "path": PATH,
    "client": ("127.0.0.1", 5),
    "headers": [(b"content-type", b"application/json"), (b"x-user-id", b"u1"), (b"x-tenant", b"acme")],
}


async def app(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": ANSWER})


async def ask(door: Any, user: bytes) -> None:
    async def receive() -> Any:
        return {"type": "http.request", "body": BODY, "more_body": False}

    async def send(message: Any) -> None:
        return None

    headers = [*SCOPE["headers"][:1], (b"x-user-id", user), *SCOPE["headers"][2:]]  # type: ignore[misc]
    await door({**SCOPE, "headers": headers}, receive, send)


def per_request(door: Any, count: int) -> tuple[float, float]:
    """Milliseconds of CPU and of time, one after another; every user makes 20 requests, as its budget allows."""

    async def run() -> None:
        for number in range(count):
            await ask(door, f"u{number // 20}".encode())

    cpu, wall = time.process_time(), time.perf_counter()
    anyio.run(run)
    return (time.process_time() - cpu) / count * 1000, (time.perf_counter() - wall) / count * 1000


def guarded() -> None:
    rows = []
    for synchronous in ("FULL", "NORMAL"):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["POLICYGUARD_SQLITE_SYNCHRONOUS"] = synchronous
            guard = Guard.open(POLICIES, store=f"sqlite:///{folder}/r.sqlite3", moderator=ScriptedModerator())
            door = PolicyGuardMiddleware(app, guard=guard)
            per_request(door, 100)
            rows.append((f"guarded request, SQLite {synchronous}", *per_request(door, 600)))
            guard.close()
    floor = per_request(app, 2000)
    print(f"{'the same app without a guard':<40} {floor[0]:7.3f} ms CPU {floor[1]:7.3f} ms")
    for name, cpu, wall in rows:
        print(f"{name:<40} {cpu:7.3f} ms CPU {wall:7.3f} ms   (aim: 2 ms CPU)")


# ---- one decision -----------------------------------------------------------------------------------------


def by_hand(request: ImageRequest, caller: Caller, scores: dict[str, float]) -> list[str]:
    """The same checks as a function that somebody wrote for this one policy."""
    reasons = []
    if request.model not in ("gpt-image-2.5-flare-2026-09-08", "gpt-image-2-2026-04-21"):
        reasons.append("request.model")
    if request.size not in ("1024x1024", "1024x1536", "1536x1024"):
        reasons.append("request.size")
    if request.quality not in ("low", "medium", "high"):
        reasons.append("request.quality")
    if (request.n or 1) > 2:
        reasons.append("request.n")
    if caller.tier == "free" and request.quality == "high":
        reasons.append("pro-quality")
    if len(request.prompt) > 1000:
        reasons.append("long-prompts")
    if request.background == "transparent" and request.output_format == "jpeg":
        reasons.append("no-transparent-jpeg")
    for category in CATEGORIES:
        if scores[category] >= (0.3 if category == "sexual" else 0.02 if category == "sexual/minors" else 0.5):
            reasons.append(f"moderation.{category}")
    return reasons


def best(call: Callable[[], Any], count: int = 3000) -> float:
    """Microseconds a call: the median of nine runs."""
    runs = []
    for _ in range(9):
        started = time.perf_counter()
        for _ in range(count // 9):
            call()
        runs.append((time.perf_counter() - started) / (count // 9) * 1e6)
    return median(runs)


def decision() -> None:
    policy = load(POLICIES).surfaces["avatars"]
    request = ImageRequest(
        prompt="a red fox in a scarf", model="gpt-image-2-2026-04-21", size="1024x1024", quality="low", n=1
    )
    caller, now = Caller(user="u1", tenant="acme", tier="free"), datetime(2026, 11, 24, 12, tzinfo=UTC)
    scores = dict.fromkeys(CATEGORIES, 0.01)
    verdict = Verdict(model="m", scores=scores)
    ours = best(lambda: judge(screen(policy, request, caller, now), verdict))
    floor = best(lambda: by_hand(request, caller, scores))
    print(f"{'one decision by hand':<40} {floor:7.2f} us")
    print(f"{'one decision, screen and judge':<40} {ours:7.2f} us   ({ours / floor:.1f} x by hand; aim: 50 us)")


def imports() -> None:
    def run(code: str) -> float:
        times = []
        for _ in range(7):
            started = time.perf_counter()
            subprocess.run([sys.executable, "-c", code], check=True)
            times.append((time.perf_counter() - started) * 1000)
        return min(times)

    floor, ours = run("pass"), run("import policyguard")
    print(f"{'import policyguard':<40} {ours - floor:7.1f} ms   (above an empty Python, {floor:.0f} ms; aim: 150 ms)")


if __name__ == "__main__":
    decision()
    guarded()
    imports()

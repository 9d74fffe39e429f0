"""The proxy against a floor: the same two upstream calls, with everything checked, reserved and recorded, or nothing.

Run it: `python tests/bench/bench_proxy.py [seconds]`. The floor is a forwarding proxy of 60 lines on aiohttp that
asks for moderation, then for the picture, and looks at neither. Both stand before the same cheap upstream, which is a
process of its own, and answer the same clients in turn. CPU is that of the proxy's process alone.
"""

from __future__ import annotations

import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CLIENTS = (1, 16, 64)
ROUNDS = 3
AIM_RPS, WORST_RPS, AIM_P50_MS, AIM_RSS_MB, AIM_READY_S = 1_150, 500, 2.5, 100, 2.0
BODY = json.dumps({"prompt": "a fox in a scarf, watercolour", "size": "1024x1024", "quality": "low"}).encode()
POLICY = """
version: 1
surface: avatars
title: Profile pictures
owner: growth@example.com
stakes: low
request:
  models:  {allow: [gpt-image-2-2026-04-21], default: gpt-image-2-2026-04-21}
  sizes:   {allow: [1024x1024, 1024x1536], default: 1024x1024}
  quality: {allow: [low, medium], default: low}
budgets:
  - {id: surface-month, limit: $1000000 / month}
  - {id: tenant-day, per: caller.tenant, limit: $1000000 / day}
  - {id: user-day, per: caller.user, limit: 100000000 images / day}
rules:
  - {id: pro, when: 'caller.tier == "free" && request.quality == "high"', then: deny}
"""


# ---- servers, each a process of its own --------------------------------------------------------------------


def upstream(port: int) -> None:
    """Answers at once, with one kilobyte."""
    from aiohttp import web

    from policyguard.request import CATEGORIES

    result = {
        "flagged": False,
        "categories": dict.fromkeys(CATEGORIES, False),
        "category_scores": dict.fromkeys(CATEGORIES, 0.01),
        "category_applied_input_types": {name: ["text"] for name in CATEGORIES},
    }
    scores = json.dumps({"id": "modr-1", "model": "omni-moderation-2024-09-26", "results": [result]}).encode()
    usage = {"input_tokens": 10, "output_tokens": 196, "total_tokens": 206}
    picture = json.dumps({"created": 1, "data": [{"b64_json": "A" * 900}], "usage": usage}).encode()

    def answer(body: bytes) -> Any:
        async def handler(request: web.Request) -> web.Response:
            await request.read()
            return web.Response(body=body, content_type="application/json", headers={"x-request-id": "req_1"})

        return handler

    app = web.Application()
    app.router.add_post("/v1/moderations", answer(scores))
    app.router.add_post("/v1/images/generations", answer(picture))
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


def floor(port: int, base: str) -> None:
    """Moderates, forwards, and looks at nothing."""
    import aiohttp
    import uvloop
    from aiohttp import web

    async def session(app: web.Application) -> Any:
        app["upstream"] = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers={"authorization": "Bearer sk-upstream", "content-type": "application/json"},
        )
        yield
        await app["upstream"].close()

    async def generations(request: web.Request) -> web.StreamResponse:
        calls = request.app["upstream"]
        body = await request.read()
        question = json.dumps({"model": "omni-moderation-latest", "input": json.loads(body)["prompt"]})
        async with calls.post(f"{base}/moderations", data=question) as scores:
            json.loads(await scores.read())
        async with calls.post(f"{base}/images/generations", data=body) as answer:
            passed = web.StreamResponse(status=answer.status, headers={"content-type": "application/json"})
            passed.content_length = answer.content_length
            await passed.prepare(request)
            async for chunk in answer.content.iter_any():
                await passed.write(chunk)
            await passed.write_eof()
            return passed

    app = web.Application()
    app.cleanup_ctx.append(session)
    app.router.add_post("/v1/images/generations", generations)
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None)


# ---- processes -------------------------------------------------------------------------------------------------


class Running:
    """A server, what its process has used, and how long it took to answer first."""

    def __init__(self, command: list[str], port: int, **environment: str) -> None:
        started = time.perf_counter()
        self.port = port
        self._process = subprocess.Popen(
            command, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        while not _listens(port):
            if self._process.poll() is not None:
                raise SystemExit(f"a server did not start: {' '.join(command)}")
            time.sleep(0.005)
        self.ready_s = time.perf_counter() - started

    @property
    def pid(self) -> int:
        return self._process.pid

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(") ")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def rss_mb(self) -> float:
        return int(Path(f"/proc/{self.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(60)


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def started(command: list[str], port: int, **environment: str) -> Iterator[Running]:
    running = Running(command, port, **environment)
    try:
        yield running
    finally:
        running.stop()


def itself(role: str, *arguments: str) -> list[str]:
    return [sys.executable, __file__, role, *arguments]


# ---- load ------------------------------------------------------------------------------------------------------


async def _client(port: int, request: bytes, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        while time.perf_counter() < until:
            began = time.perf_counter()
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise SystemExit(f"not a 200: {head.splitlines()[0]!r}")
            length = head.lower().split(b"content-length: ")[1].split(b"\r\n")[0]
            await reader.readexactly(int(length))
            times.append(time.perf_counter() - began)
    finally:
        writer.close()


async def load(port: int, key: str, clients: int, seconds: float) -> list[float]:
    """How long each request took."""
    headers = f"Host: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    start = f"POST /v1/images/generations HTTP/1.1\r\n{headers}Content-Length: {len(BODY)}\r\n\r\n"
    times: list[float] = []
    until = time.perf_counter() + seconds
    await asyncio.gather(*(_client(port, start.encode() + BODY, until, times) for _ in range(clients)))
    return times


def measure(running: Running, key: str, clients: int, seconds: float) -> tuple[float, float, float]:
    """Requests a second, CPU milliseconds of a request, median milliseconds."""
    before, began = running.cpu_s(), time.perf_counter()
    times = asyncio.run(load(running.port, key, clients, seconds))
    took = time.perf_counter() - began
    return (
        len(times) / took,
        (running.cpu_s() - before) * 1000 / len(times),
        statistics.median(times) * 1000,
    )


# ---- the bench -------------------------------------------------------------------------------------------------


def prepare(folder: Path) -> tuple[dict[str, str], str]:
    """The settings of the proxy, and a key."""
    from support import ORG, write_policies

    from policyguard.audit.keys import open_vault
    from policyguard.store import key_path, open_store
    from policyguard.store.proxy_keys import new_secret

    policies = write_policies(folder / "policies", org=ORG, avatars=POLICY)
    url, secret = f"sqlite:///{folder / 'record.sqlite3'}", new_secret()
    store = open_store(url, vault=open_vault(key_path(url), create=True))
    caller = {"user": "u1", "tenant": "acme"}
    store.proxy_keys.create(
        secret,
        name="bench",
        surfaces=("avatars",),
        caller=caller,
        names_user=False,
        by="bench",
        now=datetime.now(UTC),
    )
    store.close()
    return {"POLICYGUARD_POLICIES": str(policies), "POLICYGUARD_STORE": url, "OPENAI_API_KEY": "sk-upstream"}, secret


def best(figures: list[tuple[float, float, float]]) -> tuple[float, float, float]:
    """The best of each: what else runs on the machine only ever makes it worse."""
    rates, cpu, medians = zip(*figures, strict=True)
    return max(rates), min(cpu), min(medians)


def main(seconds: float) -> None:
    with tempfile.TemporaryDirectory() as folder:
        settings, key = prepare(Path(folder))
        up, bare, ours = _free_port(), _free_port(), _free_port()
        base = f"http://127.0.0.1:{up}/v1"
        serve = [sys.executable, "-m", "policyguard", "serve", "--port", str(ours), "--upstream", base]
        with (
            started(itself("upstream", str(up)), up),
            started(itself("floor", str(bare), base), bare) as least,
            started(serve, ours, **settings) as proxy,
        ):
            report(least, proxy, key, seconds)


def report(least: Running, proxy: Running, key: str, seconds: float) -> None:
    print(f"ready in {proxy.ready_s:.2f} s (aim {AIM_READY_S:g}), RSS {proxy.rss_mb():.0f} MB")
    print(f"{'clients':>7} {'floor/s':>8} {'proxy/s':>8} {'ratio':>5} {'floor CPU':>10} {'proxy CPU':>10} {'added':>9}")
    for server in (least, proxy):
        measure(server, key, 16, seconds / 4)  # warm
    for clients in CLIENTS:
        rounds = [[measure(server, key, clients, seconds) for server in (least, proxy)] for _ in range(ROUNDS)]
        bare, ours = best([one[0] for one in rounds]), best([one[1] for one in rounds])
        print(
            f"{clients:>7} {bare[0]:>8,.0f} {ours[0]:>8,.0f} {ours[0] / bare[0]:>5.2f} {bare[1]:>7.2f} ms"
            f" {ours[1]:>7.2f} ms {ours[2] - bare[2]:>7.2f} ms"
        )
    print(f"RSS {proxy.rss_mb():.0f} MB (aim {AIM_RSS_MB})")
    print(f"aim {AIM_RPS:,} requests/s at 16 to 64 clients, never under {WORST_RPS}; added p50 {AIM_P50_MS} ms at 1")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["upstream", port]:
            upstream(int(port))
        case ["floor", port, base]:
            floor(int(port), base)
        case [*rest]:
            main(float(rest[0]) if rest else 3.0)

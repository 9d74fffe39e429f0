"""What the proxy holds in memory: idle streams, pictures of six megabytes, and many requests one after another.

Run it: `python tests/bench/bench_proxy_memory.py [requests]`; a hundred thousand take some minutes. Memory is the
resident size of the proxy's process, its peak by the kernel's own mark. The upstream is a process of its own. Exits 1
where a thousand idle streams need more than is acceptable, or where requests leave something behind.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from bench_proxy import Running, _free_port, prepare, started

STREAMS, WORST_STREAMS_MB = 1_000, 200
LARGE_BYTES = 6_000_000
CLIENTS, PARTS = 16, 10
WORST_GROWTH_MB = 10  # from the first tenth to the last


def upstream(port: int) -> None:
    """Answers as the prompt says: `small`, `large`, or a stream that has begun and says nothing more."""
    from aiohttp import web

    from policyguard.request import CATEGORIES

    applied = {name: ["text"] for name in CATEGORIES}
    result = {"category_scores": dict.fromkeys(CATEGORIES, 0.01), "category_applied_input_types": applied}
    scores = json.dumps({"id": "m", "model": "omni-moderation-2024-09-26", "results": [result]}).encode()
    usage = {"input_tokens": 10, "output_tokens": 196, "total_tokens": 206}
    sizes = {"small": 900, "large": LARGE_BYTES}
    bodies = {
        name: json.dumps({"created": 1, "data": [{"b64_json": "A" * size}], "usage": usage}).encode()
        for name, size in sizes.items()
    }

    async def moderations(request: web.Request) -> web.Response:
        await request.read()
        return web.Response(body=scores, content_type="application/json")

    async def generations(request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        if not asked.get("stream"):
            return web.Response(body=bodies[asked["prompt"]], content_type="application/json")
        answer = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await answer.prepare(request)
        await answer.write(b'event: image_generation.in_progress\ndata: {"type": "image_generation.in_progress"}\n\n')
        await asyncio.Event().wait()
        return answer

    app = web.Application()
    app.router.add_post("/v1/moderations", moderations)
    app.router.add_post("/v1/images/generations", generations)
    web.run_app(app, host="127.0.0.1", port=port, print=None, access_log=None, shutdown_timeout=1)


# ---- clients ---------------------------------------------------------------------------------------------------


def request(key: str, **asked: Any) -> bytes:
    body = json.dumps(asked).encode()
    head = f"Host: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n"
    return f"POST /v1/images/generations HTTP/1.1\r\n{head}Content-Length: {len(body)}\r\n\r\n".encode() + body


async def _ask(port: int, sent: bytes, times: int) -> None:
    """One connection; what comes is not kept."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(times):
        writer.write(sent)
        head = await reader.readuntil(b"\r\n\r\n")
        if not head.startswith(b"HTTP/1.1 200"):
            raise SystemExit(f"not a 200: {head.splitlines()[0]!r}")
        left = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while left:
            left -= len(await reader.read(min(left, 1 << 16)))
    writer.close()


async def ask(port: int, sent: bytes, clients: int, times: int) -> None:
    await asyncio.gather(*(_ask(port, sent, times) for _ in range(clients)))


async def idle(port: int, sent: bytes, look: Callable[[], None]) -> None:
    """So many streams, each with its first event; `look` at them; all leave."""
    writers = []

    async def one() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent)
        await reader.readuntil(b"in_progress\ndata:")
        writers.append((reader, writer))

    for _ in range(STREAMS // 50):
        await asyncio.gather(*(one() for _ in range(50)))
    look()
    for _, writer in writers:
        writer.close()


# ---- the bench -------------------------------------------------------------------------------------------------


def peak_mb(proxy: Running, work: Callable[[], None]) -> tuple[float, float]:
    """The resident size before, and how far above it the work went."""
    place = Path(f"/proc/{proxy.pid}")
    (place / "clear_refs").write_text("5")  # the peak begins anew
    before = proxy.rss_mb()
    work()
    (line,) = (line for line in (place / "status").read_text().splitlines() if line.startswith("VmHWM"))
    return before, int(line.split()[1]) * 1024 / 1e6 - before


def streams(proxy: Running, key: str) -> bool:
    found: list[float] = []
    before = proxy.rss_mb()
    sent = request(key, prompt="idle", stream=True)
    asyncio.run(idle(proxy.port, sent, lambda: found.append(proxy.rss_mb())))
    each = (found[0] - before) * 1000 / STREAMS
    print(f"{STREAMS:,} idle streams: {found[0]:.0f} MB, {each:.0f} kB each (never over {WORST_STREAMS_MB} MB)")
    return found[0] < WORST_STREAMS_MB


def large(proxy: Running, key: str) -> None:
    sent = request(key, prompt="large")
    asyncio.run(ask(proxy.port, sent, 1, 4))  # warm
    for clients in (1, CLIENTS):
        times = 16 // clients
        before, above = peak_mb(proxy, lambda: asyncio.run(ask(proxy.port, sent, clients, times)))  # noqa: B023
        print(f"answers of 6 MB, {clients} at once: {above:+.1f} MB at the peak, from {before:.0f} MB")


def many(proxy: Running, key: str, count: int) -> bool:
    sent, sizes = request(key, prompt="small"), []
    for part in range(1, PARTS + 1):
        began = time.perf_counter()
        asyncio.run(ask(proxy.port, sent, CLIENTS, count // PARTS // CLIENTS))
        rate = count // PARTS / (time.perf_counter() - began)
        sizes.append(proxy.rss_mb())
        print(f"after {count * part // PARTS:>9,} requests: {sizes[-1]:.1f} MB, {rate:,.0f}/s", flush=True)
    grown = sizes[-1] - sizes[0]
    print(f"grown by {grown:+.1f} MB since the first tenth (never over {WORST_GROWTH_MB} MB)")
    return grown < WORST_GROWTH_MB


def main(count: int) -> int:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    with suppress(ValueError):  # two files for each stream
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65_536), hard))
    with tempfile.TemporaryDirectory() as folder:
        settings, key = prepare(Path(folder))
        up, ours = _free_port(), _free_port()
        options = ["--port", str(ours), "--upstream", f"http://127.0.0.1:{up}/v1", "--max-requests", "1200"]
        serve = [sys.executable, "-m", "policyguard", "serve", *options]
        with started([sys.executable, __file__, "upstream", str(up)], up), started(serve, ours, **settings) as proxy:
            asyncio.run(ask(ours, request(key, prompt="small"), CLIENTS, 50))
            print(f"warm: {proxy.rss_mb():.0f} MB")
            held = streams(proxy, key)
            large(proxy, key)
            return 0 if many(proxy, key, count) and held else 1


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["upstream", port]:
            upstream(int(port))
        case [*rest]:
            sys.exit(main(int(rest[0]) if rest else 20_000))

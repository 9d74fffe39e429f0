"""What one plain allowed request passes through in the ASGI door: modules, functions, frames, trips to the store.

Run it: `python tests/bench/bench_hops.py`; with `--tree` it prints the calls in order, too. The request is the one of
bench_middleware.py; the store is SQLite, the moderator answers at once. Calls are counted, not timed, so that the
figures are the same on every machine. Only policyguard's own code counts, in all threads, after a few requests that
filled the caches.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

from bench_middleware import ALLOWED, APP, HEADERS, ORG, PATH, SURFACE

import policyguard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.store.db.group import Writer

PACKAGE = str(Path(policyguard.__file__).parent)
WARM = 20
BEFORE = 736  # frames, as they were counted before this bench was written
AIM_FRAMES, AIM_TRIPS = BEFORE // 2, 2
SCOPE = {
    "type": "http",
    "method": "POST",
    "path": PATH,
    "raw_path": PATH.encode(),
    "query_string": b"",
    "root_path": "",
    "scheme": "http",
    "http_version": "1.1",
    "headers": HEADERS,
    "client": ("127.0.0.1", 5000),
    "server": ("127.0.0.1", 8000),
}


class Hops:
    """Calls of policyguard's code, generators that go on included, by what was called."""

    def __init__(self) -> None:
        self.calls: Counter[CodeType] = Counter()
        self.order: list[tuple[str, CodeType]] = []
        self.trips = 0

    def profile(self, frame: FrameType, event: str, _: Any) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(PACKAGE):
            self.calls[frame.f_code] += 1
            self.order.append((threading.current_thread().name, frame.f_code))
            self.trips += frame.f_code is Writer.submit.__code__

    @property
    def modules(self) -> int:
        return len({code.co_filename for code in self.calls})


@contextmanager
def counted(hops: Hops) -> Iterator[None]:
    sys.setprofile(hops.profile)
    try:
        yield
    finally:
        sys.setprofile(None)


async def ask(app: Any) -> None:
    messages = iter([{"type": "http.request", "body": ALLOWED, "more_body": False}])
    statuses = []

    async def receive() -> Any:
        return next(messages, {"type": "http.disconnect"})

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    await app(dict(SCOPE), receive, send)
    assert statuses == [200]


def measure() -> Hops:
    logging.getLogger("policyguard").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        policies = Path(folder) / "policies"
        policies.mkdir()
        (policies / "org.yaml").write_text(ORG)
        (policies / "avatars.yaml").write_text(SURFACE)
        hops = Hops()
        # the store's thread starts with the first request, and is then counted from its first call on
        recording = False

        def elsewhere(frame: FrameType, event: str, argument: Any) -> None:
            if recording:
                hops.profile(frame, event, argument)

        threading.setprofile(elsewhere)
        guard = Guard.open(policies, store=str(Path(folder) / "hops.sqlite3"), moderator=ScriptedModerator())
        app = PolicyGuardMiddleware(APP, guard=guard)

        async def run() -> None:
            nonlocal recording
            for _ in range(WARM):
                await ask(app)
            recording = True
            with counted(hops):
                await ask(app)
            recording = False

        asyncio.run(run())
        guard.close()
        threading.setprofile(None)  # type: ignore[arg-type]
    return hops


def name(code: CodeType) -> str:
    return f"{Path(code.co_filename).relative_to(PACKAGE)}:{code.co_firstlineno} {code.co_qualname}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", action="store_true", help="print every call, in order, with its thread")
    shown = parser.parse_args()
    hops = measure()
    if shown.tree:
        for thread, code in hops.order:
            print(f"{thread:18} {name(code)}")
    frames = sum(hops.calls.values())
    print(f"{'modules':>10} {'functions':>10} {'frames':>10} {'store trips':>12}")
    print(f"{hops.modules:>10} {len(hops.calls):>10} {frames:>10} {hops.trips:>12}")
    for code, calls in hops.calls.most_common(10):
        print(f"{calls:>6} x {name(code)}")
    print(f"aims: {AIM_FRAMES} frames ({frames / AIM_FRAMES:.2f} of it), {AIM_TRIPS} trips to the store")


if __name__ == "__main__":
    main()

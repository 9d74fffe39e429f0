"""Two `policyguard serve` processes on one database, clients that ask them all the time, and what came of it."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
from store.books import assert_books_balance, rows
from support import AVATARS, ORG, write_policies

from policyguard.audit.keys import open_vault
from policyguard.audit.private import Vault
from policyguard.audit.seal import seal
from policyguard.audit.verify import verify
from policyguard.store import Store, open_store
from policyguard.store.proxy_keys import new_secret

GENERATIONS = "/v1/images/generations"
LIMIT = 450  # images
BOTH = range(2)  # processes
CLIENTS = 8  # of each
GRACE_S = 12
# A breaker that never opens: what fails here is the database. A fault of the sandbox would be another test.
SERVE = "from policyguard.store import breaker; breaker.FAULTS = 10**9; from policyguard.cli import main; main()"


class Seen(NamedTuple):
    """One answer: when it was asked for and how long it took, in seconds, and its status; 0: none."""

    at: float
    took: float
    status: int


@dataclass
class Fleet:
    """The processes and what their clients saw."""

    key: str
    start: Callable[[int], subprocess.Popen[str]]
    processes: list[subprocess.Popen[str]]
    urls: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    ready: list[tuple[float, int]] = field(default_factory=list)
    pause_s: float = 0.1  # of each client between two requests: the budget is to last

    async def under(self, fault: Callable[[], None], heal: Callable[[], None], seconds: float) -> tuple[float, float]:
        """Ask all the time, with the fault in the middle: when it began, and when it was over."""
        over = asyncio.Event()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http:
            clients = [asyncio.create_task(self._ask(http, at, over)) for at in BOTH for _ in range(CLIENTS)]
            clients += [asyncio.create_task(self._probe(http, at, over)) for at in BOTH]
            await asyncio.sleep(2)
            began = time.monotonic()
            await asyncio.to_thread(fault)
            await asyncio.sleep(seconds)
            await asyncio.to_thread(heal)
            healed = time.monotonic()
            await self._recovered(healed)
            await asyncio.sleep(2)
            over.set()
            await asyncio.gather(*clients)
        return began, healed

    def kill(self, at: int) -> None:
        self.processes[at].kill()
        self.processes[at].wait(30)

    def restart(self, at: int) -> None:
        """After it was killed; it listens elsewhere, and its clients follow."""
        _close(self.processes[at])
        self.processes[at] = self.start(at)
        self.urls[at] = _url(self.processes[at])

    async def _recovered(self, since: float) -> None:
        while time.monotonic() < since + 40:
            if any(ask.status in (200, 429) and ask.at > since for ask in self.seen):
                return
            await asyncio.sleep(0.1)

    async def _ask(self, http: aiohttp.ClientSession, at_process: int, over: asyncio.Event) -> None:
        while not over.is_set():
            at, url = time.monotonic(), self.urls[at_process]
            status = await _status(http.post(url + GENERATIONS, json={"prompt": "a cat"}, headers=self._headers))
            self.seen.append(Seen(at, time.monotonic() - at, status))
            await asyncio.sleep(self.pause_s)

    async def _probe(self, http: aiohttp.ClientSession, at_process: int, over: asyncio.Event) -> None:
        while not over.is_set():
            status = await _status(http.get(self.urls[at_process] + "/readyz"))
            self.ready.append((time.monotonic(), status))
            await asyncio.sleep(0.2)

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self.key}"}

    def end(self) -> float:
        """How long the processes took to end, in seconds."""
        began = time.monotonic()
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(60)
        return time.monotonic() - began


async def _status(answering: Any) -> int:
    try:
        async with answering as answer:
            await answer.read()
            return int(answer.status)
    except (aiohttp.ClientError, TimeoutError):
        return 0


@contextmanager
def fleet(store: str, sandbox_url: str, folder: Path, *, limit: int = LIMIT, **settings: str) -> Iterator[Fleet]:
    policy = AVATARS + f"budgets: [{{id: images, limit: {limit} images / day}}]\n"
    key_file = folder / "record.key"
    policies = write_policies(folder / "policies", org=ORG, avatars=policy)
    environment = {
        **os.environ,
        "POLICYGUARD_POLICIES": str(policies),
        "POLICYGUARD_STORE": store,
        "POLICYGUARD_KEY_FILE": str(key_file),
        "OPENAI_API_KEY": "sk-sandbox",
        "OPENAI_BASE_URL": f"{sandbox_url}/v1",
        **settings,
    }
    opened = open_store(store, vault=open_vault(key_file, create=True))
    secret = new_secret()
    given = {"name": "test", "surfaces": ("avatars",), "caller": {"user": "u1"}, "names_user": False}
    opened.proxy_keys.create(secret, by="ada", now=datetime.now(UTC), **given)  # type: ignore[arg-type]
    opened.close()
    command = [sys.executable, "-c", SERVE, "serve", "--port", "0", "--format", "json", "--grace", str(GRACE_S)]

    def start(at: int) -> subprocess.Popen[str]:
        with (folder / f"log{at}").open("a") as log:
            return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True, env=environment)

    running = Fleet(secret, start, [])
    try:
        for at in BOTH:
            running.processes.append(start(at))
        running.urls = [_url(process) for process in running.processes]
        yield running
    finally:
        for process in running.processes:
            process.kill()
            process.wait(30)
            _close(process)


def _close(process: subprocess.Popen[str]) -> None:
    if process.stdout is not None:
        process.stdout.close()


def _url(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return str(json.loads("".join(iter(process.stdout.readline, "}\n")) + "}")["url"])


@dataclass(frozen=True, slots=True)
class Result:
    """What a fault cost. `overspent` and `unaccounted` are images."""

    fault: str
    made: int
    charged: int
    overspent: int
    unaccounted: int
    presumed: int
    recovered_s: float
    slowest_s: float
    not_ready_s: float | None
    statuses: dict[int, int]
    end_s: float

    def row(self) -> str:
        seen = ", ".join(f"{status or 'cut'}: {count}" for status, count in sorted(self.statuses.items()))
        ready = "-" if self.not_ready_s is None else f"{self.not_ready_s:.1f} s"
        again = "-" if self.recovered_s == float("inf") else f"{self.recovered_s:.1f} s"
        return (
            f"| {self.fault} | {self.made} / {self.charged} | {self.overspent} | {self.unaccounted} | {self.presumed}"
            f" | {ready} | {again} | {seen}; slowest {self.slowest_s:.1f} s | {self.end_s:.1f} s |"
        )


HEAD = (
    "| fault | images made / charged | overspent | unaccounted | presumed | not ready after | works again after"
    " | what clients saw | ends in |\n|---|---|---|---|---|---|---|---|---|"
)


@contextmanager
def record(store: str, folder: Path) -> Iterator[tuple[Store, Vault]]:
    """The record beside the processes, with their key."""
    vault = open_vault(folder / "record.key", create=False)
    opened = open_store(store, vault=vault)
    yield opened, vault
    opened.close()


def result(
    fault: str,
    running: Fleet,
    times: tuple[float, float],
    made: int,
    store: str,
    folder: Path,
    end_s: float,
    *,
    limit: int = LIMIT,
) -> Result:
    """After the processes have ended: the books balance, the record verifies, time accounts for the rest."""
    began, healed = times
    later = datetime.now(UTC) + timedelta(hours=1)
    with record(store, folder) as (opened, vault):
        opened.sweep(later)
        seal(opened, vault, later)
        assert verify(opened, vault, later).clean
    assert_books_balance(store)
    ((charged,),) = rows(store, "SELECT COALESCE(SUM(spent), 0) FROM budget_windows WHERE unit = 'images'")
    ((presumed,),) = rows(store, "SELECT count(*) FROM legs WHERE state = 'presumed'")
    again = [ask.at + ask.took for ask in running.seen if ask.status in (200, 429) and ask.at > healed]
    not_ready = [at - began for at, status in running.ready if at > began and status != 200]
    return Result(
        fault=fault,
        made=made,
        charged=int(charged),
        overspent=max(0, made - limit),
        unaccounted=max(0, made - int(charged)),
        presumed=int(presumed),
        recovered_s=min(again) - healed if again else float("inf"),
        slowest_s=max(ask.took for ask in running.seen),
        not_ready_s=min(not_ready) if not_ready else None,
        statuses=dict(Counter(ask.status for ask in running.seen)),
        end_s=end_s,
    )

"""Reserve, sent and settle with three budgets and the rows of the record, by 1, 16 and 64 clients, on both engines.

A leg is reserved and sent in one call, as at every door, and settled in another.

Run it: `python tests/bench/bench_store.py [sqlite|postgres|memory]`. Beside each figure stands that of the bare driver,
which runs the very statements that the store runs for one pair, taken from it, with the same durability and the same
group commit. The store itself does in one statement what many pairs of a group need, so it can be faster than that.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from queue import SimpleQueue
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from databases import connect, server

from policyguard.audit.private import Vault
from policyguard.flow.events import DIMENSIONS, Event, event_id
from policyguard.flow.states import LegState
from policyguard.flow.steps import Charge, Reserve, Reserved, Settle
from policyguard.store import Store, open_store
from policyguard.store.db import sql
from policyguard.store.db.postgres import BY_INDEX, TURN
from policyguard.store.db.sql import Query

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = datetime(2026, 11, 24, tzinfo=UTC)
CEILING, COST = 210_700, 190_200
CLIENTS = (1, 16, 64)
AIMS = {"sqlite": 5_000, "postgres": 3_000}  # pairs a second with 64 clients
AIM_P99_MS, AIM_RATIO, AIM_GROWN_MB = 50, 0.6, 10
SAMPLE = "leg_sample"
WHO = {**dict.fromkeys(DIMENSIONS), "surface": "avatars", "tenant": "acme", "user": "user_" + "0" * 32}
BODY = {
    "door": "asgi",
    "mode": "enforce",
    "policy_digest": "sha256:" + "0" * 64,
    "request": {"operation": "generate", "model": "gpt-image-2", "size": "1024x1024", "quality": "high", "n": 1},
    "moderation": {"model": "omni-moderation-latest", "scores_milli": {f"category-{i}": i for i in range(13)}},
    "reasons": [],
    "prompt_hash": "prompt_" + "0" * 32,
}


def charge(key: str) -> Charge:
    return Charge(
        budget_id=key,
        key=key,
        unit="usd",
        amount=CEILING,
        limit=10**15,
        starts=DAY,
        ends=DAY + timedelta(days=1),
        local=DAY,
        mode="enforce",
    )


def steps(leg: str) -> tuple[Reserve, Settle]:
    """How one guarded request begins and ends."""
    charges = tuple(charge(key) for key in ("org:company-month", "avatars:month", f"avatars:user-day:{leg[-1]}"))
    decided = Event(
        id=event_id("request.decided", leg),
        type="request.decided",
        at=NOW,
        decision_id=leg,
        leg_id=leg,
        outcome="allow",
        dimensions=WHO,
        body=BODY,
        keep_days=400,
    )
    begin = Reserve(
        leg_id=leg,
        charges=charges,
        ceiling_micros=CEILING,
        expires_at=NOW + timedelta(minutes=1),
        sent_until=NOW + timedelta(minutes=11),
        event=decided,
        facts={**WHO, "model": "gpt-image-2", "size": "1024x1024", "quality": "high", "n": 1, "keep_days": 400},
    )
    settled = Event(
        id=event_id("leg.settled", leg),
        type="leg.settled",
        at=NOW,
        decision_id=leg,
        leg_id=leg,
        outcome="settled",
        dimensions=WHO,
        body={**BODY, "charged_micros": COST},
        keep_days=400,
    )
    return begin, Settle(leg_id=leg, state=LegState.SETTLED, charge_micros=COST, event=settled)


def pair(store: Store, leg: str) -> None:
    """What one guarded request asks of the store."""
    begin, end = steps(leg)
    assert store.perform(begin, NOW) == Reserved()
    store.perform(end, NOW)


async def apair(store: Store, leg: str) -> None:
    """The same by a task."""
    begin, end = steps(leg)
    assert await store.aperform(begin, NOW) == Reserved()
    await store.aperform(end, NOW)


# ---- the bare driver --------------------------------------------------------------------------------------

Call = list[list[Query]]  # what one call asks, in rounds


def statements(store: Store) -> list[Call]:
    """What the store asks for one pair: its two calls, each in rounds."""
    calls: list[Call] = []
    straight = sql._straight

    def record(run: Any, driver: Any, queries: Sequence[Query]) -> Any:
        calls[-1].append(list(queries))
        return straight(run, driver, queries)

    perform = store.perform
    sql._straight = record  # type: ignore[assignment]
    store.perform = lambda *args: (calls.append([]), perform(*args))[1]  # type: ignore[method-assign]
    try:
        pair(store, SAMPLE)
    finally:
        sql._straight = straight
        del store.perform
    return calls


class Raw:
    """The same statements for other legs, by a thread that drains a queue into transactions: no more than that."""

    def __init__(self, calls: list[Call], run: Callable[[list[Call]], None]) -> None:
        self._calls = calls
        self._run = run
        self._queue: SimpleQueue[tuple[Call, threading.Lock] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._write)
        self._thread.start()

    def pair(self, leg: str) -> None:
        for call in self._calls:
            rounds = [[Query(q.sql, _renamed(q.params, leg)) for q in queries] for queries in call]
            done = threading.Lock()
            done.acquire()
            self._queue.put((rounds, done))
            done.acquire()

    def close(self) -> None:
        self._queue.put(None)
        self._thread.join()

    def _write(self) -> None:
        while (first := self._queue.get()) is not None:
            group = [first, *(self._queue.get() for _ in range(min(self._queue.qsize(), 127)))]
            self._run([rounds for rounds, _ in group])
            for _, done in group:
                done.release()


def _renamed(params: Any, leg: str) -> dict[str, Any]:
    return {k: v.replace(SAMPLE, leg) if isinstance(v, str) else v for k, v in params.items()}


def together(group: list[Call]) -> Iterator[dict[sql.Sql, list[Any]]]:
    """Round by round, the values of each statement."""
    for i in range(max(len(rounds) for rounds in group)):
        asked: dict[sql.Sql, list[Any]] = {}
        for rounds in group:
            for query in rounds[i] if i < len(rounds) else ():
                asked.setdefault(query.sql, []).append(query.params)
        yield asked


@contextmanager
def raw_sqlite(url: str, calls: list[Call]) -> Iterator[Raw]:
    path = url.removeprefix("sqlite:///")
    driver = sqlite3.connect(path, isolation_level=None, check_same_thread=False, cached_statements=512)
    driver.execute("PRAGMA synchronous = FULL")
    driver.execute("PRAGMA foreign_keys = ON")

    def run(group: list[Call]) -> None:
        driver.execute("BEGIN IMMEDIATE")
        for asked in together(group):
            for statement, values in asked.items():
                bound = map(statement.values, values)
                if statement.returns:
                    for params in bound:
                        driver.execute(statement.numbered, params).fetchall()
                else:
                    driver.executemany(statement.numbered, bound)
        driver.execute("COMMIT")

    raw = Raw(calls, run)
    yield raw
    raw.close()
    driver.close()


@contextmanager
def raw_postgres(url: str, calls: list[Call]) -> Iterator[Raw]:
    driver = connect(url)
    for name, value in BY_INDEX.items():
        driver.execute(f"SET {name} = {value}")

    def run(group: list[Call]) -> None:
        with driver.pipeline():
            driver.execute("BEGIN")
            driver.execute("SELECT pg_advisory_xact_lock(%s)", [TURN])
        for asked in together(group):
            cursors = [(driver.cursor(), statement) for statement in asked]
            with driver.pipeline():
                for cursor, statement in cursors:
                    cursor.executemany(statement.pyformat, asked[statement], returning=statement.returns)
            for cursor, statement in cursors:
                if statement.returns:
                    for result in cursor.results():
                        result.fetchall()
        driver.execute("COMMIT")

    raw = Raw(calls, run)
    yield raw
    raw.close()
    driver.close()


# ---- figures ----------------------------------------------------------------------------------------------


def measured(work: Callable[[str], None], name: str, clients: int, count: int) -> tuple[float, float, float]:
    """Pairs a second, and the median and 99th percentile of one pair in milliseconds."""
    taken: list[float] = []

    def client(number: int) -> None:
        for i in range(count // clients):
            began = time.perf_counter()
            work(f"leg_{name}_{clients}_{number}_{i}")
            taken.append((time.perf_counter() - began) * 1000)

    threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
    began = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wall = time.perf_counter() - began
    taken.sort()
    return len(taken) / wall, taken[len(taken) // 2], taken[len(taken) * 99 // 100]


async def measured_tasks(store: Store, clients: int, count: int, name: str = "tasks") -> float:
    """Pairs a second of tasks of one event loop, as an ASGI app has them."""

    async def client(number: int) -> None:
        for i in range(count // clients):
            await apair(store, f"leg_{name}_{clients}_{number}_{i}")

    began = time.perf_counter()
    await asyncio.gather(*(client(number) for number in range(clients)))
    return count / (time.perf_counter() - began)


def bench(engine: str, url: str) -> bool:
    """Prints a line for each number of clients; answers whether the aims are met by those of one event loop."""
    store = open_store(url, vault=Vault(bytes(32)), synchronous="FULL")
    store.check()
    calls = statements(store)
    good, pairs = True, 1
    for clients in CLIENTS:
        count = 512 if clients == 1 else 6_400
        rate, p50, p99 = measured(lambda leg: pair(store, leg), "store", clients, count)
        tasks = asyncio.run(measured_tasks(store, clients, count))
        with (raw_sqlite if engine == "sqlite" else raw_postgres)(url, calls) as raw:
            bare, bare_p50, _ = measured(raw.pair, "raw", clients, count)
        pairs += 3 * count
        print(
            f"{engine:8} {clients:2} clients {rate:7,.0f} pairs/s, p50 {p50:6.2f} ms, p99 {p99:6.2f} ms;"
            f" as tasks {tasks:7,.0f} pairs/s; bare driver {bare:7,.0f} pairs/s, p50 {bare_p50:6.2f} ms;"
            f" ratio {rate / bare:.2f}"
        )
        if clients == 1:
            good &= p50 <= 2 * bare_p50
    balances = {(w.reserved, w.spent) for w in store.budget_windows() if "user" not in w.key}
    assert balances == {(0, pairs * COST)}
    store.close()
    return good and max(rate, tasks) >= AIMS[engine] and p99 <= AIM_P99_MS and rate / bare >= AIM_RATIO


def run(engine: str) -> bool:
    if engine == "sqlite":
        with tempfile.TemporaryDirectory() as folder:
            return bench(engine, f"sqlite:///{folder}/bench.sqlite3")
    with server(in_haste=False) as postgres, postgres.database() as url:
        return bench(engine, url)


def memory(count: int = 200_000) -> bool:
    """What the process holds after a tenth of many requests, and what it has grown by after the rest."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(f"sqlite:///{folder}/bench.sqlite3", vault=Vault(bytes(32)), synchronous="NORMAL")
        asyncio.run(measured_tasks(store, 64, count // 10, "first"))
        begun = resident_mb()
        asyncio.run(measured_tasks(store, 64, count - count // 10, "rest"))
        grown = resident_mb() - begun
        store.close()
    print(f"memory   {begun:.0f} MB after {count // 10:,} pairs, {grown:+.1f} MB after {count:,}")
    return grown < AIM_GROWN_MB


def resident_mb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6


if __name__ == "__main__":
    if sys.argv[1:] == ["memory"]:
        sys.exit(not memory())
    met = {engine: run(engine) for engine in sys.argv[1:] or AIMS}
    print(f"aims with 64 clients: {AIMS} pairs/s, p99 {AIM_P99_MS} ms, {AIM_RATIO} of the bare driver; met: {met}")
    sys.exit(not all(met.values()))

"""Reserve, sent and settle on SQLite with three budgets and the rows of the record: pairs a second, and their cost.

Run it: `python tests/bench/bench_store.py`. Prints one by one, with 16 threads, and the CPU time of one pair.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

from policyguard.audit.private import Vault
from policyguard.events import DIMENSIONS, Event, event_id
from policyguard.states import Leg
from policyguard.steps import Charge, Reserve, Reserved, Settle
from policyguard.store import Store, open_store

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
DAY = datetime(2026, 11, 24, tzinfo=UTC)
CEILING, COST = 210_700, 190_200
AIM_CPU_MS = 1.0
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
        mode="enforce",
    )


def pair(store: Store, leg: str) -> None:
    """What one guarded request asks of the store."""
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
    step = Reserve(
        leg_id=leg,
        charges=charges,
        ceiling_micros=CEILING,
        expires_at=NOW + timedelta(minutes=1),
        event=decided,
        facts={**WHO, "model": "gpt-image-2", "size": "1024x1024", "quality": "high", "n": 1, "keep_days": 400},
    )
    assert store.perform(step, NOW) == Reserved()
    assert store.mark_sent(leg, NOW + timedelta(minutes=11), NOW)
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
    store.perform(Settle(leg_id=leg, state=Leg.SETTLED, charge_micros=COST, event=settled), NOW)


def timed(run: Callable[[], object], count: int) -> tuple[float, float]:
    """Pairs a second, and milliseconds of CPU for one."""
    wall, cpu = time.perf_counter(), time.process_time()
    run()
    return count / (time.perf_counter() - wall), (time.process_time() - cpu) * 1000 / count


def bench(synchronous: str, count: int = 2_000, threads: int = 16) -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder) / "bench.sqlite3"), vault=Vault(bytes(32)), synchronous=synchronous)
        pair(store, "leg_warm")
        alone, cpu = timed(lambda: [pair(store, f"leg_a{i}") for i in range(count)], count)
        with ThreadPoolExecutor(threads) as pool:
            many, cpu_many = timed(lambda: list(pool.map(lambda i: pair(store, f"leg_b{i}"), range(count))), count)
        balances = {(w.reserved, w.spent) for w in store.budget_windows() if "user" not in w.key}
        assert balances == {(0, (2 * count + 1) * COST)}
        store.close()
    print(
        f"{synchronous:6} one by one {alone:6,.0f} pairs/s, {cpu:.2f} ms CPU;"
        f" {threads} threads {many:6,.0f} pairs/s, {cpu_many:.2f} ms CPU"
    )
    return cpu


if __name__ == "__main__":
    costs = [bench(mode) for mode in ("FULL", "NORMAL")]
    print(f"aim: under {AIM_CPU_MS} ms of CPU a pair")
    sys.exit(max(costs) > 3 * AIM_CPU_MS)  # a machine under load may take longer; far beyond is a regression

"""The sealed record: rows sealed and verified a second, against hashing the same rows in memory.

Run it: `python tests/bench/bench_audit.py`. The record has rows as guarded requests write them, two for each.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from itertools import islice
from pathlib import Path

from policyguard.audit.private import Vault
from policyguard.audit.seal import seal
from policyguard.audit.verify import verify
from policyguard.flow.events import DIMENSIONS, Event, event_id
from policyguard.flow.steps import Record
from policyguard.store import Store, open_store

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ROWS = 200_000
AIM = 100_000
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
VAULT = Vault(bytes(32))
BODY_AT = -2  # in a row


def events() -> Iterator[Event]:
    decided = Event(id="", type="request.decided", at=NOW, outcome="allow", dimensions=WHO, body=BODY, keep_days=400)
    for i in range(ROWS):
        decision = f"dec_{i:026}"
        yield replace(decided, id=event_id("request.decided", decision), decision_id=decision)


def write(store: Store) -> None:
    rows = events()
    while batch := tuple(islice(rows, 1_000)):
        store.perform(Record(batch), NOW)


def hashed(store: Store) -> float:
    """Reading every row once and hashing it: what no verification can do without."""
    begun = time.perf_counter()
    for start in range(0, ROWS, 2_000):
        for row in store.seals.sealed(start, start + 2_000):
            sha256(row[BODY_AT].encode()).digest()
    return ROWS / (time.perf_counter() - begun)


def bench() -> float:
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(str(Path(folder) / "bench.sqlite3"), vault=VAULT, synchronous="NORMAL")
        write(store)
        begun = time.perf_counter()
        assert seal(store, VAULT, NOW) == ROWS
        sealed = ROWS / (time.perf_counter() - begun)
        begun = time.perf_counter()
        report = verify(store, VAULT, NOW)
        verified = ROWS / (time.perf_counter() - begun)
        raw = hashed(store)
        assert (report.clean, report.rows) == (True, ROWS)
        store.close()
    print(f"sealed {sealed:,.0f} rows/s, verified {verified:,.0f} rows/s, {verified / raw:.2f} of reading and hashing")
    return verified


if __name__ == "__main__":
    rate = bench()
    print(f"aim: {AIM:,} rows/s")
    sys.exit(rate < AIM / 3)  # a machine under load may take longer; far below is a regression

"""How long reports take over a million legs: by each dimension, by day and surface, and why a day cost what it did.

Run it: `python tests/bench/bench_reports.py`. Exits 1 where a report takes longer than its aim.
"""

from __future__ import annotations

import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from policyguard.audit.private import Vault
from policyguard.store import Store, migrate, open_store
from policyguard.store.reports import SPEND_BY

ROWS = 1_000_000
AIM_S = 2.0
START = datetime(2026, 9, 1, tzinfo=UTC)
EVERY = timedelta(seconds=5)
BERLIN = ZoneInfo("Europe/Berlin")
# Seven surfaces, 200 tenants, 20,000 users over two months; one in twenty presumed, one in fifty released.
LEGS = """
INSERT INTO legs (leg_id, decision_id, state, ceiling_micros, charged_micros, presumed_micros, created_us, expires_us,
  surface, tenant, user, tier, feature, model, size, quality, n)
WITH RECURSIVE i (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM i WHERE n < :rows - 1)
SELECT 'leg_01KB0000000000000000' || printf('%08d', n), 'dec_01KB0000000000000000' || printf('%08d', n),
  CASE WHEN n % 20 = 0 THEN 'presumed' WHEN n % 50 = 1 THEN 'released' ELSE 'settled' END,
  40000, CASE WHEN n % 50 = 1 AND n % 20 <> 0 THEN 0 ELSE 6000 + (n * 7919) % 20000 END, 0,
  :start + n * :every, :start + n * :every,
  'surface-' || (n % 7), 'tenant-' || ((n * 31) % 200), 'user_' || printf('%032d', (n * 101) % 20000),
  CASE WHEN n % 3 THEN 'free' ELSE 'pro' END, 'feature-' || (n % 11),
  'gpt-image-2-2026-04-21', '1024x1024', CASE WHEN n % 4 THEN 'low' ELSE 'high' END, 1
FROM i
"""


def filled(path: Path) -> Store:
    migrate(str(path))
    with closing(sqlite3.connect(path)) as file, file:
        every = EVERY // timedelta(microseconds=1)
        file.execute(LEGS, {"rows": ROWS, "start": int(START.timestamp()) * 1_000_000, "every": every})
    return open_store(str(path), vault=Vault(bytes(32)))


def seconds(what: str, report: Callable[[], object]) -> float:
    started = time.perf_counter()
    report()
    took = time.perf_counter() - started
    print(f"{what:24} {took:5.2f} s")
    return took


def main() -> int:
    with tempfile.TemporaryDirectory() as folder:
        store = filled(Path(folder) / "bench.sqlite3")
        day = (START + timedelta(days=40)).date()
        took = [seconds(f"by {name}", lambda name=name: store.spend([name])) for name in SPEND_BY]
        took.append(seconds("by day and surface", lambda: store.spend(["day", "surface"], zone=BERLIN)))
        took.append(seconds("by three dimensions", lambda: store.spend(["surface", "tenant", "model"])))
        took.append(seconds("why a day cost so much", lambda: store.explain_spend(day, BERLIN)))
        store.close()
    print(f"aim: every report over {ROWS:,} legs under {AIM_S} s")
    return max(took) > 2 * AIM_S  # a machine under load may take longer; far beyond is a regression


if __name__ == "__main__":
    sys.exit(main())

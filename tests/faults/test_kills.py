"""Processes that are killed at random points under load and started anew: by `make crash` a hundred on each engine.

After each kill the record verifies; in the end every image that was made is charged, and the books balance.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from databases import Server
from faults.fleet import BOTH, HEAD, Fleet, fleet, record, result
from faults.test_fleet import made
from patience import until

from policyguard.audit.seal import seal
from policyguard.audit.verify import verify

pytestmark = pytest.mark.acceptance
KILLS = int(os.environ.get("POLICYGUARD_CRASH", "5"))
LIMIT = 1_000_000


@contextmanager
def sqlite(folder: Path, _: Server) -> Iterator[str]:
    yield f"sqlite:///{folder / 'record.sqlite3'}"


@contextmanager
def postgresql(_: Path, server: Server) -> Iterator[str]:
    with server.database() as url:
        yield url


def assert_the_record_is_whole(store: str, folder: Path) -> None:
    """What is sealed still stands, and the rest can be sealed on top of it."""
    with record(store, folder) as (opened, vault):
        seal(opened, vault, datetime.now(UTC))
        assert verify(opened, vault, datetime.now(UTC)).findings == ()


def kills(running: Fleet, store: str, folder: Path) -> None:
    for seed in range(KILLS):
        chance = random.Random(seed)
        at = chance.choice(BOTH)
        wait_for_answers(running, chance.randrange(1, 60))
        running.kill(at)
        assert_the_record_is_whole(store, folder)
        running.restart(at)
        if seed % 10 == 9:
            print(f"{seed + 1} kills, {len(running.seen)} answers", flush=True)


def wait_for_answers(running: Fleet, count: int) -> None:
    """As a point in time that no clock knows: after so many more."""
    so_far = len(running.seen)
    until(lambda: len(running.seen) >= so_far + count)


@pytest.mark.parametrize("engine", [sqlite, postgresql], ids=["sqlite", "postgresql"])
def test_processes_that_are_killed_lose_nothing(
    engine: Callable[[Path, Server], AbstractContextManager[str]], postgres: Server, sandbox: Any, tmp_path: Path
) -> None:
    with engine(tmp_path, postgres) as store, fleet(store, sandbox.url, tmp_path, limit=LIMIT) as running:
        running.pause_s = 0.3  # after each kill all of the record is verified
        times = asyncio.run(running.under(lambda: kills(running, store, tmp_path), lambda: None, 0))
        end_s = running.end()
        name = f"{KILLS} kills, {engine.__name__}"
        found = result(name, running, times, made(sandbox), store, tmp_path, end_s, limit=LIMIT)
    print(f"\n\n{HEAD}\n{found.row()}")
    assert found.unaccounted == 0
    assert found.statuses[200] > KILLS

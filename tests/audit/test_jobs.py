from __future__ import annotations

import json
import threading
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from audit.sealing import DAYS, Sealed, written
from store.books import HOUR, MINUTE, NOW, VAULT, hold, reserve

from policyguard.audit.jobs import LATER, SEAL_EVERY, SWEEP_EVERY, SWEEP_LEASE, Did, Jobs
from policyguard.audit.proof import published


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def jobs(record: Sealed, clock: Clock) -> Callable[..., Jobs]:
    def make(checkpoints: Path | None = None) -> Jobs:
        return Jobs(record.store, VAULT, clock=clock, checkpoints=checkpoints)

    return make


def test_everything_that_time_asks_for_is_done(record: Sealed, clock: Clock, jobs: Callable[..., Jobs]) -> None:
    record.store.perform(reserve("leg_held", expires_at=NOW + MINUTE), NOW)
    record.store.perform(reserve("leg_sent", expires_at=NOW + MINUTE), NOW)
    record.store.mark_sent("leg_sent", NOW + MINUTE, NOW)
    record.store.perform(hold(), NOW)
    running = jobs()
    assert running.once() == [Did("seal", "4 rows")]
    clock.now = NOW + HOUR
    assert running.once() == [Did("sweep", "1 released, 1 presumed, 1 escalated"), Did("seal", "3 rows")]
    clock.now = NOW + 5 * HOUR
    assert running.once() == [Did("sweep", "1 expired"), Did("seal", "1 row")]
    clock.now = NOW + 400 * DAYS
    (swept, *_) = running.once()
    assert (swept.job, "deleted" in swept.message) == ("sweep", True)
    assert record.verify(clock.now).clean


def test_nothing_to_do_is_nothing_to_tell(jobs: Callable[..., Jobs]) -> None:
    running = jobs()
    assert (running.once(), running.once()) == ([], [])


def test_the_sweep_comes_less_often_than_the_seal(record: Sealed, clock: Clock, jobs: Callable[..., Jobs]) -> None:
    running = jobs()
    record.store.perform(reserve("leg_1", expires_at=NOW + MINUTE / 60), NOW)
    assert running.once() == [Did("seal", "1 row")]
    clock.now += SEAL_EVERY
    assert running.once() == []
    clock.now += SWEEP_EVERY
    assert [did.job for did in running.once()] == ["sweep", "seal"]


def test_one_process_sweeps_and_a_dead_one_is_replaced(record: Sealed, clock: Clock, jobs: Callable[..., Jobs]) -> None:
    record.store.perform(reserve("leg_1", expires_at=NOW), NOW)
    record.store.leases.take("sweep", "dead", NOW, SWEEP_LEASE)
    assert [did.job for did in jobs().once()] == ["seal"]
    clock.now += SWEEP_LEASE
    assert [did.job for did in jobs().once()] == ["sweep", "seal"]


def test_exports_run_that_were_left_to_the_background(
    record: Sealed, clock: Clock, jobs: Callable[..., Jobs], tmp_path: Path
) -> None:
    written(record, 3, 3)
    for name, background in (("archive", True), ("by_hand", False)):
        record.store.exports.begin(name, str(tmp_path / name), background=background, now=NOW)
    assert jobs().once() == [Did("export archive", "3 rows")]
    assert len((tmp_path / "archive").read_text().splitlines()) == 4
    assert not (tmp_path / "by_hand").exists()


def test_a_job_that_fails_is_told_and_keeps_no_other(
    record: Sealed, clock: Clock, jobs: Callable[..., Jobs], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("POLICYGUARD_WEBHOOK_SECRET", raising=False)
    written(record, 3, 3)
    for name, target in (("a", str(tmp_path)), ("b", "https://example.com/x"), ("c", str(tmp_path / "c"))):
        record.store.exports.begin(name, target, background=True, now=NOW)
    first = jobs().once()
    assert [(did.job, did.failed) for did in first] == [("export a", True), ("export b", True), ("export c", False)]
    assert jobs().once() == []  # not before it is time to try again
    clock.now += LATER
    assert [did.job for did in jobs().once()] == ["export a", "export b"]


def test_a_record_that_was_altered_is_told_and_not_sealed(record: Sealed, jobs: Callable[..., Jobs]) -> None:
    written(record, 3, 3)
    record.write("dec_new")
    record.execute("UPDATE checkpoints SET root = zeroblob(32)")
    (did,) = jobs().once()
    assert (did.job, did.failed, "audit verify" in did.message) == ("seal", True, True)


def test_every_new_checkpoint_goes_to_the_file(
    record: Sealed, clock: Clock, jobs: Callable[..., Jobs], tmp_path: Path
) -> None:
    file = tmp_path / "checkpoints.jsonl"
    running = jobs(file)
    assert (running.once(), file.exists()) == ([], False)
    for i in range(3):
        record.write(f"dec_{i}")
        clock.now += SEAL_EVERY
        assert [did.job for did in running.once()] == ["seal", "publish"]
    assert running.once() == []
    assert [json.loads(line)["size"] for line in file.read_text().splitlines()] == [1, 2, 3]
    assert record.verify(published=published(file, VAULT)).clean
    (told,) = jobs(tmp_path).once()
    assert (told.job, told.failed) == ("publish", True)


def test_jobs_run_until_they_are_told_to_stop(record: Sealed, jobs: Callable[..., Jobs]) -> None:
    record.write("dec_1")
    stop, told = threading.Event(), []

    def tell(did: Did) -> None:
        told.append(did)
        stop.set()

    jobs().run(stop, tell)
    assert told == [Did("seal", "1 row")]

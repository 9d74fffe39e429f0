from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from datetime import timedelta
from multiprocessing import get_context
from threading import Barrier, Thread

import pytest
from audit.sealing import DAYS, Sealed, written
from databases import Server, connect
from store.books import NOW, VAULT, open_at

from policyguard.audit.merkle import leaf_hash, root_of
from policyguard.audit.private import Vault
from policyguard.audit.seal import BATCH, SealError, data_of, digest_of, extend, seal
from policyguard.errors import StoreUnavailable
from policyguard.store.seals import LEASE, ROW, Leaf

SECOND = timedelta(seconds=1)


def test_every_row_has_a_leaf_in_the_order_of_the_record(record: Sealed) -> None:
    record.write(*(f"dec_{i}" for i in range(5)))
    assert record.seal() == 5
    rows = record.store.seals.sealed(0, 10)
    assert [(row[0], row[1], row[6]) for row in rows] == [(i, i + 1, f"request.decided:dec_{i}") for i in range(5)]
    assert all(digest_of(row[5:]) == row[3] for row in rows)


def test_the_checkpoint_has_the_root_over_the_leaves(record: Sealed) -> None:
    written(record, 7, 3)
    checkpoints, count = record.checkpoints(), 7
    leaves = [leaf_hash(data_of(row[1], row[2], row.digest)) for row in record.store.seals.leaves(0, count)]
    assert [(c.size, c.previous, c.root) for c in checkpoints] == [
        (3, 0, root_of(leaves[:3])),
        (6, 3, root_of(leaves[:6])),
        (7, 6, root_of(leaves)),
    ]


def test_sealing_again_changes_nothing(record: Sealed) -> None:
    written(record)
    before = record.store.seals.extent()
    assert (record.seal(), record.store.seals.extent()) == (0, before)


def test_an_empty_record_has_nothing_to_seal(record: Sealed) -> None:
    assert record.seal() == 0
    assert record.verify().clean


def test_as_many_rows_as_are_asked_for_and_in_batches(record: Sealed) -> None:
    record.write(*(f"dec_{i}" for i in range(BATCH + 10)))
    assert record.seal(most=4) == 4
    assert record.seal() == BATCH + 6
    assert [c.size for c in record.checkpoints()] == [4, BATCH + 4, BATCH + 10]


def test_only_one_seals_until_it_is_done_or_its_time_is_over(record: Sealed) -> None:
    record.write("dec_1", "dec_2")
    unsealed = record.store.seals.unsealed(1)
    leaves, checkpoint = extend(unsealed, VAULT, NOW)
    assert record.store.seals.append(leaves, checkpoint, holder="dead", now=NOW)  # and dies with its lease
    assert record.seal(NOW + LEASE - SECOND) == 0
    assert record.seal(NOW + LEASE) == 1
    assert record.verify().clean


def test_what_another_has_sealed_is_not_sealed_again(record: Sealed) -> None:
    record.write("dec_1", "dec_2")
    late = extend(record.store.seals.unsealed(1), VAULT, NOW)
    assert record.seal() == 2
    assert not record.store.seals.append(*late, holder="late", now=NOW)
    assert record.verify().clean


def test_a_step_that_fails_leaves_nothing_behind(record: Sealed) -> None:
    """A crash between the leaves and their checkpoint is a transaction that never was."""
    record.write("dec_1", "dec_2")
    leaves, checkpoint = extend(record.store.seals.unsealed(2), VAULT, NOW)
    twice = [*leaves, replace(leaves[0], leaf=7)]
    with pytest.raises(StoreUnavailable):
        record.store.seals.append(twice, checkpoint, holder="x", now=NOW)
    assert record.store.seals.extent() == (None, 0)
    assert record.seal() == 2


def test_threads_that_seal_at_once_make_one_record(record: Sealed) -> None:
    record.write(*(f"dec_{i}" for i in range(2_000)))
    barrier, counts = Barrier(4), []

    def run() -> None:
        barrier.wait()
        counts.append(record.seal())

    threads = [Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    while record.seal():
        pass
    report = record.verify()
    assert (report.rows, report.unsealed, report.clean) == (2_000, 0, True)


def test_a_row_that_commits_late_is_waited_for(postgres: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """A number is taken when a row is written, and another writer may commit a later number first."""
    with postgres.database() as url, closing(open_at(url)) as store:
        record = Sealed(url, store)
        record.write("dec_1")
        monkeypatch.setattr("policyguard.store.seals._WAIT_S", 0.05)
        names = ", ".join(f'"{name}"' for name in ROW if name not in ("seq", "id"))
        with connect(url) as late:
            late.execute("BEGIN")
            late.execute(f"INSERT INTO events (id, {names}) SELECT 'late', {names} FROM events")
            record.write("dec_3")
            assert record.seal() == 0
            late.execute("COMMIT")
        assert record.seal() == 3
        assert [row[6] for row in store.seals.sealed(0, 3)] == [
            "request.decided:dec_1",
            "late",
            "request.decided:dec_3",
        ]
        assert record.verify().clean


def test_a_row_of_a_strange_kind_is_said(sealed: Sealed) -> None:
    sealed.write("dec_1")
    sealed.execute("UPDATE events SET outcome = x'00'")
    with pytest.raises(SealError, match="row 1 has values"):
        sealed.seal()


def seal_here(url: str) -> int:
    store = open_at(url)
    count = sum(seal(store, VAULT, NOW) for _ in range(5))
    store.close()
    return count


def test_processes_that_seal_at_once_make_one_record(record: Sealed) -> None:
    record.write(*(f"dec_{i}" for i in range(2_000)))
    with get_context("spawn").Pool(2) as pool:
        counts = pool.map(seal_here, [record.url] * 2)
        pool.close()
        pool.join()
    assert sum(counts) == 2_000
    assert record.verify().clean


def test_after_a_rotation_the_new_key_signs_and_the_old_checkpoints_hold(record: Sealed) -> None:
    written(record, 3, 3)
    ring = Vault((bytes(32), b"2" * 32))
    record.write("dec_a")
    assert record.seal(vault=ring) == 1
    assert [c.key_id for c in record.checkpoints()] == [VAULT.key_id, ring.newest_id]
    assert record.verify(vault=ring).clean
    assert [f.what for f in record.verify().findings] == ["checkpoint_altered"]


@pytest.mark.parametrize(
    "tamper",
    [
        "UPDATE checkpoints SET frontier = zeroblob(length(frontier))",
        "UPDATE checkpoints SET frontier = x'00'",
        "UPDATE checkpoints SET root = zeroblob(32)",
        "UPDATE checkpoints SET signature = zeroblob(64)",
        "UPDATE checkpoints SET key_id = 'another'",
        "DELETE FROM leaves WHERE leaf = 2",
    ],
)
def test_nothing_is_sealed_on_top_of_what_was_altered(record: Sealed, tamper: str) -> None:
    written(record, 3, 3)
    record.write("dec_a")
    record.execute(tamper)
    with pytest.raises(SealError, match="audit verify"):
        record.seal()
    assert len(record.checkpoints()) == 1


def test_a_leaf_says_until_when_its_row_is_kept(record: Sealed) -> None:
    record.write("dec_1", keep_days=30)
    record.write("dec_2", keep_days=None)
    record.seal()
    kept = [record.store.seals.leaf_of(f"request.decided:dec_{i}") for i in (1, 2, 3)]
    until = int((NOW + 30 * DAYS).timestamp()) * 1_000_000
    assert [leaf and (leaf.leaf, leaf.delete_after_us) for leaf in kept] == [(0, until), (1, None), None]
    assert isinstance(kept[0], Leaf)

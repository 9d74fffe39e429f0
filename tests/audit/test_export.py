from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from audit.sealing import DAYS, Sealed, written
from store.books import NOW, USER, VAULT

from policyguard.audit import export as module
from policyguard.audit.batch import Batch, SinkError
from policyguard.audit.export import LEASE, PAUSES, export
from policyguard.audit.sinks import JSONLines, address, append, open_sink
from policyguard.store.exports import Cursor


class Receiver:
    """Takes batches, or fails as it is told."""

    limit = 1_000_000

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.errors: list[SinkError | None] = []

    def send(self, batch: Batch, now: object) -> None:
        self.batches.append(batch)
        if self.errors and (error := self.errors.pop(0)):
            raise error

    @property
    def leaves(self) -> list[int]:
        return [event["leaf"] for batch in self.batches for event in batch.events]


def begin(record: Sealed, name: str = "archive", target: str = "/somewhere") -> Cursor:
    return record.store.exports.begin(name, target, background=True, now=NOW)


def send(record: Sealed, receiver: Receiver, now: Any = NOW, holder: str = "me") -> int:
    cursor = record.store.exports.get("archive") or begin(record)
    return export(record.store, VAULT, cursor, receiver, now, holder=holder)


def test_every_sealed_row_arrives_once_and_in_order(record: Sealed) -> None:
    receiver = Receiver()
    written(record, 9, 3)
    assert send(record, receiver) == 9
    assert (send(record, receiver), receiver.leaves) == (0, list(range(9)))
    record.write("dec_new")
    assert send(record, receiver) == 0  # not sealed yet
    record.seal()
    assert (send(record, receiver), receiver.leaves) == (1, list(range(10)))


def test_a_row_says_what_the_record_says_and_the_checkpoint_comes_along(record: Sealed) -> None:
    receiver = Receiver()
    written(record, 1, 1)
    send(record, receiver)
    (batch,) = receiver.batches
    (event,) = batch.events
    assert {name: event[name] for name in ("type", "leaf", "seq", "id", "at", "decision_id", "body")} == {
        "type": "request.decided",
        "leaf": 0,
        "seq": 1,
        "id": "request.decided:dec_0",
        "at": "2026-11-24T12:00:00+00:00",
        "decision_id": "dec_0",
        "body": {"mode": "enforce"},
    }
    assert event["dimensions"]["user"] == USER
    assert (batch.checkpoint["type"], batch.checkpoint["size"]) == ("audit.checkpoint", 1)


def test_what_fails_comes_again_later_and_later_and_nothing_is_skipped(record: Sealed) -> None:
    receiver = Receiver()
    written(record, 3, 3)
    begin(record)
    waits = []
    for _ in range(len(PAUSES) + 2):
        receiver.errors = [SinkError("no")]
        with pytest.raises(SinkError):
            send(record, receiver)
        cursor = record.store.exports.get("archive")
        assert cursor is not None
        assert (cursor.leaf, cursor.error) == (0, "no")
        assert cursor.next_at is not None
        waits.append(cursor.next_at - NOW)
    assert waits == [*PAUSES, PAUSES[-1], PAUSES[-1]]
    assert send(record, receiver) == 3
    cursor = record.store.exports.get("archive")
    assert cursor is not None
    assert (cursor.leaf, cursor.attempts, cursor.error, cursor.next_at) == (3, 0, None, NOW)


def test_a_receiver_may_say_when_or_that_it_wants_no_more(record: Sealed) -> None:
    written(record, 3, 3)
    for error, expected in (
        (SinkError("busy", wait=timedelta(minutes=7)), NOW + timedelta(minutes=7)),
        (SinkError("gone", gone=True), None),
    ):
        receiver = Receiver()
        receiver.errors = [error]
        with pytest.raises(SinkError):
            send(record, receiver)
        cursor = record.store.exports.get("archive")
        assert cursor is not None
        assert cursor.next_at == expected


def test_one_process_sends_and_a_dead_one_is_replaced(record: Sealed) -> None:
    written(record, 3, 3)
    record.store.leases.take("export:archive", "dead", NOW, LEASE)
    receiver = Receiver()
    assert send(record, receiver, NOW + LEASE - timedelta(seconds=1)) == 0
    assert send(record, receiver, NOW + LEASE) == 3


def test_rows_that_were_taken_and_not_noted_come_again(record: Sealed) -> None:
    """As after a crash between the receiver's answer and the cursor's move."""
    receiver, cursor = Receiver(), begin(record)
    written(record, 3, 3)
    assert export(record.store, VAULT, cursor, receiver, NOW, holder="me") == 3
    assert export(record.store, VAULT, cursor, receiver, NOW, holder="me") == 3
    assert receiver.batches[0] == receiver.batches[1]
    again = record.store.exports.get("archive")
    assert again is not None
    assert again.leaf == 3


def test_batches_keep_to_the_receivers_limit_and_a_large_row_goes_alone(
    record: Sealed, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = Receiver()
    receiver.limit = 1_000
    record.write("small_1", "small_2")
    record.write("large", body={"filler": "x" * 5_000})
    record.write("small_3")
    record.seal()
    send(record, receiver)
    assert [(b.first, b.stop) for b in receiver.batches] == [(0, 2), (2, 3), (3, 4)]
    monkeypatch.setattr(module, "BATCH", 2)
    record.store.exports.forget("archive")
    other = Receiver()
    assert send(record, other) == 4
    assert [(b.first, b.stop) for b in other.batches] == [(0, 2), (2, 4)]


def test_rows_that_retention_removed_hold_nothing_up(record: Sealed) -> None:
    record.write("dec_1", "dec_2", keep_days=1)
    record.write("dec_3")
    record.seal()
    record.store.sweep(NOW + DAYS)
    receiver = Receiver()
    assert (send(record, receiver), receiver.leaves) == (1, [2])


def test_a_cursor_can_be_forgotten(record: Sealed) -> None:
    begin(record)
    assert (record.store.exports.forget("archive"), record.store.exports.forget("archive")) == (True, False)
    assert record.store.exports.all() == []


# ---- lines ------------------------------------------------------------------------------------------------


def test_lines_go_to_the_end_of_a_file(record: Sealed, tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    written(record, 4, 2)
    with open_sink(str(file)) as sink:
        cursor = begin(record)
        assert export(record.store, VAULT, cursor, sink, NOW, holder="me") == 4
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [line["type"] for line in lines] == ["request.decided"] * 4 + ["audit.checkpoint"]


def test_half_a_line_of_a_killed_writer_is_ended_first(tmp_path: Path) -> None:
    file = tmp_path / "record.jsonl"
    append(file, b'{"a": 1}\n')
    with file.open("ab") as stream:
        stream.write(b'{"half')
    append(file, b'{"b": 2}\n')
    assert file.read_bytes() == b'{"a": 1}\n{"half\n{"b": 2}\n'


def test_a_file_that_cannot_be_written_is_a_failure_of_the_receiver(record: Sealed, tmp_path: Path) -> None:
    written(record, 1, 1)
    with pytest.raises(SinkError, match="cannot be written: Is a directory"):
        export(record.store, VAULT, begin(record), JSONLines(tmp_path), NOW, holder="me")


def test_addresses_are_whole() -> None:
    assert address("-") == "-"
    assert address("https://example.com/x") == "https://example.com/x"
    assert address("record.jsonl") == str(Path.cwd() / "record.jsonl")

"""Exports: the sealed rows, in their order, to whoever keeps them elsewhere, each at least once.

A cursor of the store says how far a receiver is. Rows are those of the record, so nothing private is among them: users
are pseudonyms, and prompts stand in no row. The newest checkpoint goes with every batch; a record that is set back
later does not agree with it any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

import orjson

from policyguard.audit.batch import Batch, Sink, SinkError
from policyguard.audit.private import Vault
from policyguard.audit.proof import document
from policyguard.flow.events import DIMENSIONS
from policyguard.store import Store
from policyguard.store.db.sql import moment
from policyguard.store.exports import Cursor
from policyguard.store.seals import LEAF, ROW, Checkpoint

BATCH = 500
LEASE = timedelta(seconds=120)  # longer than a receiver may take for one batch
# After a failure; the last one again and again, because nothing is ever dropped.
PAUSES = tuple(timedelta(seconds=seconds) for seconds in (5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400))
_IDS = ("decision_id", "leg_id", "review_id", "outcome")
_ROW = len(LEAF)


def export(store: Store, vault: Vault, cursor: Cursor, sink: Sink, now: datetime, *, holder: str) -> int:
    """Send what a receiver does not have yet, as far as it is sealed: how many rows.

    0, too, while another process does it. Raises `SinkError`; the cursor then says when to try again.
    """
    lease, count = f"export:{cursor.name}", 0
    if not store.leases.take(lease, holder, now, LEASE):
        return 0
    try:
        while batch := next_batch(store, vault, cursor, sink.limit):
            _send(store, cursor, sink, batch, now)
            count += len(batch.events)
            moved = store.exports.get(cursor.name)
            if moved is None or moved.leaf != batch.stop or not store.leases.take(lease, holder, now, LEASE):
                break
            cursor = moved
    finally:
        store.leases.give_back(lease, holder)
    return count


def _send(store: Store, cursor: Cursor, sink: Sink, batch: Batch, now: datetime) -> None:
    try:
        sink.send(batch, now)
    except SinkError as error:
        pause = error.wait or PAUSES[min(cursor.attempts, len(PAUSES) - 1)]
        store.exports.fail(cursor, str(error), None if error.gone else now + pause)
        raise
    store.exports.move(cursor, batch.stop, now)


def next_batch(store: Store, vault: Vault, cursor: Cursor, limit: int) -> Batch | None:
    """None where the receiver has everything that is sealed."""
    newest = store.seals.newest()
    if newest is None or cursor.leaf >= newest.size:
        return None
    events: list[Mapping[str, Any]] = []
    stop, size = cursor.leaf, 0
    for row in store.seals.sealed(cursor.leaf, min(cursor.leaf + BATCH, newest.size)):
        event = event_document(row)
        size += len(orjson.dumps(event)) if event else 0
        if events and size > limit:
            break
        stop = row[0] + 1
        events += [event] if event else []
    return (
        Batch(cursor.name, cursor.leaf, stop, events, checkpoint_document(newest, vault))
        if stop > cursor.leaf
        else None
    )


def event_document(row: Sequence[Any]) -> Mapping[str, Any] | None:
    """A row as it is sent; None where retention has removed it."""
    values = dict(zip(ROW, row[_ROW:], strict=True))
    if values["seq"] is None:
        return None
    return {
        "type": values["type"],
        "leaf": row[0],
        "seq": values["seq"],
        "id": values["id"],
        "at": moment(values["at_us"]).isoformat(),
        **{name: values[name] for name in _IDS},
        "dimensions": {name: values[name] for name in DIMENSIONS},
        "body": orjson.loads(values["body"]),
    }


def checkpoint_document(checkpoint: Checkpoint, vault: Vault) -> dict[str, Any]:
    return {"type": "audit.checkpoint", **document(checkpoint, vault)}

"""The record: events and private rows, written in the transaction of the change that they describe, and read back.

An event's id is unique, so the same change recorded twice is one row. `seq` grows in the order of writing and is the
cursor for reading on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, select

from policyguard.errors import ConfigError
from policyguard.flow.events import DIMENSIONS, Event
from policyguard.flow.steps import Private
from policyguard.store.cipher import Cipher, Sealed
from policyguard.store.db import tables
from policyguard.store.db.sql import DAY_US, Query, SQLSteps, delete_after, drive, insert, moment, us
from policyguard.store.subjects import Envelope, open_sealed, seal_all

_IDS = ("decision_id", "leg_id", "review_id")
EVENT_COLUMNS = ("id", "at_us", "type", *_IDS, "outcome", *DIMENSIONS, "body", "delete_after_us")
_INSERT_EVENT = insert("events", EVENT_COLUMNS, conflict="id")
_PRIVATE_COLUMNS = ("id", "kind", "subject", "key_id", "nonce", "ciphertext", "delete_after_us")
_INSERT_PRIVATE = insert("private", _PRIVATE_COLUMNS, conflict="id")
_NOBODY = dict.fromkeys(DIMENSIONS)
FILTERS = ("id", "type", *_IDS, "outcome", *DIMENSIONS)


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """An event as it stands in the record, with its number."""

    seq: int
    event: Event


# ---- writing ----------------------------------------------------------------------------------------------


def write_events(connection: Connection, events: Iterable[Event], **body: Any) -> None:
    """Write events, in the transaction of the change that they describe."""
    drive(connection, _asked(event_queries(events, **body)))


def event_queries(events: Iterable[Event], **body: Any) -> list[Query]:
    """What writes events; `body` adds to the body of each what only the store knows."""
    return [Query(_INSERT_EVENT, _row(event, {**event.body, **body} if body else event.body)) for event in events]


def _asked(queries: Sequence[Query]) -> SQLSteps[None]:
    yield queries


def _row(event: Event, body: Mapping[str, Any]) -> dict[str, Any]:
    at_us, keep_days = us(event.at), event.keep_days
    return {
        **_NOBODY,
        **event.dimensions,
        "id": event.id,
        "at_us": at_us,
        "type": event.type,
        "decision_id": event.decision_id,
        "leg_id": event.leg_id,
        "review_id": event.review_id,
        "outcome": event.outcome,
        "body": to_json(body),
        "delete_after_us": None if keep_days is None else at_us + keep_days * DAY_US,
    }


def to_json(value: Any) -> str:
    """One canonical form: sorted keys, no spaces."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS, default=_plain).decode()


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} has no place in the record")


def write_private(connection: Connection, rows: Sequence[tuple[Envelope, int | None]], now: datetime) -> None:
    """Encrypt rows and write them, each with the days that it is kept."""
    drive(connection, private_steps(rows, now))


def private_steps(rows: Sequence[tuple[Envelope, int | None]], now: datetime) -> SQLSteps[None]:
    sealed = yield from seal_all([envelope for envelope, _ in rows])
    kept = [_kept(envelope.private, keep_days, now) for envelope, keep_days in rows]
    yield [Query(_INSERT_PRIVATE, _private_row(s, until)) for s, until in zip(sealed, kept, strict=True)]


def _kept(private: Private, keep_days: int | None, now: datetime) -> int | None:
    """When it goes: what is sooner counts."""
    ends = (delete_after(now, keep_days), None if private.until is None else us(private.until))
    return min((end for end in ends if end is not None), default=None)


def _private_row(sealed: Sealed, delete_after_us: int | None) -> dict[str, Any]:
    return {
        "id": sealed.id,
        "kind": sealed.kind,
        "subject": sealed.subject,
        "key_id": sealed.key_id,
        "nonce": sealed.nonce,
        "ciphertext": sealed.ciphertext,
        "delete_after_us": delete_after_us,
    }


# ---- reading ----------------------------------------------------------------------------------------------


def read_private(connection: Connection, id_: str, cipher: Cipher) -> tuple[Sealed, bytes] | None:
    """The encrypted row and its text. None where it is not there (any more)."""
    row = connection.execute(select(tables.private).where(tables.private.c.id == id_)).first()
    if row is None:
        return None
    sealed = sealed_of(row)
    return sealed, open_sealed(connection, cipher, sealed)


def sealed_of(row: Row[Any]) -> Sealed:
    """The encrypted value in a row that has the columns of `private`."""
    return Sealed(
        id=row.id,
        kind=row.kind,
        subject=row.subject,
        key_id=row.key_id,
        nonce=row.nonce,
        ciphertext=row.ciphertext,
    )


def read_events(
    connection: Connection,
    *,
    after: int | None,
    limit: int,
    since: datetime | None,
    until: datetime | None,
    equal: Mapping[str, str | None],
) -> list[StoredEvent]:
    """In the order of the record: those after the cursor, or without one the last `limit`."""
    columns = tables.events.c
    query = select(tables.events).limit(limit)
    for name, value in equal.items():
        if name not in FILTERS:
            raise ConfigError(f"no such filter `{name}`; there are {', '.join(f'`{f}`' for f in FILTERS)}")
        if value is not None:
            query = query.where(columns[name] == value)
    if since is not None:
        query = query.where(columns.at_us >= us(since))
    if until is not None:
        query = query.where(columns.at_us < us(until))
    if after is None:
        return [_stored(row) for row in connection.execute(query.order_by(columns.seq.desc()))][::-1]
    return [_stored(row) for row in connection.execute(query.where(columns.seq > after).order_by(columns.seq))]


def _stored(row: Row[Any]) -> StoredEvent:
    values = row._mapping
    kept = row.delete_after_us
    event = Event(
        id=row.id,
        type=row.type,
        at=moment(row.at_us),
        decision_id=row.decision_id,
        leg_id=row.leg_id,
        review_id=row.review_id,
        outcome=row.outcome,
        dimensions={name: values[name] for name in DIMENSIONS},
        body=orjson.loads(row.body),
        keep_days=None if kept is None else (kept - row.at_us) // DAY_US,
    )
    return StoredEvent(row.seq, event)

"""Subjects: each has a data key of its own, made with its first private row and destroyed when it is erased.

A private row is encrypted in the transaction that writes it, under the key that stands in the database at that moment:
no process can go on writing under a key that another one has destroyed.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, delete, select, union

from policyguard.flow.events import Event, event_id
from policyguard.flow.steps import Private
from policyguard.store.cipher import Cipher, DataKey, Sealed
from policyguard.store.db import tables
from policyguard.store.db.sql import Query, Sql, SQLSteps, insert, run

BATCH = 500  # keys that are wrapped anew in one transaction

_COLUMNS = ("id", "subject", "key_id", "nonce", "wrapped")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM data_keys"  # noqa: S608 (constant names)
_OF_SUBJECT = Sql(f"{_SELECT} WHERE subject = :subject ORDER BY id LIMIT 1")
_BY_ID = Sql(f"{_SELECT} WHERE id = :id")
_OUTDATED = Sql(f"{_SELECT} WHERE key_id <> :newest ORDER BY id LIMIT :batch")
_INSERT = insert("data_keys", _COLUMNS)
_PAUSED = Sql("SELECT body FROM events WHERE \"user\" = :subject AND type IN ('admin.paused', 'admin.unpaused')")
_ASKED = Sql("SELECT 1 FROM events WHERE \"user\" = :subject AND type = 'request.decided' LIMIT 1")
_REWRAP = Sql("UPDATE data_keys SET key_id = :key_id, nonce = :nonce, wrapped = :wrapped WHERE id = :id")


@dataclass(frozen=True, slots=True)
class Envelope:
    """A private row on its way into the database."""

    cipher: Cipher = field(repr=False)
    private: Private


def seal_all(envelopes: Sequence[Envelope]) -> SQLSteps[list[Sealed]]:
    """Encrypt under each subject's key as it stands now; one is made where there is none."""
    ciphers = {envelope.private.subject: envelope.cipher for envelope in envelopes}
    found = yield [Query(_OF_SUBJECT, {"subject": subject}) for subject in ciphers]
    keys: dict[str, DataKey] = {}
    made = []
    for (subject, cipher), rows in zip(ciphers.items(), found, strict=True):
        keys[subject] = _key(rows[0]) if rows else _new_key(cipher, subject)
        made += [] if rows else [Query(_INSERT, _row(keys[subject]))]
    yield made
    return [e.cipher.seal(e.private, os.urandom(12), keys[e.private.subject]) for e in envelopes]


def _new_key(cipher: Cipher, subject: str) -> DataKey:
    return cipher.data_key(f"key_{os.urandom(16).hex()}", subject, os.urandom(32), os.urandom(12))


def _key(row: Sequence[Any]) -> DataKey:
    return DataKey(**dict(zip(_COLUMNS, row, strict=True)))


def _row(key: DataKey) -> dict[str, object]:
    return {name: getattr(key, name) for name in _COLUMNS}


def open_sealed(connection: Connection, cipher: Cipher, sealed: Sealed) -> bytes:
    """Decrypt a row with the data key that it names. Raises `ConfigError` where that is gone or something altered."""
    row = run(connection, _BY_ID, {"id": sealed.key_id}).first()
    return cipher.open(sealed, None if row is None else _key(row))


def rewrap(connection: Connection, cipher: Cipher) -> tuple[int, bool]:
    """Wrap data keys of older keys with the newest one: how many, and whether there may be more."""
    rows = run(connection, _OUTDATED, {"newest": cipher.newest_id, "batch": BATCH}).all()
    for row in rows:
        run(connection, _REWRAP, _row(cipher.rewrap(_key(row), os.urandom(12))))
    return len(rows), len(rows) == BATCH


# ---- erasure ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Erased:
    """How many private rows of a subject were destroyed, and how many keys. `scrubbed`: no copy is left in the file.

    Not `known`: nothing was there, and the record has no request of the subject: a name that is nobody's.
    """

    rows: int
    keys: int
    scrubbed: bool = False
    known: bool = True


def erase(connection: Connection, every: Sequence[str]) -> Erased:
    """Destroy a subject's keys and rows, and what others wrote about the subject: notes of votes and of pauses.

    `every` has all the pseudonyms that the subject ever had.
    """
    private, reviews, votes, pauses = tables.private, tables.reviews, tables.review_votes, tables.pauses
    paused = [body for subject in every for body in run(connection, _PAUSED, {"subject": subject}).scalars()]
    past = [orjson.loads(body)["note_id"] for body in paused]
    notes = union(
        select(votes.c.note_id)
        .join(reviews, reviews.c.review_id == votes.c.review_id)
        .where(reviews.c.subject.in_(every)),
        select(pauses.c.note_id).where(pauses.c.scope == "user", pauses.c.value.in_(every)),
    )
    condition = private.c.subject.in_(every) | private.c.id.in_(notes) | private.c.id.in_(past)
    rows = connection.execute(delete(private).where(condition)).rowcount
    keys = connection.execute(delete(tables.data_keys).where(tables.data_keys.c.subject.in_(every))).rowcount
    asked = any(run(connection, _ASKED, {"subject": subject}).first() for subject in every)
    return Erased(rows, keys, known=bool(rows or keys) or asked)


def erased_event(subject: str, erased: Erased, by: str, note_id: str, now: datetime) -> Event:
    """Who erased whom, and how much; why stands in the note. It is kept for ever."""
    return Event(
        id=event_id("audit.erased", f"{subject}:{note_id}"),
        type="audit.erased",
        at=now,
        dimensions={"user": subject},
        body={"subject": subject, "rows": erased.rows, "keys": erased.keys, "by": by, "note_id": note_id},
    )


def key_added_event(key_id: str, rewrapped: int, by: str, note_id: str, now: datetime) -> Event:
    return Event(
        id=event_id("audit.key_added", f"{key_id}:{note_id}"),
        type="audit.key_added",
        at=now,
        body={"key_id": key_id, "rewrapped": rewrapped, "by": by, "note_id": note_id},
    )

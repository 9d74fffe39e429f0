"""Upkeep: rows whose retention has passed, and what a sweep did. Run by any process, as often as it likes."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from policyguard.store.db.sql import Sql, run, us

BATCH = 500  # rows of one table in one transaction


@dataclass(frozen=True, slots=True)
class Swept:
    """How many legs were released and presumed, reviews expired, levels escalated, and rows removed by retention."""

    released: int = 0
    presumed: int = 0
    expired: int = 0
    escalated: int = 0
    deleted: int = 0


# A leg or a review goes only when it has ended; its charges and votes go with it.
_PAST: dict[str, tuple[str, str]] = {
    "events": ("seq", ""),
    "private": ("id", ""),
    "refusals": ("decision_id", ""),
    "legs": ("leg_id", "AND state NOT IN ('held', 'sent')"),
    "reviews": ("review_id", "AND state NOT IN ('held', 'approved', 'resuming')"),
}
_CONDITION = "delete_after_us IS NOT NULL AND delete_after_us <= :now"


def _delete(table: str, more: str = "") -> Sql:
    key, ended = _PAST[table]
    chosen = f"SELECT {key} FROM {table} WHERE {_CONDITION} {ended} LIMIT :batch"  # noqa: S608 (constant names)
    return Sql(f"DELETE FROM {table} WHERE {key} IN ({chosen}) {more}")  # noqa: S608


_DELETE = [_delete(table) for table in _PAST if table != "private"]
# The key of a subject goes with the last row that was encrypted under it.
_DELETE_PRIVATE = _delete("private", "RETURNING key_id")
_DELETE_KEY = Sql(
    """
    DELETE FROM data_keys WHERE id = :id
      AND NOT EXISTS (SELECT 1 FROM private AS p WHERE p.subject = data_keys.subject AND p.key_id = data_keys.id)
    """
)
_ANY_WORK = Sql(
    """
    SELECT EXISTS (SELECT 1 FROM legs WHERE state IN ('held', 'sent') AND expires_us <= :now) AS legs,
      EXISTS (SELECT 1 FROM reviews WHERE state IN ('held', 'approved') AND due_us <= :now) AS reviews,
      EXISTS (SELECT 1 FROM reviews WHERE state = 'held' AND escalate_us <= :now) AS levels,
      {past} AS retention
    """.replace(
        "{past}",
        " OR ".join(
            f"EXISTS (SELECT 1 FROM {table} WHERE {_CONDITION} {ended})"  # noqa: S608 (constant names)
            for table, (_, ended) in _PAST.items()
        ),
    )
)


@dataclass(frozen=True, slots=True)
class UpkeepWork:
    """What there is to do."""

    legs: bool
    reviews: bool
    levels: bool
    retention: bool


def work(connection: Connection, now: datetime) -> UpkeepWork:
    """One indexed look, so that a sweep with nothing to do costs nothing."""
    row = run(connection, _ANY_WORK, {"now": us(now)}).one()
    return UpkeepWork(bool(row.legs), bool(row.reviews), bool(row.levels), bool(row.retention))


def delete_past(connection: Connection, now: datetime) -> tuple[int, bool]:
    """Remove rows whose time to be kept has passed: how many, and whether there may be more."""
    values = {"now": us(now), "batch": BATCH}
    keys = run(connection, _DELETE_PRIVATE, values).scalars().all()
    for key in set(keys):
        run(connection, _DELETE_KEY, {"id": key})
    counts = [len(keys), *(run(connection, sql, values).rowcount for sql in _DELETE)]
    return sum(counts), BATCH in counts

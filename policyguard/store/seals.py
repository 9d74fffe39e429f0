"""The sealed part of the record: leaves and checkpoints, and the rows that have none yet.

Leaves stand in the order of `seq`, without exception: rows are sealed up to a number below which nothing can be
committed any more. What a leaf or a checkpoint says is the audit layer's business; here they are bytes.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row

from policyguard.store import leases
from policyguard.store.db.sql import Rows, Sql, ask, drive, insert, moment, run, us
from policyguard.store.leases import Runs
from policyguard.store.record import EVENT_COLUMNS

LEASE = timedelta(seconds=30)
LEASE_NAME = "seal"
ROW = ("seq", *EVENT_COLUMNS)  # what a leaf's digest covers, in this order
LEAF = ("leaf", "seq", "delete_after_us", "digest", "mac")
_CHECKPOINT = ("size", "root", "previous", "at_us", "key_id", "signature", "frontier")
_WAIT_S = 1.0  # for transactions that may still commit a row with a smaller number


@dataclass(frozen=True, slots=True)
class Leaf:
    """The `leaf`-th row of the record, without what the row says. `delete_after_us` None: kept for ever."""

    leaf: int
    seq: int
    delete_after_us: int | None
    digest: bytes
    mac: bytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The first `size` leaves have this root. `previous` is the size of the checkpoint before, 0 for the first."""

    size: int
    root: bytes
    previous: int
    at: datetime
    key_id: str
    signature: bytes
    frontier: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class Unsealed:
    """The newest checkpoint, the number of its last row, and the rows after it, as `ROW`."""

    checkpoint: Checkpoint | None
    last_seq: int | None  # None: the leaf is missing
    rows: Rows


def _columns(names: Sequence[str], prefix: str = "") -> str:
    return ", ".join(f'{prefix}"{name}"' for name in names)


_NEWEST = Sql(f"SELECT {_columns(_CHECKPOINT)} FROM checkpoints ORDER BY size DESC LIMIT 1")  # noqa: S608
_CHECKPOINTS = Sql(
    f"SELECT {_columns(_CHECKPOINT)} FROM checkpoints WHERE size > :after AND size <= :until ORDER BY size"  # noqa: S608
)
_LAST_SEQ = Sql("SELECT seq FROM leaves WHERE leaf = :leaf")
_TOP = Sql("SELECT max(seq) FROM events")
_ROWS = Sql(f"SELECT {_columns(ROW)} FROM events WHERE seq > :after AND seq <= :top ORDER BY seq LIMIT :limit")  # noqa: S608
# A row's number is taken under this lock, which is held until the transaction ends.
_WRITERS = Sql(
    """
    SELECT virtualtransaction FROM pg_locks WHERE locktype = 'relation' AND mode = 'RowExclusiveLock'
      AND relation = CAST('events' AS regclass)
      AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
    """
)
_INSERT_LEAF = insert("leaves", LEAF)
_INSERT_CHECKPOINT = insert("checkpoints", _CHECKPOINT)
_SEALED = Sql(
    f"""
    SELECT {_columns(LEAF, "l.")}, {_columns(ROW, "e.")} FROM leaves AS l LEFT JOIN events AS e ON e.seq = l.seq
    WHERE l.leaf >= :start AND l.leaf < :stop ORDER BY l.leaf
    """  # noqa: S608 (constant names)
)
_LEAVES = Sql(
    f"""
    SELECT {_columns(LEAF, "l.")} FROM leaves AS l WHERE l.leaf >= :start AND l.leaf < :stop ORDER BY l.leaf
    """  # noqa: S608 (constant names)
)
_LEAF_OF = Sql(
    f"SELECT {_columns(LEAF, 'l.')} FROM events AS e JOIN leaves AS l ON l.seq = e.seq WHERE e.id = :id"  # noqa: S608
)
_MOST = Sql("SELECT max(leaf) FROM leaves")
_WITHOUT_LEAF = Sql(
    """
    SELECT e.seq, e.id FROM events AS e LEFT JOIN leaves AS l ON l.seq = e.seq AND l.leaf >= 0 AND l.leaf < :size
    WHERE e.seq > :after AND e.seq <= :until AND l.leaf IS NULL ORDER BY e.seq LIMIT :limit
    """
)
_COUNT_AFTER = Sql("SELECT count(*) FROM events WHERE seq > :after")


class Seals:
    """What the audit layer asks of the store. Every method is one transaction."""

    def __init__(self, read: Runs, write: Runs) -> None:
        self._read = read
        self._write = write

    # ---- sealing ------------------------------------------------------------------------------------------------

    def unsealed(self, limit: int) -> Unsealed:
        """The next rows to be sealed: committed, and with nothing missing that could still be committed among them."""
        top = self._settled()
        return self._read(lambda c: _unsealed(c, top, limit))

    def _settled(self) -> int:
        """A number below which every row is committed or never will be; 0 where somebody writes for too long."""
        top, writers = self._read(lambda c: (run(c, _TOP, {}).scalar() or 0, _writers(c)))
        deadline = time.monotonic() + _WAIT_S
        while writers and time.monotonic() < deadline:
            time.sleep(0.005)
            writers &= self._read(_writers)
        return 0 if writers else top

    def append(self, leaves: Sequence[Leaf], checkpoint: Checkpoint, *, holder: str, now: datetime) -> bool:
        """Write leaves with the checkpoint over them. False: somebody else seals, or has sealed meanwhile."""

        def work(connection: Connection) -> bool:
            if not leases.take(connection, LEASE_NAME, holder, now, LEASE):
                return False
            newest = _newest(connection)
            if (newest.size if newest else 0) != checkpoint.previous:
                leases.give_back(connection, LEASE_NAME, holder)
                return False
            run(connection, _INSERT_LEAF, [_leaf_row(leaf) for leaf in leaves])
            run(connection, _INSERT_CHECKPOINT, _checkpoint_row(checkpoint))
            return True

        return self._write(work)

    def give_back(self, holder: str) -> None:
        """Let others seal at once."""
        self._write(lambda c: leases.give_back(c, LEASE_NAME, holder))

    # ---- reading ------------------------------------------------------------------------------------------------

    def newest(self) -> Checkpoint | None:
        return self._read(_newest)

    def extent(self) -> tuple[Checkpoint | None, int]:
        """The newest checkpoint, and how many leaves there are, as of one moment."""
        return self._read(lambda c: (_newest(c), _leaf_count(c)))

    def checkpoints(self, after: int, until: int) -> list[Checkpoint]:
        """Those over more than `after` rows and at most `until`."""
        values = {"after": after, "until": until}
        return self._read(lambda c: [_checkpoint(row) for row in run(c, _CHECKPOINTS, values)])

    def sealed(self, start: int, stop: int) -> Rows:
        """Leaves from `start` until before `stop`, each with its row: the columns of a leaf, then `ROW` or nulls."""
        return self._read(lambda c: drive(c, ask(_SEALED, {"start": start, "stop": stop})))

    def leaves(self, start: int, stop: int) -> Sequence[Row[Any]]:
        """The same without the rows."""
        return self._read(lambda c: run(c, _LEAVES, {"start": start, "stop": stop}).all())

    def leaf_of(self, event_id: str) -> Leaf | None:
        """The leaf of one row; None where there is no such row, or it is not sealed yet."""
        row = self._read(lambda c: run(c, _LEAF_OF, {"id": event_id}).first())
        return None if row is None else Leaf(row.leaf, row.seq, row.delete_after_us, row.digest, row.mac)

    def without_leaf(self, after: int, until: int, size: int, limit: int) -> Sequence[Row[Any]]:
        """Rows (`seq`, `id`) from after `after` to `until` that have none of the first `size` leaves."""
        values = {"after": after, "until": until, "size": size, "limit": limit}
        return self._read(lambda c: run(c, _WITHOUT_LEAF, values).all())

    def count_after(self, seq: int) -> int:
        """How many rows there are behind this one."""
        return self._read(lambda c: int(run(c, _COUNT_AFTER, {"after": seq}).scalar_one()))


def _writers(connection: Connection) -> frozenset[str]:
    """Transactions that may still commit a row under a number that they have taken. SQLite has one writer: none."""
    if connection.dialect.name != "postgresql":
        return frozenset()
    return frozenset(run(connection, _WRITERS, {}).scalars())


def _unsealed(connection: Connection, top: int, limit: int) -> Unsealed:
    newest = _newest(connection)
    last = run(connection, _LAST_SEQ, {"leaf": newest.size - 1}).scalar() if newest else 0
    values = {"after": last, "top": top, "limit": limit}
    return Unsealed(newest, last, [] if last is None else drive(connection, ask(_ROWS, values)))


def _newest(connection: Connection) -> Checkpoint | None:
    row = run(connection, _NEWEST, {}).first()
    return None if row is None else _checkpoint(row)


def _leaf_count(connection: Connection) -> int:
    most = run(connection, _MOST, {}).scalar()
    return 0 if most is None else most + 1


def _checkpoint(row: Row[Any]) -> Checkpoint:
    at = moment(row.at_us)
    return Checkpoint(row.size, row.root, row.previous, at, row.key_id, row.signature, row.frontier)


def _checkpoint_row(checkpoint: Checkpoint) -> dict[str, Any]:
    return {
        "size": checkpoint.size,
        "root": checkpoint.root,
        "previous": checkpoint.previous,
        "at_us": us(checkpoint.at),
        "key_id": checkpoint.key_id,
        "signature": checkpoint.signature,
        "frontier": checkpoint.frontier,
    }


def _leaf_row(leaf: Leaf) -> dict[str, Any]:
    return {name: getattr(leaf, name) for name in LEAF}

"""Cursors of exports: how far each receiver has the record, and when to try again what failed.

A cursor moves only after its receiver has taken the rows, so that every row arrives at least once, in the order of the
record.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row

from policyguard.store.db.sql import Sql, insert, moment, run, us
from policyguard.store.leases import Runs


@dataclass(frozen=True, slots=True)
class Cursor:
    """`leaf` is the next row to be sent. `next_at` None: the receiver has said that it wants no more."""

    name: str
    target: str
    background: bool  # `policyguard jobs run` goes on with it
    leaf: int
    attempts: int  # that failed, one after another
    next_at: datetime | None
    error: str | None


_COLUMNS = ("name", "target", "background", "leaf", "attempts", "next_us", "error")
_INSERT = insert("export_cursors", _COLUMNS, conflict="name")
_SELECT = Sql(f"SELECT {', '.join(_COLUMNS)} FROM export_cursors ORDER BY name")  # noqa: S608 (constant names)
_BACKGROUND = Sql("UPDATE export_cursors SET background = :background WHERE name = :name")
_MOVE = Sql(
    """
    UPDATE export_cursors SET leaf = :leaf, attempts = 0, next_us = :now, error = NULL
    WHERE name = :name AND leaf = :before
    """
)
_FAIL = Sql(
    """
    UPDATE export_cursors SET attempts = attempts + 1, next_us = :next, error = :error
    WHERE name = :name AND leaf = :before
    """
)
_REVIVE = Sql("UPDATE export_cursors SET attempts = 0, next_us = :now WHERE name = :name")
_DELETE = Sql("DELETE FROM export_cursors WHERE name = :name")


class Exports:
    """The cursors. Every method is one transaction."""

    def __init__(self, read: Runs, write: Runs) -> None:
        self._read = read
        self._write = write

    def all(self) -> list[Cursor]:
        return self._read(lambda c: [_cursor(row) for row in run(c, _SELECT, {})])

    def get(self, name: str) -> Cursor | None:
        return next((cursor for cursor in self.all() if cursor.name == name), None)

    def begin(self, name: str, target: str, *, background: bool, now: datetime) -> Cursor:
        """The cursor of this name, made at the beginning of the record where there is none, to be tried at once."""

        def work(connection: Connection) -> None:
            values = {"name": name, "target": target, "background": background, "leaf": 0, "attempts": 0, "error": None}
            run(connection, _INSERT, {**values, "next_us": us(now)})
            run(connection, _BACKGROUND, {"name": name, "background": background})
            run(connection, _REVIVE, {"name": name, "now": us(now)})

        self._write(work)
        (cursor,) = (cursor for cursor in self.all() if cursor.name == name)
        return cursor

    def move(self, cursor: Cursor, leaf: int, now: datetime) -> bool:
        """The receiver has everything before `leaf`. False: somebody else has moved the cursor."""
        values = {"name": cursor.name, "before": cursor.leaf, "leaf": leaf, "now": us(now)}
        return self._write(lambda c: run(c, _MOVE, values).rowcount == 1)

    def fail(self, cursor: Cursor, error: str, next_at: datetime | None) -> None:
        """The receiver did not take the rows; `next_at` None: nor will it."""
        values = {"name": cursor.name, "before": cursor.leaf, "error": error}
        self._write(lambda c: run(c, _FAIL, {**values, "next": None if next_at is None else us(next_at)}))

    def forget(self, name: str) -> bool:
        """False: there is no such cursor."""
        return self._write(lambda c: run(c, _DELETE, {"name": name}).rowcount == 1)


def _cursor(row: Row[Any]) -> Cursor:
    next_at = None if row.next_us is None else moment(row.next_us)
    return Cursor(row.name, row.target, bool(row.background), row.leaf, row.attempts, next_at, row.error)

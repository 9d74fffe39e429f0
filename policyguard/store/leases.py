"""Leases: which process does a job of upkeep now. One that died is replaced when its time is over."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from policyguard.store.db.sql import Sql, run, us

T = TypeVar("T")


class Runs(Protocol):
    """Runs work in a transaction of its own: what the store reads and writes with."""

    def __call__(self, work: Callable[[Connection], T], /) -> T: ...


_TAKE = Sql(
    """
    INSERT INTO leases (name, holder, until_us) VALUES (:name, :holder, :until)
    ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until_us = excluded.until_us
      WHERE leases.until_us <= :now OR leases.holder = :holder
    """
)
_PROBE = Sql(
    """
    INSERT INTO leases (name, holder, until_us) VALUES ('probe', '', :now)
    ON CONFLICT (name) DO UPDATE SET until_us = excluded.until_us
    """
)
_GIVE_BACK = Sql("DELETE FROM leases WHERE name = :name AND holder = :holder")


def take(connection: Connection, name: str, holder: str, now: datetime, time: timedelta) -> bool:
    """Take the lease, or keep it for longer. False: somebody else has it.

    Until this transaction ends nobody else can take it, whatever their clock says.
    """
    values = {"name": name, "holder": holder, "now": us(now), "until": us(now + time)}
    return run(connection, _TAKE, values).rowcount == 1


def probe(connection: Connection, now: datetime) -> None:
    """Write one small row, always the same one: whether anything can be written is only known from writing."""
    run(connection, _PROBE, {"now": us(now)})


def give_back(connection: Connection, name: str, holder: str) -> None:
    run(connection, _GIVE_BACK, {"name": name, "holder": holder})


class Leases:
    """Leases by themselves, for jobs that take more than one transaction."""

    def __init__(self, write: Runs) -> None:
        self._write = write

    def take(self, name: str, holder: str, now: datetime, time: timedelta) -> bool:
        return self._write(lambda c: take(c, name, holder, now, time))

    def give_back(self, name: str, holder: str) -> None:
        self._write(lambda c: give_back(c, name, holder))

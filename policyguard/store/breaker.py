"""The breaker: an upstream that fails too often is left alone for a while, so that an outage eats no budget.

Faults are counted in the rows of the legs that ended with them, so every process counts the same ones, and the count
needs no reset. The row of a breaker is there from the first fault on; it is locked before any budget's window.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from policyguard.events import Event, EventType, event_id
from policyguard.steps import UpstreamDown
from policyguard.store.record import write_events
from policyguard.store.sql import Rollback, Sql, moment, run, us

FAULTS: Final = 20  # more than so many
WITHIN: Final = timedelta(minutes=1)
OPEN_FOR: Final = timedelta(seconds=30)
PROBES: Final = 3  # at a time, when it was open for long enough
PROBE_FOR: Final = timedelta(minutes=1)  # one without an answer makes room for the next
ASK_AGAIN: Final = timedelta(seconds=5)  # while probes are under way

_LOCK = Sql("UPDATE breakers SET since_us = since_us WHERE upstream = :upstream AND open_until_us = :open_until")
_LIVE_PROBES = Sql(
    """
    SELECT count(*) FROM legs
    WHERE state IN ('held', 'sent') AND probe = 1 AND upstream = :upstream AND created_us > :since
    """
)
_PROBE = Sql("UPDATE legs SET probe = 1 WHERE leg_id = :leg_id")
_NOTE = Sql(
    """
    INSERT INTO breakers (upstream, since_us, open_until_us) VALUES (:upstream, 0, NULL)
    ON CONFLICT (upstream) DO UPDATE SET since_us = breakers.since_us
    RETURNING since_us, open_until_us
    """
)
_FAULTS = Sql("SELECT count(*) FROM legs WHERE upstream = :upstream AND fault_us > :since AND fault_us IS NOT NULL")
_OPEN = Sql("UPDATE breakers SET open_until_us = :until WHERE upstream = :upstream")
_CLOSE = Sql(
    "UPDATE breakers SET open_until_us = NULL, since_us = :now WHERE upstream = :upstream AND open_until_us IS NOT NULL"
)


def admit(connection: Connection, leg_id: str, upstream: str, open_until: int, now: datetime) -> None:
    """Let a leg through to an upstream that is not known to be up, as a probe; raises `Rollback` where it may not."""
    if us(now) < open_until:
        raise Rollback(UpstreamDown(upstream, moment(open_until)))
    if run(connection, _LOCK, {"upstream": upstream, "open_until": open_until}).rowcount == 0:
        raise Rollback(UpstreamDown(upstream, now + ASK_AGAIN))  # somebody has just closed it or opened it anew
    live = run(connection, _LIVE_PROBES, {"upstream": upstream, "since": us(now - PROBE_FOR)}).scalar()
    if live is None or live >= PROBES:
        raise Rollback(UpstreamDown(upstream, now + ASK_AGAIN))
    run(connection, _PROBE, {"leg_id": leg_id})


def note(connection: Connection, upstream: str, answered: bool, probe: bool, now: datetime) -> bool:
    """What the end of a leg says of its upstream: did it open the breaker?"""
    if not answered:
        return _fault(connection, upstream, probe, now)
    if probe and run(connection, _CLOSE, {"upstream": upstream, "now": us(now)}).rowcount == 1:
        _tell(connection, upstream, now, is_up=True)
    return False


def _fault(connection: Connection, upstream: str, probe: bool, now: datetime) -> bool:
    row = run(connection, _NOTE, {"upstream": upstream}).one()
    is_open = row.open_until_us is not None and us(now) < row.open_until_us
    since = max(row.since_us, us(now - WITHIN))
    if is_open or not (
        probe or (run(connection, _FAULTS, {"upstream": upstream, "since": since}).scalar() or 0) > FAULTS
    ):
        return False
    run(connection, _OPEN, {"upstream": upstream, "until": us(now + OPEN_FOR)})
    _tell(connection, upstream, now, is_up=False)
    return True


def _tell(connection: Connection, upstream: str, now: datetime, *, is_up: bool) -> None:
    type_: EventType = "upstream.up" if is_up else "upstream.down"
    body = {"upstream": upstream} if is_up else {"upstream": upstream, "until": (now + OPEN_FOR).isoformat()}
    write_events(connection, (Event(id=event_id(type_, f"{upstream}:{us(now)}"), type=type_, at=now, body=body),))

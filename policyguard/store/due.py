"""Legs whose time has passed: a held one is released, a sent one is presumed at its ceiling.

This happens by time alone, by conditional update, before the next reserve or by the sweeper of any process, and never
because some process started. What the store writes here has the same fields as a row that a guard writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from policyguard.flow.events import DIMENSIONS, Event, EventType, event_id
from policyguard.flow.states import LegState
from policyguard.store import approval
from policyguard.store.db.sql import Sql, drive, run, us
from policyguard.store.ledger import WHENEVER, Ended, end_leg
from policyguard.store.record import write_events

BATCH = 100  # legs in one transaction, so that nobody waits long for the lock

# A leg with what its decision said; for `leg_event`.
LEGS = """
    SELECT l.leg_id, l.state, l.decision_id, l.keep_days, l.model, l.size, l.quality, l.n, e.body, {dimensions}
    FROM legs AS l LEFT JOIN events AS e ON e.id = 'request.decided' || :colon || l.decision_id
    """.replace("{dimensions}", ", ".join(f'l."{name}"' for name in DIMENSIONS))
_DUE_LEGS = Sql(LEGS + "WHERE l.state IN ('held', 'sent') AND l.expires_us <= :now ORDER BY l.expires_us LIMIT :batch")
_LEG = Sql(LEGS + "WHERE l.leg_id = :leg_id AND l.state IN ('held', 'sent')")
_RUN_OUT: Mapping[LegState, tuple[LegState, EventType, str]] = {
    LegState.HELD: (LegState.RELEASED, "leg.released", "never sent"),
    LegState.SENT: (LegState.PRESUMED, "leg.presumed", "no outcome before its time passed"),
}
# What the decision row and every row of the leg say alike.
_SHARED = (
    "door",
    "request_id",
    "retry_of",
    "mode",
    "stakes",
    "policy_digest",
    "request",
    "moderation_parameter",
    "estimated_micros",
    "prices_as_of",
    "prices_digest",
    "dimensions",
    "keep_days",
)


def sweep_legs(connection: Connection, now: datetime) -> tuple[int, int, bool]:
    """Release held legs and presume sent ones whose time has passed: how many of each, and may there be more."""
    rows = run(connection, _DUE_LEGS, {"now": us(now), "colon": ":", "batch": BATCH}).mappings().all()
    counts = dict.fromkeys(_RUN_OUT, 0)
    for row in rows:
        source = LegState(row["state"])
        counts[source] += _run_out(connection, row, source, now)
    return counts[LegState.HELD], counts[LegState.SENT], len(rows) == BATCH


def give_back(connection: Connection, leg_id: str, now: datetime) -> bool:
    """Release one leg whose request was refused because the answer to its reservation did not come in time."""
    row = run(connection, _LEG, {"leg_id": leg_id, "colon": ":"}).mappings().first()
    if row is None:
        return False
    return _end(connection, row, _RUN_OUT[LegState.HELD], now)


def _run_out(connection: Connection, row: Mapping[Any, Any], source: LegState, now: datetime) -> bool:
    return _end(connection, row, _RUN_OUT[source], now, us(now))


def _end(
    connection: Connection,
    row: Mapping[Any, Any],
    end: tuple[LegState, EventType, str],
    now: datetime,
    due: int = WHENEVER,
) -> bool:
    into, type_, note = end
    ended = drive(connection, end_leg(row["leg_id"], LegState(row["state"]), into, None, now, due=due))
    if ended is None:
        return False
    event = leg_event(row, type_, ended, now, {"actual_micros": None, "overshoot_micros": 0, "note": note})
    write_events(connection, (event,))
    if ended.review_id is not None:
        drive(connection, approval.finish(ended.review_id, into, approval.ended_event(event, ended.review_id, into)))
    return True


def leg_event(row: Mapping[Any, Any], type_: EventType, ended: Ended, now: datetime, body: Mapping[str, Any]) -> Event:
    """The row in which a leg ends that no guard has ended; `row` is one of `LEGS`."""
    return Event(
        id=event_id(type_, row["leg_id"]),
        type=type_,
        at=now,
        decision_id=row["decision_id"],
        leg_id=row["leg_id"],
        outcome=type_.removeprefix("leg."),
        dimensions={name: row[name] for name in DIMENSIONS},
        body={
            **_shared(row),
            "ceiling_micros": ended.ceiling_micros,
            "charged_micros": ended.charged_micros,
            **body,
        },
        keep_days=row["keep_days"],
    )


def _shared(row: Mapping[Any, Any]) -> dict[str, Any]:
    """From the decision's row where retention left it, else from the leg's own columns."""
    if row["body"] is None:
        return {"request": {name: row[name] for name in ("model", "size", "quality", "n")}}
    body = orjson.loads(row["body"])
    return {name: body[name] for name in _SHARED if name in body}

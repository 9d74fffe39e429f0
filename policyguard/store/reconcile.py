"""Legs that were presumed at their ceiling, and how each is put right: by what it cost, or given back.

Only a presumed leg is changed here, once; its money moves in the window that was charged. Who did it and why is in the
record: a pseudonym in the event, the name and the words encrypted.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from policyguard.errors import PolicyguardError
from policyguard.flow.events import EventType
from policyguard.flow.states import LegState
from policyguard.flow.steps import Settled
from policyguard.request import Usage
from policyguard.store import alerts
from policyguard.store.db.sql import Sql, drive, moment, run
from policyguard.store.due import LEGS, leg_event
from policyguard.store.ledger import Ended, end_leg
from policyguard.store.notes import Note
from policyguard.store.record import write_events


@dataclass(frozen=True, slots=True, kw_only=True)
class PresumedLeg:
    """A leg that was charged without anybody knowing what it cost. `request_id` is the upstream's, where one is known.

    `why` is in one word what was missing: `timeout`, `cut`, `cancelled`, `no_usage`, a status, or `lost` where its
    process ended.
    """

    leg_id: str
    decision_id: str | None
    at: datetime
    surface: str | None
    model: str | None
    size: str | None
    quality: str | None
    n: int
    charged_micros: int
    request_id: str | None
    why: str


_PRESUMED = Sql(
    """
    SELECT l.leg_id, l.decision_id, l.ended_us, l.surface, l.model, l.size, l.quality, l.n, l.charged_micros, e.body
    FROM legs AS l LEFT JOIN events AS e ON e.id = 'leg.presumed' || :colon || l.leg_id
    WHERE l.state = 'presumed' ORDER BY l.ended_us, l.leg_id LIMIT :limit
    """
)
_ONE = Sql(LEGS + "WHERE l.leg_id = :leg_id")
_LEG = Sql("SELECT state, charged_micros, ceiling_micros FROM legs WHERE leg_id = :leg_id")


def presumed(connection: Connection, limit: int) -> list[PresumedLeg]:
    """The oldest first."""
    return [_leg(row) for row in run(connection, _PRESUMED, {"colon": ":", "limit": limit}).mappings()]


def _leg(row: Mapping[Any, Any]) -> PresumedLeg:
    body = orjson.loads(row["body"] or "{}")
    names = ("leg_id", "decision_id", "surface", "model", "size", "quality", "n", "charged_micros")
    return PresumedLeg(
        **{name: row[name] for name in names},
        at=moment(row["ended_us"]),
        request_id=body.get("upstream_request_id"),
        why=_why(body),
    )


def _why(body: Mapping[str, Any]) -> str:
    failure, status = body.get("failure"), body.get("status")
    if failure == "error" and status is not None:
        return str(status)
    return str(failure or "lost")


def resolve(
    connection: Connection, leg_id: str, charge_micros: int | None, usage: Usage | None, note: Note, now: datetime
) -> Settled:
    """Settle a presumed leg at what it cost, or give it back where `charge_micros` is None."""
    into: LegState = LegState.RELEASED if charge_micros is None else LegState.SETTLED
    row = run(connection, _ONE, {"colon": ":", "leg_id": leg_id}).mappings().first()
    if row is None:
        raise PolicyguardError(f"there is no leg `{leg_id}`")
    ended = drive(connection, end_leg(leg_id, LegState.PRESUMED, into, charge_micros, now))
    if ended is None:
        found = run(connection, _LEG, {"leg_id": leg_id}).one()
        return Settled(LegState(found.state), found.charged_micros, found.ceiling_micros, changed=False)
    type_: EventType = "leg.released" if charge_micros is None else "leg.settled"
    event = leg_event(row, type_, ended, now, _body(ended, charge_micros, usage, note))
    write_events(connection, (event,))
    told = drive(connection, alerts.reached(ended.windows, now, row["keep_days"]))
    return Settled(into, ended.charged_micros, ended.ceiling_micros, True, told)


def _body(ended: Ended, charge_micros: int | None, usage: Usage | None, note: Note) -> dict[str, Any]:
    names = ("input_text_tokens", "input_image_tokens", "output_image_tokens", "output_text_tokens")
    return {
        "actual_micros": charge_micros,
        "overshoot_micros": max(0, (charge_micros or 0) - ended.ceiling_micros),
        "usage": {name: getattr(usage, name) for name in names} if usage else None,
        "note": "reconciled",
        "by": note.pseudonym,
        "note_id": note.id,
    }

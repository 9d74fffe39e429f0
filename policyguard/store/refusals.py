"""What was refused: its decision row, and the columns by which reports tell the money that was not spent."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection

from policyguard.events import DIMENSIONS
from policyguard.steps import Alert, Record
from policyguard.store import alerts
from policyguard.store.record import write_events
from policyguard.store.sql import delete_after, insert, run, us

_COLUMNS = (
    "decision_id",
    "created_us",
    *DIMENSIONS,
    "model",
    "size",
    "quality",
    "n",
    "ceiling_micros",
    "delete_after_us",
)
_INSERT = insert("refusals", _COLUMNS, conflict="decision_id")


def record(connection: Connection, step: Record, now: datetime) -> tuple[Alert, ...]:
    """Events alone, and what they refuse."""
    write_events(connection, step.events)
    refusal = step.refusal
    if refusal is None:
        return ()
    decided = step.events[0]
    row = {
        "decision_id": decided.decision_id,
        "created_us": us(decided.at),
        **{name: refusal.facts.get(name) for name in (*DIMENSIONS, "model", "size", "quality")},
        "n": refusal.facts.get("n") or 1,
        "ceiling_micros": refusal.ceiling_micros,
        "delete_after_us": delete_after(decided.at, decided.keep_days),
    }
    run(connection, _INSERT, row)
    return () if refusal.over is None else alerts.exhausted(connection, refusal.over, now, decided.keep_days)

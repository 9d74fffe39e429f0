"""What was refused: its decision row, and the columns by which reports tell the money that was not spent.

Refusals of callers whom nobody knows are bounded, since they cost their senders nothing.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from policyguard.flow.events import DIMENSIONS, Event
from policyguard.flow.steps import Alert, Record, RefusedLeg
from policyguard.store import alerts
from policyguard.store.db.sql import Query, SQLSteps, delete_after, insert, us
from policyguard.store.record import event_queries

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


def record_refusal(step: Record, now: datetime) -> SQLSteps[tuple[Alert, ...]]:
    """Events alone, and what they refuse."""
    written = event_queries(step.events)
    if step.refusal is None:
        yield written
        return ()
    decided = step.events[0]
    yield [*written, Query(_INSERT, _row(step.refusal, decided))]
    if step.refusal.over is None:
        return ()
    return (yield from alerts.exhausted(step.refusal.over, now, decided.keep_days))


def _row(refusal: RefusedLeg, decided: Event) -> dict[str, Any]:
    return {
        "decision_id": decided.decision_id,
        "created_us": us(decided.at),
        **{name: refusal.facts.get(name) for name in (*DIMENSIONS, "model", "size", "quality")},
        "n": refusal.facts.get("n") or 1,
        "ceiling_micros": refusal.ceiling_micros,
        "delete_after_us": delete_after(decided.at, decided.keep_days),
    }

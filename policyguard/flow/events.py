"""The audit event: one row of the record, written in the transaction of the change that it describes.

An event never holds prompt text, an image or a person's name. Its id is made of its type and its subject, so
that the same change recorded twice is one row, and a second end of one leg cannot be written.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from types import MappingProxyType
from typing import Any, Literal

EventType = Literal[
    "request.decided",
    "request.refusals",
    "leg.settled",
    "leg.released",
    "leg.presumed",
    "output.inspected",
    "review.held",
    "review.escalated",
    "review.voted",
    "review.approved",
    "review.rejected",
    "review.reopened",
    "review.expired",
    "review.resuming",
    "review.released",
    "review.resume_failed",
    "admin.paused",
    "admin.unpaused",
    "admin.key_created",
    "admin.key_revoked",
    "budget.alert",
    "upstream.down",
    "upstream.up",
    "access.read",
    "audit.erased",
    "audit.key_added",
]
_EMPTY: Mapping[str, Any] = MappingProxyType({})


def _empty() -> Mapping[str, Any]:
    return _EMPTY


# The caller values that every event of a request carries, users and engineers as keyed pseudonyms.
DIMENSIONS = ("surface", "tenant", "user", "tier", "cohort", "feature", "engineer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`at` is aware UTC; `body` is what JSON can hold; `keep_days` is when retention removes the row (None: never)."""

    id: str
    type: EventType
    at: datetime
    decision_id: str | None = None
    leg_id: str | None = None
    review_id: str | None = None
    outcome: str | None = None
    dimensions: Mapping[str, str | None] = field(default_factory=_empty)
    body: Mapping[str, Any] = field(default_factory=_empty)
    keep_days: int | None = None


def event_id(type_: EventType, subject: str) -> str:
    """The id of the one event of this type about this subject."""
    return f"{type_}:{subject}"

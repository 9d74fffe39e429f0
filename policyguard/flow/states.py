"""The state tables of legs and reviews. Code that changes a state asks here; docs are drawn from here.

A state machine is a table plus a look-up (`design.md` sections 5 and 6). The store puts the same
conditions into its UPDATE statements, so that two processes cannot both win.
"""

from __future__ import annotations

from enum import StrEnum


class Leg(StrEnum):
    """One attempt upstream and the money that it holds."""

    HELD = "held"
    SENT = "sent"
    SETTLED = "settled"
    RELEASED = "released"
    PRESUMED = "presumed"


LEG_MOVES: dict[Leg, frozenset[Leg]] = {
    Leg.HELD: frozenset({Leg.SENT, Leg.RELEASED}),
    Leg.SENT: frozenset({Leg.SETTLED, Leg.RELEASED, Leg.PRESUMED}),
    Leg.PRESUMED: frozenset({Leg.SETTLED, Leg.RELEASED}),
    Leg.SETTLED: frozenset(),
    # only where it was never marked as sent: what was used all the same is charged, late
    Leg.RELEASED: frozenset({Leg.SETTLED, Leg.PRESUMED}),
}


class Review(StrEnum):
    """One held request."""

    HELD = "held"
    APPROVED = "approved"
    RESUMING = "resuming"
    RELEASED = "released"
    RESUME_FAILED = "resume_failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


REVIEW_MOVES: dict[Review, frozenset[Review]] = {
    # approved -> held: the policy's meaning changed, the votes are void
    # approved -> expired: nobody resumed in time
    # approved -> released: what was held is an answer, already paid for
    Review.HELD: frozenset({Review.APPROVED, Review.REJECTED, Review.EXPIRED, Review.CANCELLED}),
    Review.APPROVED: frozenset({Review.RESUMING, Review.RELEASED, Review.HELD, Review.EXPIRED, Review.CANCELLED}),
    Review.RESUMING: frozenset({Review.RELEASED, Review.RESUME_FAILED}),
    Review.RELEASED: frozenset(),
    Review.RESUME_FAILED: frozenset(),
    Review.REJECTED: frozenset(),
    Review.EXPIRED: frozenset(),
    Review.CANCELLED: frozenset(),
}


def sources(moves: dict[Leg, frozenset[Leg]] | dict[Review, frozenset[Review]], target: str) -> list[str]:
    """The states from which `target` can be reached, for the WHERE of an UPDATE."""
    return [state.value for state, targets in moves.items() if target in targets]

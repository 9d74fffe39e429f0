"""The state tables of legs and reviews. Code that changes a state asks here; docs are drawn from here.

A state machine is a table plus a look-up (`design.md` sections 5 and 6). The store puts the same
conditions into its UPDATE statements, so that two processes cannot both win.
"""

from __future__ import annotations

from enum import StrEnum


class LegState(StrEnum):
    """One attempt upstream and the money that it holds."""

    HELD = "held"
    SENT = "sent"
    SETTLED = "settled"
    RELEASED = "released"
    PRESUMED = "presumed"


LEG_MOVES: dict[LegState, frozenset[LegState]] = {
    LegState.HELD: frozenset({LegState.SENT, LegState.RELEASED}),
    LegState.SENT: frozenset({LegState.SETTLED, LegState.RELEASED, LegState.PRESUMED}),
    LegState.PRESUMED: frozenset({LegState.SETTLED, LegState.RELEASED}),
    LegState.SETTLED: frozenset(),
    # only where it was never marked as sent: what was used all the same is charged, late
    LegState.RELEASED: frozenset({LegState.SETTLED, LegState.PRESUMED}),
}


class ReviewState(StrEnum):
    """One held request."""

    HELD = "held"
    APPROVED = "approved"
    RESUMING = "resuming"
    RELEASED = "released"
    RESUME_FAILED = "resume_failed"
    REJECTED = "rejected"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


REVIEW_MOVES: dict[ReviewState, frozenset[ReviewState]] = {
    # approved -> held: the policy's meaning changed, the votes are void
    # approved -> expired: nobody resumed in time
    # approved -> released: what was held is an answer, already paid for
    ReviewState.HELD: frozenset(
        {ReviewState.APPROVED, ReviewState.REJECTED, ReviewState.EXPIRED, ReviewState.CANCELLED}
    ),
    ReviewState.APPROVED: frozenset(
        {ReviewState.RESUMING, ReviewState.RELEASED, ReviewState.HELD, ReviewState.EXPIRED, ReviewState.CANCELLED}
    ),
    ReviewState.RESUMING: frozenset({ReviewState.RELEASED, ReviewState.RESUME_FAILED}),
    ReviewState.RELEASED: frozenset(),
    ReviewState.RESUME_FAILED: frozenset(),
    ReviewState.REJECTED: frozenset(),
    ReviewState.EXPIRED: frozenset(),
    ReviewState.CANCELLED: frozenset(),
}


def sources(
    moves: dict[LegState, frozenset[LegState]] | dict[ReviewState, frozenset[ReviewState]], target: str
) -> list[str]:
    """The states from which `target` can be reached, for the WHERE of an UPDATE."""
    return [state.value for state, targets in moves.items() if target in targets]

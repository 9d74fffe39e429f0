"""An approval at the money: consumed with the reservation, ended with the leg. Both in one transaction."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from policyguard.flow.events import Event, EventType, event_id
from policyguard.flow.states import REVIEW_MOVES, LegState, ReviewState
from policyguard.flow.steps import NotResumable, Resume
from policyguard.store.db.sql import Rollback, Sql, SQLSteps, ask, us
from policyguard.store.record import event_queries

_CONSUME = Sql(
    """
    UPDATE reviews SET state = 'resuming', version = version + 1
    WHERE review_id = :review_id AND state = 'approved' AND policy_digest = :policy_digest AND due_us > :now
    RETURNING review_id
    """
)
_FINISH = Sql(
    """
    UPDATE reviews SET state = :into, version = version + 1 WHERE review_id = :review_id AND state = 'resuming'
    RETURNING review_id
    """
)
_STATE = Sql("SELECT state, due_us FROM reviews WHERE review_id = :review_id")
_OPEN = frozenset(state for state, targets in REVIEW_MOVES.items() if ReviewState.EXPIRED in targets)


def consume(step: Resume, now: datetime) -> SQLSteps[None]:
    """approved -> resuming, once. Raises `Rollback` with `NotResumable` where the approval is not there (any more)."""
    values = {"review_id": step.review_id, "policy_digest": step.policy_digest, "now": us(now)}
    if (yield from ask(_CONSUME, values)):
        return
    rows = yield from ask(_STATE, {"review_id": step.review_id})
    if not rows:
        raise Rollback(NotResumable(None))
    ((found, due_us),) = rows
    state = ReviewState(found)
    raise Rollback(NotResumable(ReviewState.EXPIRED if state in _OPEN and due_us <= us(now) else state))


def finish(review_id: str | None, leg: LegState, event: Event | None) -> SQLSteps[None]:
    """resuming -> released, or resume_failed where nothing was billed; a later end of the leg changes nothing."""
    if review_id is None:
        return
    ended = yield from ask(_FINISH, {"review_id": review_id, "into": _ended(leg).value})
    if ended and event is not None:
        yield event_queries((event,))


def ended_event(event: Event, review_id: str, leg: LegState) -> Event:
    """The review's row for a leg that ran out by itself, beside the leg's own `event`."""
    type_: EventType = "review.resume_failed" if leg is LegState.RELEASED else "review.released"
    return replace(
        event,
        id=event_id(type_, review_id),
        type=type_,
        leg_id=None,
        review_id=review_id,
        outcome=None,
        body={},
    )


def _ended(leg: LegState) -> ReviewState:
    return ReviewState.RESUME_FAILED if leg is LegState.RELEASED else ReviewState.RELEASED

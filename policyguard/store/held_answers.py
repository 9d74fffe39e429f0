"""Held answers: handed out once they are approved, destroyed once they are not wanted.

The answer stands in `private`, encrypted with the key of its subject, so that erasure and retention take it like
everything else; the review item says what may be done with it.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from sqlalchemy import Connection

from policyguard.flow.inspect import stored_id
from policyguard.flow.states import ReviewState
from policyguard.flow.steps import NotResumable, Release
from policyguard.store.cipher import Cipher
from policyguard.store.db.sql import Rollback, Sql, run, us
from policyguard.store.record import read_private, write_events

_RELEASE = Sql(
    """
    UPDATE reviews SET state = 'released', version = version + 1
    WHERE review_id = :review_id AND kind = 'output' AND due_us > :now
      AND (state = 'released' OR (state = 'approved' AND policy_digest = :policy_digest))
    RETURNING review_id
    """
)
_STATE = Sql("SELECT state FROM reviews WHERE review_id = :review_id AND kind = 'output'")
_DESTROY = Sql("DELETE FROM private WHERE id = :id")


def release(connection: Connection, step: Release, now: datetime, cipher: Cipher) -> bytes:
    """approved -> released with its events; again while the answer is kept. Raises `Rollback` with `NotResumable`."""
    values = {"review_id": step.review_id, "policy_digest": step.policy_digest, "now": us(now)}
    if run(connection, _RELEASE, values).first() is None:
        state = run(connection, _STATE, {"review_id": step.review_id}).scalar()
        raise Rollback(NotResumable(_ran_out(ReviewState(state)) if state is not None else None))
    found = read_private(connection, stored_id(step.review_id), cipher)
    if found is None:  # erased, or kept for fewer days
        raise Rollback(NotResumable(ReviewState.EXPIRED))
    write_events(connection, step.events)
    return found[1]


def _ran_out(state: ReviewState) -> ReviewState:
    return ReviewState.EXPIRED if state in (ReviewState.APPROVED, ReviewState.RELEASED) else state


def destroy(connection: Connection, review_ids: Iterable[str]) -> None:
    """What was rejected or ran out is gone with the decision."""
    for review_id in review_ids:
        run(connection, _DESTROY, {"id": stored_id(review_id)})

"""Votes: one named person's word on a held request, counted in the transaction that decides it.

Who may vote is checked after the update that locks the item: a reviewer of the item or of a level that is due, once in
a round, on the policy that they saw, and never on a request of their own. Pseudonyms tell, and as long as the
request is kept by how the names of its caller look, so that another spelling of a reviewer's name is no other person.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime
from typing import Any, Literal

import orjson
from sqlalchemy import Connection, Row

from policyguard.errors import PolicyguardError
from policyguard.flow.events import EventType
from policyguard.flow.states import ReviewState
from policyguard.store import held_answers
from policyguard.store.cipher import Cipher
from policyguard.store.db.sql import Sql, run, us
from policyguard.store.notes import Note
from policyguard.store.record import read_private, write_events
from policyguard.store.review import item_event, levels
from policyguard.text.identity import likeness, person

Ballot = Literal["approve", "reject"]
Code = Literal["unknown", "decided", "expired", "not_reviewer", "own_request", "voted", "changed"]


class ReviewConflict(PolicyguardError):
    """A vote that does not count. `code` says why in one word."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


# The update that changes nothing but the version locks the row, so that two votes cannot both miss the other.
_OPEN = Sql(
    """
    UPDATE reviews SET version = version + 1 WHERE review_id = :review_id AND state = 'held' AND due_us > :now
    RETURNING review_id, kind, "user", engineer, reviewers, escalate, round, policy_digest, approvals
    """
)
_WHY_NOT = Sql("SELECT state FROM reviews WHERE review_id = :review_id")
_INSERT_VOTE = Sql(
    """
    INSERT INTO review_votes (review_id, reviewer, round, verdict, at_us, note_id)
    VALUES (:review_id, :reviewer, :round, :verdict, :now, :note_id)
    ON CONFLICT (review_id, reviewer, round) DO NOTHING
    """
)
_COUNT = Sql(
    "SELECT COUNT(*) FROM review_votes WHERE review_id = :review_id AND round = :round AND verdict = 'approve'"
)
_ASKS = ("user", "engineer")  # the caller values that name a person
_DECIDE = Sql("UPDATE reviews SET state = :into WHERE review_id = :review_id AND state = 'held'")


def vote(
    connection: Connection,
    review_id: str,
    reviewer: str,
    verdict: Ballot,
    note: Note,
    policy_digest: str | None,
    now: datetime,
    cipher: Cipher,
) -> int | None:
    """Count one vote and decide the item where it is enough: any rejection, or as many approvals as are needed.

    `policy_digest` is what the reviewer saw, where the caller knows. Answers the days that the note is kept.
    Raises `ReviewConflict`.
    """
    row = run(connection, _OPEN, {"review_id": review_id, "now": us(now)}).first()
    if row is None:
        raise _not_open(connection, review_id)
    _may_vote(row, reviewer, policy_digest, now)
    if _is_own(connection, row, reviewer, cipher):
        raise ReviewConflict("own_request", "nobody decides a request of their own")
    values = {
        "review_id": review_id,
        "reviewer": note.pseudonym,
        "round": row.round,
        "verdict": verdict,
        "now": us(now),
        "note_id": note.id,
    }
    if run(connection, _INSERT_VOTE, values).rowcount == 0:
        raise ReviewConflict("voted", "you have voted on this request already")
    body = {"reviewer": note.pseudonym, "verdict": verdict, "round": row.round, "policy_digest": row.policy_digest}
    events = [item_event(connection, "review.voted", review_id, f"{row.round}:{note.pseudonym}", now, body)]
    count = run(connection, _COUNT, {"review_id": review_id, "round": row.round}).scalar_one()
    into = _decided(verdict, count, row.approvals)
    if into is not None:
        run(connection, _DECIDE, {"review_id": review_id, "into": into.value})
        if into is ReviewState.REJECTED:
            held_answers.destroy(connection, [review_id])
        type_: EventType = "review.approved" if into is ReviewState.APPROVED else "review.rejected"
        decided = {"approvals": count, "needed": row.approvals, "round": row.round, "policy_digest": row.policy_digest}
        events.append(item_event(connection, type_, review_id, str(row.round), now, decided))
    write_events(connection, events)
    return events[0].keep_days


def _decided(verdict: Ballot, approvals: int, needed: int) -> ReviewState | None:
    if verdict == "reject":
        return ReviewState.REJECTED
    return ReviewState.APPROVED if approvals >= needed else None


def _not_open(connection: Connection, review_id: str) -> ReviewConflict:
    state = run(connection, _WHY_NOT, {"review_id": review_id}).scalar()
    if state is None:
        return ReviewConflict("unknown", f"there is no review `{review_id}`")
    if state == ReviewState.HELD:
        return ReviewConflict("expired", "the time for this review is over")
    return ReviewConflict("decided", f"this review is {state} already")


def _may_vote(row: Row[Any], reviewer: str, policy_digest: str | None, now: datetime) -> None:
    due = [people for at, people in levels(row.escalate) if at <= now]
    named = {person(name) for people in (orjson.loads(row.reviewers), *due) for name in people}
    if person(reviewer) not in named:
        raise ReviewConflict("not_reviewer", "this request is not yours to decide")
    if policy_digest is not None and policy_digest != row.policy_digest:
        raise ReviewConflict("changed", "the policy has changed since you looked, look again")


def _is_own(connection: Connection, row: Row[Any], reviewer: str, cipher: Cipher) -> bool:
    if not {cipher.pseudonym(kind, reviewer) for kind in _ASKS}.isdisjoint((row.user, row.engineer)):
        return True
    asked = _caller(connection, f"{row.kind}:{row.review_id}", cipher)
    return likeness(reviewer) in {likeness(asked[kind]) for kind in _ASKS if kind in asked}


def _caller(connection: Connection, private_id: str, cipher: Cipher) -> dict[str, str]:
    """Who asked, by name, from the first line of what is kept encrypted; empty where nothing is kept any more."""
    found = read_private(connection, private_id, cipher)
    with suppress(ValueError, KeyError, TypeError):
        caller: dict[str, str] = orjson.loads((found[1] if found else b"").partition(b"\n")[0])["caller"]
        return caller
    return {}

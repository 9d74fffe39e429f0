"""Held requests: the items as they are stored, read, reopened, escalated and run out.

State changes are those of `REVIEW_MOVES`, each a conditional update with its event. No timeout ever approves. Votes
are in `votes`, what an approval is worth at the ledger in `approval`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection, Row, or_, select

from policyguard.flow.events import DIMENSIONS, Event, EventType, event_id
from policyguard.flow.states import REVIEW_MOVES, ReviewState
from policyguard.flow.steps import FindReview, Hold, Reopen, ReviewItem, Vote
from policyguard.store import held_answers
from policyguard.store.db import tables
from policyguard.store.db.sql import Query, Sql, SQLSteps, delete_after, insert, moment, run, us
from policyguard.store.notes import Opener
from policyguard.store.record import event_queries, sealed_of, to_json, write_events

BATCH = 100  # items in one transaction
_OPEN = [state.value for state, targets in REVIEW_MOVES.items() if ReviewState.EXPIRED in targets]

# ---- hold -------------------------------------------------------------------------------------------------

_COLUMNS = tuple(column.name for column in tables.reviews.columns)
_INSERT = insert("reviews", _COLUMNS, conflict="review_id")
_REOPEN = Sql(
    """
    UPDATE reviews SET state = 'held', round = round + 1, version = version + 1,
      policy_digest = :policy_digest, reasons = :reasons, approvals = :approvals, reviewers = :reviewers,
      escalate = :escalate, escalate_us = :escalate_us, level = 0, ceiling_micros = :ceiling, due_us = :due
    WHERE review_id = :review_id AND state = 'approved' AND due_us > :now
    """
)


def hold(step: Hold, now: datetime) -> SQLSteps[None]:
    """The item with its events; holding twice under one id is once."""
    yield [Query(_INSERT, _held_row(step)), *event_queries(step.events)]


def _held_row(step: Hold) -> dict[str, Any]:
    keep_days = step.events[0].keep_days if step.events else None
    dimensions = step.events[0].dimensions if step.events else {}
    return {
        "review_id": step.review_id,
        "decision_id": step.decision_id,
        "state": ReviewState.HELD.value,
        "kind": step.kind,
        **{name: dimensions.get(name) for name in DIMENSIONS},
        "surface": step.surface,
        "tenant": step.tenant,
        "user": step.user,
        "subject": step.subject,
        "request_digest": step.request_digest,
        "policy_digest": step.policy_digest,
        "reasons": to_json(step.reasons),
        "approvals": step.approvals,
        "reviewers": to_json(step.reviewers),
        "escalate": to_json([[us(at), people] for at, people in step.escalate]),
        "level": 0,
        "round": 1,
        "version": 1,
        "created_us": us(step.created_at),
        "due_us": us(step.due_at),
        "escalate_us": us(step.escalate[0][0]) if step.escalate else None,
        "ceiling_micros": step.ceiling_micros,
        "keep_days": keep_days,
        "delete_after_us": delete_after(step.due_at, keep_days),
    }


def reopen(connection: Connection, step: Reopen, now: datetime) -> bool:
    """approved -> held under a new policy digest; a new round, in which earlier votes do not count."""
    values = {
        "review_id": step.review_id,
        "policy_digest": step.policy_digest,
        "reasons": to_json(step.reasons),
        "approvals": step.approvals,
        "reviewers": to_json(step.reviewers),
        "escalate": to_json([[us(at), people] for at, people in step.escalate]),
        "escalate_us": us(step.escalate[0][0]) if step.escalate else None,
        "ceiling": step.ceiling_micros,
        "due": us(step.due_at),
        "now": us(now),
    }
    done = run(connection, _REOPEN, values).rowcount == 1
    if done:
        write_events(connection, (step.event,))
    return done


# ---- reading ----------------------------------------------------------------------------------------------


def find(connection: Connection, step: FindReview, now: datetime) -> ReviewItem | None:
    """The item for the flow, which does not ask who voted: reviewers stand as pseudonyms."""
    return item(connection, step.review_id, None)


def item(connection: Connection, review_id: str, opener: Opener | None) -> ReviewItem | None:
    reviews = tables.reviews
    row = connection.execute(select(reviews).where(reviews.c.review_id == review_id)).first()
    return _items(connection, [row], opener)[0] if row is not None else None


def items(
    connection: Connection, states: Iterable[str], limit: int, opener: Opener, now: datetime | None
) -> list[ReviewItem]:
    """Items in these states, the most urgent first; with `now` without those that wait for a sweep to expire them."""
    reviews = tables.reviews
    query = select(reviews).where(reviews.c.state.in_(list(states)))
    if now is not None:
        query = query.where(or_(reviews.c.state.not_in(_OPEN), reviews.c.due_us > us(now)))
    rows = connection.execute(query.order_by(reviews.c.due_us, reviews.c.review_id).limit(limit)).all()
    return _items(connection, rows, opener)


def _items(connection: Connection, rows: Sequence[Row[Any]], opener: Opener | None) -> list[ReviewItem]:
    votes = _votes(connection, [row.review_id for row in rows], opener)
    return [_item(row, tuple(votes.get(row.review_id, ()))) for row in rows]


def _item(row: Row[Any], votes: tuple[Vote, ...]) -> ReviewItem:
    return ReviewItem(
        review_id=row.review_id,
        decision_id=row.decision_id,
        state=ReviewState(row.state),
        surface=row.surface,
        tenant=row.tenant,
        user=row.user,
        subject=row.subject,
        request_digest=row.request_digest,
        policy_digest=row.policy_digest,
        reasons=tuple(orjson.loads(row.reasons)),
        approvals=row.approvals,
        reviewers=tuple(orjson.loads(row.reviewers)),
        escalate=levels(row.escalate),
        created_at=moment(row.created_us),
        due_at=moment(row.due_us),
        ceiling_micros=row.ceiling_micros,
        level=row.level,
        round=row.round,
        votes=votes,
        kind=row.kind,
    )


def levels(text: str) -> tuple[tuple[datetime, tuple[str, ...]], ...]:
    return tuple((moment(at), tuple(people)) for at, people in orjson.loads(text))


def _votes(connection: Connection, review_ids: Sequence[str], opener: Opener | None) -> dict[str, list[Vote]]:
    votes, private = tables.review_votes, tables.private
    query = (
        select(votes.c.review_id, votes.c.reviewer, votes.c.verdict, votes.c.round, votes.c.at_us, private)
        .join_from(votes, private, private.c.id == votes.c.note_id, isouter=True)
        .where(votes.c.review_id.in_(review_ids))
        .order_by(votes.c.review_id, votes.c.round, votes.c.at_us, votes.c.reviewer)
    )
    found: dict[str, list[Vote]] = {}
    for row in connection.execute(query).all() if review_ids else ():
        # without its note (erased, or kept for fewer days) a vote still counts, by its pseudonym
        name, words = (
            opener(connection, sealed_of(row)) if opener and row.ciphertext is not None else (row.reviewer, "")
        )
        vote = Vote(name, row.verdict, row.round, moment(row.at_us), words)
        found.setdefault(row.review_id, []).append(vote)
    return found


# ---- events ----------------------------------------------------------------------------------------------

_DIMENSIONS = Sql(
    "SELECT decision_id, keep_days, {dimensions} FROM reviews WHERE review_id = :review_id".replace(
        "{dimensions}", ", ".join(f'"{name}"' for name in DIMENSIONS)
    )
)


def item_event(
    connection: Connection, type_: EventType, review_id: str, which: str, now: datetime, body: dict[str, Any]
) -> Event:
    """A row about an item; `which` tells several of one type apart."""
    row = run(connection, _DIMENSIONS, {"review_id": review_id}).mappings().one()
    return Event(
        id=event_id(type_, f"{review_id}:{which}" if which else review_id),
        type=type_,
        at=now,
        decision_id=row["decision_id"],
        review_id=review_id,
        dimensions={name: row[name] for name in DIMENSIONS},
        body=body,
        keep_days=row["keep_days"],
    )


# ---- time -------------------------------------------------------------------------------------------------

_DUE = Sql(
    """
    SELECT review_id FROM reviews WHERE state IN ('held', 'approved') AND due_us <= :now ORDER BY due_us LIMIT :batch
    """
)
_EXPIRE = Sql(
    """
    UPDATE reviews SET state = 'expired', version = version + 1
    WHERE review_id = :review_id AND state IN ('held', 'approved') AND due_us <= :now
    """
)
_LATE = Sql(
    """
    SELECT review_id, round, level, escalate FROM reviews
    WHERE state = 'held' AND escalate_us <= :now ORDER BY escalate_us LIMIT :batch
    """
)
_ESCALATE = Sql(
    """
    UPDATE reviews SET level = :level, escalate_us = :next, version = version + 1
    WHERE review_id = :review_id AND state = 'held' AND level = :before
    """
)


def expire(connection: Connection, now: datetime) -> tuple[int, bool]:
    """Items past their time run out, approved ones as well: how many, and whether there may be more."""
    ids = run(connection, _DUE, {"now": us(now), "batch": BATCH}).scalars().all()
    done = [id_ for id_ in ids if run(connection, _EXPIRE, {"review_id": id_, "now": us(now)}).rowcount == 1]
    held_answers.destroy(connection, done)
    write_events(connection, [item_event(connection, "review.expired", id_, "", now, {}) for id_ in done])
    return len(done), len(ids) == BATCH


def escalate(connection: Connection, now: datetime) -> tuple[int, bool]:
    """Every level whose time has come fires once: how many, and whether there may be more."""
    rows = run(connection, _LATE, {"now": us(now), "batch": BATCH}).all()
    return sum(_escalate(connection, row, now) for row in rows), len(rows) == BATCH


def _escalate(connection: Connection, row: Row[Any], now: datetime) -> int:
    times = [at for at, _ in levels(row.escalate)]
    level = sum(at <= now for at in times)
    following = us(times[level]) if level < len(times) else None
    values = {"review_id": row.review_id, "before": row.level, "level": level, "next": following}
    if run(connection, _ESCALATE, values).rowcount == 0:
        return 0
    fired = range(row.level + 1, level + 1)
    write_events(
        connection,
        [
            item_event(connection, "review.escalated", row.review_id, f"{row.round}:{n}", now, {"level": n})
            for n in fired
        ],
    )
    return len(fired)

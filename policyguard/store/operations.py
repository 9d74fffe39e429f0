"""Which operation performs which step of the flow, and the private rows that are written with it.

What an operation does is in the module of its subject; here is only the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from policyguard.errors import PolicyguardError
from policyguard.flow.steps import (
    CheckPaused,
    FindReview,
    Hold,
    NotResumable,
    OverBudget,
    Record,
    Reopen,
    Reserve,
    Settle,
    Step,
    UpstreamDown,
)
from policyguard.store import ledger, pauses, record, refusals, review
from policyguard.store.db.group import GroupWork
from policyguard.store.db.sql import SQLSteps, Together
from policyguard.store.subjects import Envelope

StoreOperation = Callable[[Connection, Any, datetime], Any]
Sealing = Sequence[tuple[Envelope, int | None]]  # rows to be encrypted, and the days that each is kept

READS: Mapping[type, StoreOperation] = {CheckPaused: pauses.check, FindReview: review.find}
_WRITES: Mapping[type, StoreOperation] = {Reopen: review.reopen}
TOGETHER: Mapping[type, Callable[[Any, datetime], SQLSteps[Any]]] = {
    Reserve: ledger.reserve,
    Record: refusals.record_refusal,
    Settle: ledger.settle,
    Hold: review.hold,
}
_UNCHANGED = (OverBudget, NotResumable, UpstreamDown, ledger.Due)


def work(step: Step, now: datetime, sealed: Sealing) -> GroupWork:
    """What the writer runs for a step."""
    kind = type(step)
    if kind in TOGETHER:
        return Together(lambda: _with_private(TOGETHER[kind](step, now), sealed, now))
    if kind not in _WRITES:
        raise PolicyguardError(f"the store does not perform {kind.__name__}")
    return lambda c: _perform(c, _WRITES[kind], step, now, sealed)


def reserve_swept(step: Reserve, now: datetime, sealed: Sealing) -> GroupWork:
    """A reservation once more, after legs that ran out were swept."""
    return Together(lambda: _with_private(ledger.reserve_swept(step, now), sealed, now))


def sent(leg_id: str, expires_at: datetime, now: datetime) -> Together[bool]:
    return Together(lambda: ledger.mark_sent(leg_id, expires_at, now))


def _with_private(steps: SQLSteps[Any], sealed: Sealing, now: datetime) -> SQLSteps[Any]:
    answer = yield from steps
    if sealed and not isinstance(answer, _UNCHANGED):
        yield from record.private_steps(sealed, now)
    return answer


def _perform(connection: Connection, operation: StoreOperation, step: Step, now: datetime, sealed: Sealing) -> Any:
    answer = operation(connection, step, now)
    record.write_private(connection, sealed, now)
    return answer

"""The ledger: budget windows and legs. Reserve, mark as sent, end.

Nothing is read, decided and then written: a condition stands in the statement that changes a row, and what comes back
decides. So the sums hold whoever else writes: `reserved` is the sum over live legs, `spent` the sum of what legs
were charged, and `spent + reserved` never exceeds the limit of an enforced budget but for a cost above its ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast

import orjson

from policyguard.errors import PolicyguardError
from policyguard.flow.events import DIMENSIONS, Event
from policyguard.flow.states import LEG_MOVES, LegState, sources
from policyguard.flow.steps import Charge, OverBudget, Reserve, Reserved, Settle, Settled, UpstreamDown
from policyguard.store import alerts, approval, breaker, review
from policyguard.store.alerts import WindowRow
from policyguard.store.db.sql import DAY_US, ByKey, Query, Rollback, Sql, SQLSteps, ask, insert, moment, us
from policyguard.store.record import event_queries, to_json
from policyguard.store.windows import charge_rows, in_order, move, take


class Due:
    """Answer of `reserve`: legs have run out, sweep them first."""


DUE: Final = Due()

# ---- reserve ----------------------------------------------------------------------------------------------

_LEG_COLUMNS = (
    "leg_id",
    "decision_id",
    "review_id",
    "state",
    "ceiling_micros",
    "charged_micros",
    "presumed_micros",
    "created_us",
    "sent_us",
    "expires_us",
    *DIMENSIONS,
    "model",
    "size",
    "quality",
    "n",
    "over_budgets",
    "keep_days",
    "delete_after_us",
    "upstream",
    "probe",
)
_INSERT_LEG = insert("legs", _LEG_COLUMNS)
_INSERT_CHARGE = insert("leg_charges", ("leg_id", "key", "starts_us", "amount"))
_ANY_DUE = Sql("SELECT leg_id FROM legs WHERE state IN ('held', 'sent') AND expires_us <= :due LIMIT 1")
_NEVER = -1  # a due time that no leg has reached
_FIRST_OVER = Sql("SELECT over_budgets FROM legs WHERE leg_id = :leg_id")
_BALANCE = Sql("SELECT spent, reserved FROM budget_windows WHERE key = :key AND starts_us = :starts_us")


ReserveAnswer = Reserved | OverBudget | UpstreamDown | Due


def reserve(step: Reserve, now: datetime) -> SQLSteps[ReserveAnswer]:
    """Take every charge, write leg and event, consume the approval; where any of it cannot be, nothing is changed.

    Answers `DUE` where legs have run out whose money is free again.
    """
    return _reserve(step, now, us(now))


def reserve_swept(step: Reserve, now: datetime) -> SQLSteps[ReserveAnswer]:
    """`reserve` after a sweep: what is due is not looked at again."""
    return _reserve(step, now, _NEVER)


def _reserve(step: Reserve, now: datetime, due: int) -> SQLSteps[ReserveAnswer]:
    charges = in_order(step.charges)
    taken = yield from _taken(step, charges, due, step.upstream)
    if not taken:
        not_taken = yield from _not_taken(step, charges, now, due)
        if not_taken is not None and not isinstance(not_taken, breaker.ProbePermit):
            return not_taken
        return (yield from _as_probe(step, charges, now, due, probe=not_taken is not None))
    return (yield from _with_taken(step, charges, taken, now, probe=False))


def _as_probe(
    step: Reserve, charges: Sequence[Charge], now: datetime, due: int, *, probe: bool
) -> SQLSteps[ReserveAnswer]:
    """What the breaker lets through, and a request without budgets."""
    taken = yield from _taken(step, charges, due, None)
    if charges and not taken:
        raise Rollback((yield from _over_budget(charges)))
    return (yield from _with_taken(step, charges, taken, now, probe=probe))


def _taken(step: Reserve, charges: Sequence[Charge], due: int, upstream: str | None) -> SQLSteps[Sequence[WindowRow]]:
    """The windows from which it was taken, in the order of the charges."""
    if not charges:
        return ()
    rows = charge_rows(charges)
    values = {"leg_id": step.leg_id, "charges": rows, "due": due, "upstream": upstream}
    (windows,) = yield [Query(take, values)]
    return cast(Sequence[WindowRow], windows)


def _with_taken(
    step: Reserve, charges: Sequence[Charge], taken: Sequence[WindowRow], now: datetime, *, probe: bool
) -> SQLSteps[ReserveAnswer]:
    pairs = list(zip(charges, taken, strict=True))
    over = tuple(c.budget_id for c, w in pairs if c.mode == "shadow" and w.used > c.limit)
    events = event_queries((step.event,), budgets=[_budget_row(c, w) for c, w in pairs])
    written = [Query(_INSERT_CHARGE, _charge_row(step.leg_id, c, w)) for c, w in pairs]
    yield [Query(_INSERT_LEG, _leg_row(step, over, now, probe=probe)), *written, *events]
    if step.review is not None:
        yield from approval.consume(step.review, now)
        yield event_queries((step.review.event,))
    return Reserved(over, (yield from alerts.reached(taken, now, step.event.keep_days)))


def _not_taken(
    step: Reserve, charges: Sequence[Charge], now: datetime, due: int
) -> SQLSteps[ReserveAnswer | breaker.ProbePermit | None]:
    """Why nothing was taken; `PROBE` where it may go on all the same, None for a request without budgets."""
    first, any_due = yield [Query(_FIRST_OVER, {"leg_id": step.leg_id}), Query(_ANY_DUE, {"due": due})]
    if any_due:
        return DUE
    if first:
        return Reserved(tuple(orjson.loads(first[0][0] or "[]")))
    if step.upstream is not None:
        passes = yield from breaker.admit(step.upstream, now)
        if passes is not None:
            return passes
    return (yield from _over_budget(charges)) if charges else None


def _leg_row(step: Reserve, over: Sequence[str], now: datetime, *, probe: bool) -> dict[str, Any]:
    fact = step.facts.get
    keep_days, now_us = fact("keep_days"), us(now)
    return {
        "leg_id": step.leg_id,
        "decision_id": step.event.decision_id,
        "review_id": step.review.review_id if step.review else None,
        "state": "sent" if step.sent_until else "held",
        "ceiling_micros": step.ceiling_micros,
        "charged_micros": 0,
        "presumed_micros": 0,
        "created_us": now_us,
        "sent_us": now_us if step.sent_until else None,
        "expires_us": us(step.sent_until or step.expires_at),
        **{name: fact(name) for name in DIMENSIONS},
        "model": fact("model"),
        "size": fact("size"),
        "quality": fact("quality"),
        "n": fact("n") or 1,
        "over_budgets": to_json(over) if over else None,
        "keep_days": keep_days,
        "delete_after_us": now_us + keep_days * DAY_US if isinstance(keep_days, int) else None,
        "upstream": step.upstream,
        "probe": int(probe),
    }


def _charge_row(leg_id: str, charge: Charge, window: WindowRow) -> dict[str, Any]:
    return {"leg_id": leg_id, "key": charge.key, "starts_us": window.starts_us, "amount": charge.amount}


def _over_budget(charges: Sequence[Charge]) -> SQLSteps[OverBudget]:
    """The first charge without room; where they all have some by now, the first."""
    balances = yield [Query(_BALANCE, {"key": c.key, "starts_us": us(c.local)}) for c in charges]
    answers = [OverBudget(c, *(rows[0] if rows else (0, 0))) for c, rows in zip(charges, balances, strict=True)]
    return next((a for a in answers if _is_over(a)), answers[0])


def _is_over(answer: OverBudget) -> bool:
    charge = answer.charge
    return charge.mode != "shadow" and answer.spent + answer.reserved + charge.amount > charge.limit


def _budget_row(charge: Charge, window: WindowRow) -> dict[str, Any]:
    return {
        "id": charge.budget_id,
        "window": moment(window.opens_us).isoformat(),
        "before": window.used - charge.amount,
        "after": window.used,
        "limit": charge.limit,
        "unit": charge.unit,
        "mode": charge.mode,
    }


# ---- sent -------------------------------------------------------------------------------------------------

_SEND = Sql(
    """
    UPDATE legs SET state = 'sent', sent_us = v.now, expires_us = v.expires
    FROM ROWS(rows: leg_id TEXT, now BIGINT, expires BIGINT) AS v
    WHERE legs.leg_id = v.leg_id AND legs.state = 'held' AND legs.expires_us > v.now
    RETURNING legs.leg_id
    """
)
_RENEW = Sql("UPDATE legs SET expires_us = :expires WHERE leg_id = :leg_id AND state = 'sent' RETURNING leg_id")


def mark_sent(leg_id: str, expires_at: datetime, now: datetime) -> SQLSteps[bool]:
    """Only an unexpired held leg may be sent, and only once."""
    return bool((yield from ask(ByKey("leg_id", _SEND), {"leg_id": leg_id, "expires": us(expires_at), "now": us(now)})))


def renew(leg_id: str, expires_at: datetime) -> SQLSteps[bool]:
    """More time for a leg that still lives upstream."""
    return bool((yield from ask(_RENEW, {"leg_id": leg_id, "expires": us(expires_at)})))


# ---- the end of a leg -------------------------------------------------------------------------------------

_END = Sql(
    """
    UPDATE legs SET state = v.target, ended_us = v.now, fault_us = v.fault,
      sent_us = CASE WHEN state = 'released' THEN v.now ELSE sent_us END,
      charged_micros = COALESCE(v.charge, ceiling_micros),
      presumed_micros = CASE WHEN v.presumes = 1 THEN COALESCE(v.charge, ceiling_micros) ELSE presumed_micros END
    FROM ROWS(rows: leg_id TEXT, source TEXT, target TEXT, charge BIGINT, presumes BIGINT, now BIGINT, due BIGINT,
      fault BIGINT) AS v
    WHERE legs.leg_id = v.leg_id AND state = v.source AND expires_us <= v.due
      AND (state <> 'released' OR sent_us IS NULL)
    RETURNING legs.leg_id, ceiling_micros, charged_micros, presumed_micros, review_id, upstream, probe
    """
)
# What was used without having been marked as sent was sent all the same.
_SENT_UNSAID = Sql("UPDATE legs SET state = 'sent', sent_us = :now WHERE leg_id = :leg_id AND state = 'held'")
_LEG = Sql("SELECT state, charged_micros, ceiling_micros FROM legs WHERE leg_id = :leg_id")
WHENEVER = 2**62  # a due time that every leg has reached

# From where an end can be reached, the usual way first.
_SOURCES: Mapping[LegState, list[str]] = {
    into: sorted(sources(LEG_MOVES, into), key=lambda source: source != LegState.SENT)
    for into in (LegState.SETTLED, LegState.RELEASED, LegState.PRESUMED)
}


@dataclass(frozen=True, slots=True)
class Ended:
    """What a leg ended with."""

    ceiling_micros: int
    charged_micros: int
    review_id: str | None
    windows: Sequence[WindowRow]  # as they are after it
    opened: str | None  # the upstream whose breaker it has opened


def settle(step: Settle, now: datetime) -> SQLSteps[Settled]:
    """End a leg once; every further call answers the first end. With it goes what was found in the answer."""
    settled = yield from _settle(step, now)
    if step.inspected is not None:
        yield event_queries((step.inspected,))
    if step.hold is not None:
        yield from review.hold(step.hold, now)
    return settled


def _settle(step: Settle, now: datetime) -> SQLSteps[Settled]:
    ended = yield from _end_as(step, LegState.SENT, now)
    if ended is None:
        ended = yield from _settle_late(step, now)
    if ended is not None:
        yield from approval.finish(ended.review_id, step.state, step.review_event)
        told = yield from alerts.reached(ended.windows, now, step.event.keep_days)
        return Settled(step.state, ended.charged_micros, ended.ceiling_micros, True, told, ended.opened)
    rows = yield from ask(_LEG, {"leg_id": step.leg_id})
    if not rows:
        raise PolicyguardError(f"there is no leg `{step.leg_id}` to settle")
    ((state, charged, ceiling),) = rows
    return Settled(LegState(state), charged, ceiling, changed=False)


def _settle_late(step: Settle, now: datetime) -> SQLSteps[Ended | None]:
    """A leg that is not upstream: never said to be sent, presumed already, or released without having been sent."""
    if step.state is not LegState.RELEASED:
        yield [Query(_SENT_UNSAID, {"leg_id": step.leg_id, "now": us(now)})]
    for source in _SOURCES[step.state]:
        ended = yield from _end_as(step, LegState(source), now)
        if ended is not None:
            return ended
    return None


def _end_as(step: Settle, source: LegState, now: datetime) -> SQLSteps[Ended | None]:
    return end_leg(step.leg_id, source, step.state, step.charge_micros, now, step.event, answered=step.answered)


def end_leg(
    leg_id: str,
    source: LegState,
    into: LegState,
    charge: int | None,
    now: datetime,
    event: Event | None = None,
    *,
    due: int = WHENEVER,
    answered: bool | None = None,
) -> SQLSteps[Ended | None]:
    """Move one leg from `source` to its end, and its money with it; None where it is not there (any more)."""
    values = {
        "leg_id": leg_id,
        "source": source.value,
        "target": into.value,
        "charge": 0 if into is LegState.RELEASED else charge,
        "presumes": int(into is LegState.PRESUMED),
        "now": us(now),
        "due": due,
        "fault": us(now) if answered is False else None,
    }
    rows = yield from ask(ByKey("leg_id", _END), values)
    if not rows:
        return None
    ((ceiling, charged, presumed, review_id, upstream, probe),) = rows
    opened = False
    if upstream is not None:
        opened = yield from breaker.note(upstream, answered, bool(probe), now)
    late = source is LegState.PRESUMED
    released = into is LegState.RELEASED
    money = {
        "leg_id": leg_id,
        "live": int(source not in (LegState.PRESUMED, LegState.RELEASED)),
        "usd": charged - presumed if late else charged,
        "images": -int(released) if late else int(not released),
    }
    moved, *_ = yield [Query(move, money), *event_queries(() if event is None else (event,))]
    return Ended(ceiling, charged, review_id, cast(Sequence[WindowRow], moved), upstream if opened else None)

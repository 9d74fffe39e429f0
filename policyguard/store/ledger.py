"""The ledger: budget windows and legs. Reserve, mark as sent, end.

Nothing is read, decided and then written: a condition stands in the statement that changes a row, and what comes back
decides. So the sums hold whoever else writes: `reserved` is the sum over live legs, `spent` the sum of what legs
were charged, and `spent + reserved` never exceeds the limit of an enforced budget but for a cost above its ceiling.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NoReturn

import orjson
from sqlalchemy import Connection, Row

from policyguard.errors import PolicyguardError
from policyguard.events import DIMENSIONS
from policyguard.states import LEG_MOVES, Leg, sources
from policyguard.steps import Charge, OverBudget, Reserve, Reserved, Settle, Settled
from policyguard.store import alerts, approval, breaker
from policyguard.store.record import to_json, write_events
from policyguard.store.sql import Rollback, Sql, delete_after, insert, run, us


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
    "expires_us",
    *DIMENSIONS,
    "model",
    "size",
    "quality",
    "n",
    "keep_days",
    "delete_after_us",
    "upstream",
)
_INSERT_LEG = insert("legs", _LEG_COLUMNS, conflict="leg_id")
_INSERT_CHARGE = insert("leg_charges", ("leg_id", "key", "starts_us", "amount"))
_LOOK = Sql(
    """
    SELECT (SELECT leg_id FROM legs WHERE state IN ('held', 'sent') AND expires_us <= :now LIMIT 1) AS due,
      (SELECT open_until_us FROM breakers WHERE upstream = :upstream) AS open_until
    """
)
_OVER = Sql("UPDATE legs SET over_budgets = :over WHERE leg_id = :leg_id")
_FIRST_OVER = Sql("SELECT over_budgets FROM legs WHERE leg_id = :leg_id")
_BALANCE = Sql("SELECT spent, reserved FROM budget_windows WHERE key = :key AND starts_us = :starts_us")


@lru_cache(maxsize=64)
def _take(count: int) -> Sql:
    """Take `count` charges where there is room, making windows as needed. A charge without room returns no row.

    One statement for all: rows are written, and on PostgreSQL locked, in the order of the list, which is that of keys.
    """
    rows = ", ".join(
        f"(:key{i}, CAST(:starts{i} AS BIGINT), CAST(:ends{i} AS BIGINT), :budget{i}, :unit{i}, :mode{i},"
        f" CAST(:limit{i} AS BIGINT), CAST(:amount{i} AS BIGINT), CAST(:alert{i} AS TEXT))"
        for i in range(count)
    )
    return Sql(
        """
        INSERT INTO budget_windows
          (key, starts_us, ends_us, budget_id, unit, mode, limit_amount, reserved, spent, alert_at, alerted)
        SELECT column1, column2, column3, column4, column5, column6, column7, column8, 0, column9, 0
        FROM (VALUES {rows}) AS charge
        WHERE column8 <= column7 OR column6 = 'shadow'
        ON CONFLICT (key, starts_us) DO UPDATE SET
          reserved = budget_windows.reserved + excluded.reserved,
          limit_amount = excluded.limit_amount, mode = excluded.mode, ends_us = excluded.ends_us,
          alert_at = excluded.alert_at
        WHERE excluded.mode = 'shadow'
          OR budget_windows.spent + budget_windows.reserved + excluded.reserved <= excluded.limit_amount
        RETURNING {columns}
        """.replace("{rows}", rows).replace("{columns}", alerts.COLUMNS)
    )


def reserve(connection: Connection, step: Reserve, now: datetime) -> Reserved | Due:
    """`reserve_swept`, unless legs have run out whose money is free again: then nothing but `DUE`."""
    look = _look(connection, step, now)
    return DUE if look.due is not None else _reserve(connection, step, look.open_until, now)


def reserve_swept(connection: Connection, step: Reserve, now: datetime) -> Reserved:
    """Take every charge, write leg and event, consume the approval; raises `Rollback` where any of it cannot be."""
    return _reserve(connection, step, _look(connection, step, now).open_until, now)


def _look(connection: Connection, step: Reserve, now: datetime) -> Row[Any]:
    return run(connection, _LOOK, {"now": us(now), "upstream": step.upstream}).one()


def _reserve(connection: Connection, step: Reserve, open_until: int | None, now: datetime) -> Reserved:
    if run(connection, _INSERT_LEG, _leg_row(step, now)).rowcount == 0:
        first = run(connection, _FIRST_OVER, {"leg_id": step.leg_id}).scalar()
        return Reserved(tuple(orjson.loads(first or "[]")))
    if open_until is not None and step.upstream is not None:
        breaker.admit(connection, step.leg_id, step.upstream, open_until, now)
    if step.review is not None:
        approval.consume(connection, step.review, now)
    charges = sorted(step.charges, key=lambda charge: charge.key)
    windows = _take_charges(connection, step.leg_id, charges)
    balances = {window.key: (window.spent, window.reserved) for window in windows}
    over = tuple(c.budget_id for c in charges if c.mode == "shadow" and sum(balances[c.key]) > c.limit)
    if over:
        run(connection, _OVER, {"over": to_json(over), "leg_id": step.leg_id})
    write_events(connection, (step.event,), budgets=[_budget_row(c, balances[c.key]) for c in charges])
    if step.review is not None:
        write_events(connection, (step.review.event,))
    return Reserved(over, alerts.reached(connection, windows, now, step.event.keep_days))


def _leg_row(step: Reserve, now: datetime) -> dict[str, Any]:
    fact = step.facts.get
    keep_days = fact("keep_days")
    return {
        "leg_id": step.leg_id,
        "decision_id": step.event.decision_id,
        "review_id": step.review.review_id if step.review else None,
        "state": "held",
        "ceiling_micros": step.ceiling_micros,
        "charged_micros": 0,
        "presumed_micros": 0,
        "created_us": us(now),
        "expires_us": us(step.expires_at),
        **{name: fact(name) for name in DIMENSIONS},
        "model": fact("model"),
        "size": fact("size"),
        "quality": fact("quality"),
        "n": fact("n") or 1,
        "keep_days": keep_days,
        "delete_after_us": delete_after(now, keep_days if isinstance(keep_days, int) else None),
        "upstream": step.upstream,
    }


def _take_charges(connection: Connection, leg_id: str, charges: Sequence[Charge]) -> Sequence[Row[Any]]:
    """The windows, this reservation included."""
    if not charges:
        return ()
    taken = run(connection, _take(len(charges)), _take_values(charges)).all()
    if len(taken) != len(charges):
        keys = {window.key for window in taken}
        _over_budget(connection, next(c for c in charges if c.key not in keys))
    rows = [{"leg_id": leg_id, "key": c.key, "starts_us": us(c.starts), "amount": c.amount} for c in charges]
    run(connection, _INSERT_CHARGE, rows)
    return taken


def _take_values(charges: Sequence[Charge]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for i, charge in enumerate(charges):
        values[f"key{i}"] = charge.key
        values[f"starts{i}"] = us(charge.starts)
        values[f"ends{i}"] = us(charge.ends) if charge.ends else None
        values[f"budget{i}"] = charge.budget_id
        values[f"unit{i}"] = charge.unit
        values[f"mode{i}"] = charge.mode
        values[f"limit{i}"] = charge.limit
        values[f"amount{i}"] = charge.amount
        values[f"alert{i}"] = alerts.per_cents(charge)
    return values


def _over_budget(connection: Connection, charge: Charge) -> NoReturn:
    key = {"key": charge.key, "starts_us": us(charge.starts)}
    row = run(connection, _BALANCE, key).first()
    raise Rollback(OverBudget(charge, row.spent, row.reserved) if row else OverBudget(charge, 0, 0))


def _budget_row(charge: Charge, balance: tuple[int, int]) -> dict[str, Any]:
    after = sum(balance)
    return {
        "id": charge.budget_id,
        "window": charge.starts.isoformat(),
        "before": after - charge.amount,
        "after": after,
        "limit": charge.limit,
        "unit": charge.unit,
        "mode": charge.mode,
    }


# ---- sent -------------------------------------------------------------------------------------------------

_SEND = Sql(
    """
    UPDATE legs SET state = 'sent', sent_us = :now, expires_us = :expires
    WHERE leg_id = :leg_id AND state = 'held' AND expires_us > :now
    """
)
_RENEW = Sql("UPDATE legs SET expires_us = :expires WHERE leg_id = :leg_id AND state = 'sent'")


def mark_sent(connection: Connection, leg_id: str, expires_at: datetime, now: datetime) -> bool:
    """Only an unexpired held leg may be sent, and only once."""
    values = {"leg_id": leg_id, "expires": us(expires_at), "now": us(now)}
    return run(connection, _SEND, values).rowcount == 1


def renew(connection: Connection, leg_id: str, expires_at: datetime) -> bool:
    """More time for a leg that still lives upstream."""
    return run(connection, _RENEW, {"leg_id": leg_id, "expires": us(expires_at)}).rowcount == 1


# ---- the end of a leg -------------------------------------------------------------------------------------

_END = Sql(
    """
    UPDATE legs SET state = :into, ended_us = :now, fault_us = CAST(:fault AS BIGINT),
      sent_us = CASE WHEN state = 'released' THEN :now ELSE sent_us END,
      charged_micros = COALESCE(CAST(:charge AS BIGINT), ceiling_micros),
      presumed_micros = CASE WHEN :presumes = 1
        THEN COALESCE(CAST(:charge AS BIGINT), ceiling_micros) ELSE presumed_micros END
    WHERE leg_id = :leg_id AND state = :source AND expires_us <= :due AND (state <> 'released' OR sent_us IS NULL)
    RETURNING ceiling_micros, charged_micros, presumed_micros, review_id, upstream, probe
    """
)
# What was used without having been marked as sent was sent all the same.
_SENT_UNSAID = Sql("UPDATE legs SET state = 'sent', sent_us = :now WHERE leg_id = :leg_id AND state = 'held'")
# `usd` and `images` are what goes into spent, `live` is 1 where the money was still reserved.
_MOVE = Sql(
    """
    UPDATE budget_windows SET
      reserved = budget_windows.reserved - c.amount * :live,
      spent = budget_windows.spent + CASE WHEN budget_windows.unit = 'usd' THEN :usd ELSE c.amount * :images END
    FROM leg_charges AS c
    WHERE c.leg_id = :leg_id AND c.key = budget_windows.key AND c.starts_us = budget_windows.starts_us
    RETURNING {columns}
    """.replace("{columns}", ", ".join(f"budget_windows.{name}" for name in alerts.COLUMNS.split(", ")))
)
_LEG = Sql("SELECT state, charged_micros, ceiling_micros FROM legs WHERE leg_id = :leg_id")
_WHENEVER = 2**62  # a due time that every leg has reached

# From where an end can be reached, the usual way first.
_SOURCES: Mapping[Leg, list[str]] = {
    into: sorted(sources(LEG_MOVES, into), key=lambda source: source != Leg.SENT)
    for into in (Leg.SETTLED, Leg.RELEASED, Leg.PRESUMED)
}


@dataclass(frozen=True, slots=True)
class Ended:
    """What a leg ended with."""

    ceiling_micros: int
    charged_micros: int
    review_id: str | None
    windows: Sequence[Row[Any]]  # as they are after it
    opened: str | None  # the upstream whose breaker it has opened


def settle(connection: Connection, step: Settle, now: datetime) -> Settled:
    """End a leg once; every further call answers the first end."""
    if step.state is not Leg.RELEASED:
        run(connection, _SENT_UNSAID, {"leg_id": step.leg_id, "now": us(now)})
    for source in _SOURCES[step.state]:
        ended = end_leg(
            connection, step.leg_id, Leg(source), step.state, step.charge_micros, now, answered=step.answered
        )
        if ended is not None:
            write_events(connection, (step.event,))
            approval.finish(connection, ended.review_id, step.state, step.review_event)
            told = alerts.reached(connection, ended.windows, now, step.event.keep_days)
            return Settled(step.state, ended.charged_micros, ended.ceiling_micros, True, told, ended.opened)
    row = run(connection, _LEG, {"leg_id": step.leg_id}).first()
    if row is None:
        raise PolicyguardError(f"there is no leg `{step.leg_id}` to settle")
    return Settled(Leg(row.state), row.charged_micros, row.ceiling_micros, changed=False)


def end_leg(
    connection: Connection,
    leg_id: str,
    source: Leg,
    into: Leg,
    charge: int | None,
    now: datetime,
    *,
    due: int = _WHENEVER,
    answered: bool | None = None,
) -> Ended | None:
    """Move one leg from `source` to its end, and its money with it; None where it is not there (any more)."""
    values = {
        "leg_id": leg_id,
        "source": source.value,
        "into": into.value,
        "charge": 0 if into is Leg.RELEASED else charge,
        "presumes": int(into is Leg.PRESUMED),
        "now": us(now),
        "due": due,
        "fault": us(now) if answered is False else None,
    }
    row = run(connection, _END, values).first()
    if row is None:
        return None
    opened = answered is not None and row.upstream is not None
    opened = opened and breaker.note(connection, row.upstream, bool(answered), bool(row.probe), now)
    late = source is Leg.PRESUMED
    released = into is Leg.RELEASED
    money = {
        "leg_id": leg_id,
        "live": int(source not in (Leg.PRESUMED, Leg.RELEASED)),
        "usd": row.charged_micros - row.presumed_micros if late else row.charged_micros,
        "images": -int(released) if late else int(not released),
    }
    windows = run(connection, _MOVE, money).all()
    return Ended(row.ceiling_micros, row.charged_micros, row.review_id, windows, row.upstream if opened else None)

"""The breaker: an upstream that fails too often is left alone for a while, so that an outage eats no budget.

Faults are counted in the rows of the legs that ended with them, so every process counts the same ones, and the count
needs no reset. What opens, closes or passes it is decided by the statement that writes it, whoever else writes.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Final

from policyguard.flow.events import Event, EventType, event_id
from policyguard.flow.steps import UpstreamDown
from policyguard.store.db.sql import Query, Sql, SQLSteps, ask, moment, us
from policyguard.store.record import event_queries

FAULTS: Final = 20  # more than so many
WITHIN: Final = timedelta(minutes=1)
OPEN_FOR: Final = timedelta(seconds=30)
PROBES: Final = 3  # at a time, when it was open for long enough
PROBE_FOR: Final = timedelta(minutes=1)  # those without an answer make room for the next
ASK_AGAIN: Final = timedelta(seconds=5)  # while probes are under way


class ProbePermit:
    """Answer of `admit`: it may pass, to see whether the upstream is up again."""


PROBE: Final = ProbePermit()

_STATE = Sql("SELECT open_until_us FROM breakers WHERE upstream = :upstream AND open_until_us IS NOT NULL")
_PASS = Sql(
    """
    UPDATE breakers SET
      probes = CASE WHEN probing_us > :past THEN probes + 1 ELSE 1 END,
      probing_us = CASE WHEN probing_us > :past THEN probing_us ELSE :now END
    WHERE upstream = :upstream AND open_until_us <= :now AND (probes < :most OR probing_us <= :past)
    RETURNING probes
    """
)
_GIVE_BACK = Sql("UPDATE breakers SET probes = probes - 1 WHERE upstream = :upstream AND probes > 0")
_NOTE = Sql(
    """
    INSERT INTO breakers (upstream, since_us, open_until_us, probes) VALUES (:upstream, 0, NULL, 0)
    ON CONFLICT (upstream) DO UPDATE SET since_us = breakers.since_us
    RETURNING since_us
    """
)
_FAULTS = Sql("SELECT count(*) FROM legs WHERE upstream = :upstream AND fault_us > :since AND fault_us IS NOT NULL")
_OPEN = Sql(
    """
    UPDATE breakers SET open_until_us = :until, probes = 0, probing_us = NULL
    WHERE upstream = :upstream AND (open_until_us IS NULL OR open_until_us <= :now)
    RETURNING upstream
    """
)
_CLOSE = Sql(
    """
    UPDATE breakers SET open_until_us = NULL, since_us = :now, probes = 0, probing_us = NULL
    WHERE upstream = :upstream AND open_until_us IS NOT NULL
    RETURNING upstream
    """
)


def admit(upstream: str, now: datetime) -> SQLSteps[ProbePermit | UpstreamDown | None]:
    """Whether a leg may pass to an upstream whose breaker may not be closed; None where it is."""
    rows = yield from ask(_STATE, {"upstream": upstream})
    if not rows:
        return None
    ((open_until,),) = rows
    if us(now) < open_until:
        return UpstreamDown(upstream, moment(open_until))
    values = {"upstream": upstream, "now": us(now), "past": us(now - PROBE_FOR), "most": PROBES}
    if (yield from ask(_PASS, values)):
        return PROBE
    return UpstreamDown(upstream, now + ASK_AGAIN)


def note(upstream: str, answered: bool | None, probe: bool, now: datetime) -> SQLSteps[bool]:
    """What the end of a leg says of its upstream: did it open the breaker?"""
    if answered is False:
        return (yield from _fault(upstream, probe, now))
    if probe and answered:
        if (yield from ask(_CLOSE, {"upstream": upstream, "now": us(now)})):
            yield event_queries((_event(upstream, now, is_up=True),))
    elif probe:
        yield [Query(_GIVE_BACK, {"upstream": upstream})]
    return False


def _fault(upstream: str, probe: bool, now: datetime) -> SQLSteps[bool]:
    ((since,),) = yield from ask(_NOTE, {"upstream": upstream})
    counted = yield from ask(_FAULTS, {"upstream": upstream, "since": max(since, us(now - WITHIN))})
    if not probe and counted[0][0] <= FAULTS:
        return False
    if not (yield from ask(_OPEN, {"upstream": upstream, "now": us(now), "until": us(now + OPEN_FOR)})):
        return False  # it is open
    yield event_queries((_event(upstream, now, is_up=False),))
    return True


def _event(upstream: str, now: datetime, *, is_up: bool) -> Event:
    type_: EventType = "upstream.up" if is_up else "upstream.down"
    body = {"upstream": upstream} if is_up else {"upstream": upstream, "until": (now + OPEN_FOR).isoformat()}
    return Event(id=event_id(type_, f"{upstream}:{us(now)}"), type=type_, at=now, body=body)

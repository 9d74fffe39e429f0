"""How a leg ends: settled by usage, released on a definite unbilled answer, else presumed at its ceiling. Pure.

Never zero, never forgotten: what is not certainly unbilled is charged.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from datetime import datetime
from typing import Literal

from policyguard import pricing
from policyguard.decision import Ticket
from policyguard.flow import rows
from policyguard.flow.events import Event, EventType
from policyguard.flow.states import LegState
from policyguard.flow.steps import Settle, Settled, Step
from policyguard.request import Failure, Outcome, Usage

# What OpenAI answers before it made anything; a 503 counts only with its error body. Noted as assumed, not proven.
_UNBILLED = frozenset({400, 401, 403, 404, 429})


def settle(ticket: Ticket, outcome: Outcome, now: datetime) -> Generator[Step, Settled, Settled]:
    """End the leg."""
    return (yield ended(ticket, outcome, now))


def ended(ticket: Ticket, outcome: Outcome, now: datetime) -> Settle:
    """How a leg ends: settled by usage, released on a definite unbilled answer, else presumed at its ceiling."""
    state, charge = _charge(ticket, outcome)
    body = {
        **rows.outcome_row(outcome),
        "ceiling_micros": ticket.ceiling_micros,
        "actual_micros": charge if state is LegState.SETTLED else None,
        "charged_micros": ticket.ceiling_micros if charge is None else charge,
        "overshoot_micros": max(0, (charge or 0) - ticket.ceiling_micros),
        "note": "assumed unbilled" if state is LegState.RELEASED else None,
    }
    type_ = _LEG_EVENTS[state]
    event = rows.leg_ended(type_, ticket.leg_id, ticket.decision_id, now, ticket.record, body)
    return Settle(
        leg_id=ticket.leg_id,
        state=state,
        charge_micros=charge,
        event=event,
        review_event=_review_ended(ticket, state, now),
        answered=_answered(outcome),
    )


_LEG_EVENTS: Mapping[LegState, EventType] = {
    LegState.SETTLED: "leg.settled",
    LegState.RELEASED: "leg.released",
    LegState.PRESUMED: "leg.presumed",
}
_LegEnd = Literal[LegState.SETTLED, LegState.RELEASED, LegState.PRESUMED]


def _charge(ticket: Ticket, outcome: Outcome) -> tuple[_LegEnd, int | None]:
    if outcome.usage is not None and _made_something(outcome.usage):
        return LegState.SETTLED, pricing.bill(ticket.rates, outcome.usage)
    if outcome.definite and _unbilled(outcome):
        return LegState.RELEASED, 0
    return LegState.PRESUMED, None


# What the breaker counts, beside timeouts and cuts. Anything else with a status is an answer, if not always a good one.
_DOWN = frozenset({500, 502, 504})


def _answered(outcome: Outcome) -> bool | None:
    """Whether the upstream is up, as far as this shows it. What an app raises is its 500."""
    if outcome.usage is not None:
        return True
    if outcome.failure in (Failure.TIMEOUT, Failure.CUT) or outcome.status in _DOWN:
        return False
    if outcome.failure is Failure.CANCELLED:
        return None
    if outcome.status is None:
        return False if outcome.failure is Failure.ERROR else None
    return None if outcome.status == 503 else True


def _made_something(usage: Usage) -> bool:
    """Images without output tokens are not to be had: such counts are none."""
    return usage.output_image_tokens + usage.output_text_tokens + usage.main_output_tokens > 0


def _unbilled(outcome: Outcome) -> bool:
    if outcome.error_code == "moderation_blocked":  # blocked at output, the image had been made
        return outcome.moderation_stage == "input"
    return outcome.status in _UNBILLED or (outcome.status == 503 and outcome.error_code is not None)


def _review_ended(ticket: Ticket, state: LegState, now: datetime) -> Event | None:
    if ticket.review_id is None:
        return None
    type_: EventType = "review.resume_failed" if state is LegState.RELEASED else "review.released"
    columns = ticket.record.get("dimensions") or {}
    keep = ticket.record.get("keep_days")
    return rows.review_event(type_, ticket.review_id, now, columns, ticket.decision_id, keep_days=keep)

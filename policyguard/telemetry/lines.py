"""The log lines of a request: one for its decision, one for the end of its leg, and what an operator has to know.

INFO is the normal course, refusals included; WARNING is money charged without knowing the cost and decisions that
could not be made; ERROR is a store that is down, a broken moderator, an upstream that is left alone.
"""

from __future__ import annotations

import logging
from typing import Any

from policyguard.decision import Admission, Admitted, Held, Kind, Reason, Refused, Ticket
from policyguard.flow.states import LegState
from policyguard.flow.steps import Settled
from policyguard.logs import log, say
from policyguard.request import Outcome
from policyguard.store.upkeep import Swept
from policyguard.telemetry.measures import alerts_of, inspection_of, kind_of, outcome_of

INFO, WARNING, ERROR = logging.INFO, logging.WARNING, logging.ERROR


def decided(answer: Admission, door: str, seconds: float) -> None:
    decision, outcome = answer.decision, outcome_of(answer)
    kind = kind_of(answer)
    level = WARNING if kind == Kind.UNAVAILABLE else INFO
    if not log.isEnabledFor(level):
        return
    ids, shadow = reason_ids(decision.reasons)
    because = f" ({', '.join(ids)})" if ids else ""
    say(
        level,
        "request.decided",
        "decision %s for surface %s: %s%s",
        decision.id,
        decision.surface or "-",
        outcome,
        because,
        decision_id=decision.id,
        surface=decision.surface,
        outcome=outcome,
        kind=kind,
        reasons=ids,
        shadow_reasons=shadow or None,
        adjusted=[a.param for a in decision.adjustments] or None,
        door=door,
        latency_ms=round(seconds * 1000, 3),
        leg_id=answer.ticket.leg_id if isinstance(answer, Admitted) else None,
        ceiling_micros=answer.ticket.ceiling_micros if isinstance(answer, Admitted) else None,
        review_id=answer.review_id if isinstance(answer, Held) else None,
        policy_digest=decision.policy_digest,
    )


def reason_ids(reasons: tuple[Reason, ...]) -> tuple[list[str], list[str]]:
    """The ids of what counted, and of what would have in another mode."""
    enforced = {reason.id: None for reason in reasons if reason.enforced}
    return list(enforced), list({reason.id: None for reason in reasons if not reason.enforced})


def settled(ticket: Ticket, outcome: Outcome, end: Settled) -> None:
    level = WARNING if end.state is LegState.PRESUMED else INFO
    if not log.isEnabledFor(level):
        return
    say(
        level,
        f"leg.{end.state.value}",
        "leg %s for surface %s: %s, %d micro-dollars",
        ticket.leg_id,
        ticket.surface,
        end.state.value,
        end.charged_micros,
        decision_id=ticket.decision_id,
        leg_id=ticket.leg_id,
        surface=ticket.surface,
        outcome=end.state.value,
        failure=outcome.failure.value if outcome.failure else None,
        status=outcome.status,
        door=ticket.record.get("door"),
        latency_ms=outcome.latency_ms,
        attempts=outcome.attempts,
        charged_micros=end.charged_micros,
        ceiling_micros=end.ceiling_micros,
        again=None if end.changed else True,
    )


def inspected(ticket: Ticket, said: Refused | Held | None, seconds: float) -> None:
    outcome = inspection_of(said)
    say(
        INFO,
        "output.inspected",
        "output of decision %s for surface %s: %s",
        ticket.decision_id,
        ticket.surface,
        outcome,
        decision_id=ticket.decision_id,
        leg_id=ticket.leg_id,
        surface=ticket.surface,
        outcome=outcome,
        reasons=reason_ids(said.decision.reasons)[0] if said else [],
        review_id=said.review_id if isinstance(said, Held) else None,
        door=ticket.record.get("door"),
        latency_ms=round(seconds * 1000, 3),
    )


def unsettled(ticket: Ticket, error: Exception) -> None:
    say(
        ERROR,
        "leg.unsettled",
        "leg %s is not settled yet, it is tried again until its time is over: %s",
        ticket.leg_id,
        error,
        decision_id=ticket.decision_id,
        leg_id=ticket.leg_id,
        surface=ticket.surface,
        ceiling_micros=ticket.ceiling_micros,
    )


def store_down(decision_id: str, surface: str | None, error: Exception) -> None:
    say(ERROR, "store.down", "decision %s refused: %s", decision_id, error, decision_id=decision_id, surface=surface)


def not_sent(ticket: Ticket, error: Exception) -> None:
    say(
        ERROR,
        "store.down",
        "leg %s is not sent: %s",
        ticket.leg_id,
        error,
        decision_id=ticket.decision_id,
        leg_id=ticket.leg_id,
        surface=ticket.surface,
    )


def answered(answer: Any) -> None:
    """What an operator has to know of the answer to a step. It is in the record already."""
    for alert in alerts_of(answer):
        say(
            WARNING,
            "budget.alert",
            "budget `%s` has reached %d %% of its limit",
            alert.budget_id,
            alert.per_cent,
            budget=alert.budget_id,
            per_cent=alert.per_cent,
        )
    if isinstance(answer, Settled) and answer.opened is not None:
        say(
            ERROR,
            "upstream.down",
            "`%s` failed too often; requests to it are refused for a while",
            answer.opened,
            upstream=answer.opened,
        )


def swept(done: Swept) -> None:
    """Legs that ran out without anybody settling them: their process died, or its store was down."""
    if done.presumed:
        words = "%d requests never came back and are charged at their ceilings"
        say(WARNING, "legs.presumed", words, done.presumed, count=done.presumed)

"""Refusals: the value that a door renders, built from a decision.

The message to the end user is generic; reasons carry what teams need. Pure.
"""

from __future__ import annotations

from datetime import datetime

from policyguard.decision import REFUSALS, Decision, Effect, Kind, Reason, Refused
from policyguard.policy.model import Policy
from policyguard.steps import OverBudget, Pause, UpstreamDown

# What the person in front of the button reads. Details stay in the reasons.
MESSAGES: dict[Kind, str] = {
    Kind.MALFORMED: "the request cannot be read",
    Kind.SURFACE: "no policy covers this image route",
    Kind.PAUSED: "image generation is paused here",
    Kind.CALLER: "it is not known who asks",
    Kind.MODERATION: "this request was rejected by the safety policy",
    Kind.PARAMETER: "this request is outside of what is allowed here",
    Kind.RULE: "this request is outside of what is allowed here",
    Kind.BUDGET: "the budget for images is used up for now",
    Kind.UNAVAILABLE: "this request cannot be decided now, please try again later",
    Kind.REVIEW: "this request waits for a review",
}
RETRY_AFTER_S = 30  # for what is not decidable now


def refuse(
    decision: Decision, *, now: datetime, review_id: str | None = None, opens_at: datetime | None = None
) -> Refused:
    """`decision.effect` is deny. The kind that speaks fixes status, type and code."""
    kind = decision.kind
    speaking = next(r for r in decision.reasons if r.enforced and r.effect is Effect.DENY and r.kind is kind)
    status, type_, code = REFUSALS[kind]
    retry = RETRY_AFTER_S if kind is Kind.UNAVAILABLE else None
    if kind in (Kind.BUDGET, Kind.UNAVAILABLE) and opens_at is not None:
        retry = max(1, round((opens_at - now).total_seconds()))
    own_words = kind in (Kind.MALFORMED, Kind.RULE)  # about the form alone, or written by the team for its users
    return Refused(
        decision=decision,
        status=status,
        type=type_,
        code=code,
        message=(own_words and speaking.message) or MESSAGES[kind],
        param=speaking.param,
        review_id=review_id,
        opens_at=opens_at,
        retry_after_s=retry,
    )


def paused_reason(pause: Pause) -> Reason:
    return Reason(
        id=f"paused.{pause.scope}",
        kind=Kind.PAUSED,
        effect=Effect.DENY,
        message="paused by hand",
        values={"since": pause.since.isoformat()},
    )


def budget_reason(answer: OverBudget, policy: Policy) -> Reason:
    charge = answer.charge
    place = next((b.place for b in policy.budgets if b.id == charge.budget_id), None)
    return Reason(
        id=f"budget.{charge.budget_id}",
        kind=Kind.BUDGET,
        effect=Effect.DENY,
        message=f"budget `{charge.budget_id}` has no room",
        place=place,
        values={
            "unit": charge.unit,
            "limit": charge.limit,
            "spent": answer.spent,
            "reserved": answer.reserved,
            "asked": charge.amount,
            "opens_at": charge.ends.isoformat() if charge.ends else None,
        },
    )


def upstream_reason(answer: UpstreamDown) -> Reason:
    return Reason(
        id="upstream.unavailable",
        kind=Kind.UNAVAILABLE,
        effect=Effect.DENY,
        message="what makes the images has failed too often",
        values={"upstream": answer.upstream, "until": answer.until.isoformat()},
    )


def unavailable_reason(what: str) -> Reason:
    return Reason(
        id=f"{what}.unavailable", kind=Kind.UNAVAILABLE, effect=Effect.DENY, message=f"the {what} cannot answer"
    )

"""Every reason that is not the policy's but the world's: a pause, a full budget, a breaker, a review, a broken store.

What a policy says of a request is made in `engine`. What was found out about the world comes in as an argument; nothing
is looked up here. Pure.
"""

from __future__ import annotations

from datetime import UTC

from policyguard.decision import Effect, Kind, Reason
from policyguard.errors import InvalidRequest
from policyguard.flow.states import ReviewState
from policyguard.flow.steps import Charge, OverBudget, Pause, UpstreamDown
from policyguard.policy.model import Policy, Unit

# ---- what never became a request --------------------------------------------------------------------------


def malformed_reason(error: InvalidRequest) -> Reason:
    return Reason(
        id="request.malformed",
        kind=Kind.MALFORMED,
        effect=Effect.DENY,
        message=error.message,
        param=error.param,
        values={"status": error.status},
    )


def no_surface_reason(message: str = "no surface claims this image route") -> Reason:
    return Reason(id="surface.none", kind=Kind.SURFACE, effect=Effect.DENY, message=message)


def unknown_surface_reason() -> Reason:
    message = "no surface claims this request"
    return Reason(id="surface.unknown", kind=Kind.SURFACE, effect=Effect.DENY, message=message)


def key_reason(key_id: str, header: str) -> Reason:
    """A proxy key that leaves the surface open, or does not allow the one that is named in `header`."""
    return Reason(
        id="surface.key",
        kind=Kind.SURFACE,
        effect=Effect.DENY,
        message=f"the key does not say which surface, or not this one: name one that it allows in `{header}`",
        values={"key": key_id},
    )


# ---- pauses, money, upstream ------------------------------------------------------------------------------


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
        message=f"the budget `{charge.budget_id}` ({_UNITS[charge.unit]}) has no room for this request",
        hint=_opens(charge),
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


_UNITS: dict[Unit, str] = {"usd": "money", "images": "images", "requests": "requests"}


def _opens(charge: Charge) -> str:
    """When to come again. No amounts of money: whoever reads this may be a customer."""
    if charge.amount > charge.limit:
        return "it is larger than the whole budget: ask for less"
    if charge.ends is None:
        return "it does not open again by itself"
    return f"it opens again at {charge.ends.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


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


# ---- reviews ----------------------------------------------------------------------------------------------

_PENDING = ("review.pending", "the review is not decided yet", "send the same request again once it is approved")
_ANEW = "send the request without it to ask for a new one"
_STATES = {
    ReviewState.HELD: _PENDING,
    ReviewState.APPROVED: _PENDING,
    ReviewState.RESUMING: ("review.used", "the approved request was already sent", _ANEW),
    ReviewState.RELEASED: ("review.used", "the approved request was already sent", _ANEW),
    ReviewState.RESUME_FAILED: ("review.used", "the approved request was already sent and failed", _ANEW),
    ReviewState.REJECTED: ("review.rejected", "the review was rejected", ""),
    ReviewState.EXPIRED: ("review.expired", "the review ran out without an approval", _ANEW),
    ReviewState.CANCELLED: ("review.cancelled", "the review was cancelled", _ANEW),
}


def state_reason(state: ReviewState | None) -> Reason:
    """Why an item in this state lets nothing through."""
    return _review(*(_STATES[state] if state else ("review.unknown", "no such review for this caller", _ANEW)))


def mismatch_reason() -> Reason:
    hint = "send exactly the request that was reviewed, with every field and the query unchanged"
    return _review("review.mismatch", "the review is about another request", hint)


def _review(id_: str, message: str, hint: str) -> Reason:
    return Reason(id=id_, kind=Kind.REVIEW, effect=Effect.DENY, message=message, hint=hint)


# ---- answers ----------------------------------------------------------------------------------------------


def too_large_reason() -> Reason:
    message = "the answer is too large to be kept for a review"
    return Reason(id="output.too_large", kind=Kind.UNAVAILABLE, effect=Effect.DENY, message=message)


def unreadable_reason() -> Reason:
    message = "output is looked at here since the function was guarded, and it does not say how"
    return Reason(id="output.unreadable", kind=Kind.UNAVAILABLE, effect=Effect.DENY, message=message)

"""Refusals: the value that a door renders, built from a decision.

The message says what was wrong and what is allowed, because clients show only that; where the policy says
`reasons_on_wire: false` it is generic. Only enforced reasons speak, never those of a shadow. Pure.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

from policyguard.decision import REFUSALS, WAITS, Decision, Effect, Held, Kind, Reason, Refused
from policyguard.policy.model import Policy

AssessedPart = Literal["input", "output"]

# What the person in front of the button reads where nothing more is said.
MESSAGES: dict[Kind, str] = {
    Kind.MALFORMED: "the request cannot be read",
    Kind.SURFACE: "no policy covers this image route",
    Kind.PAUSED: "image generation is paused here",
    Kind.CALLER: "we could not identify the caller",
    Kind.MODERATION: "this request was rejected by the safety policy",
    Kind.PARAMETER: "this request is outside of what is allowed here",
    Kind.RULE: "this request is outside of what is allowed here",
    Kind.BUDGET: "the budget for images is used up for now",
    Kind.UNAVAILABLE: "this request cannot be decided now, please try again later",
    Kind.REVIEW: WAITS,
}
_ALWAYS_TOLD = frozenset({Kind.MALFORMED, Kind.RULE})  # about the form alone, or written by the team for its users
RETRY_AFTER_S = 30  # for what is not decidable now


def refuse(
    decision: Decision,
    *,
    policy: Policy | None,
    now: datetime,
    review_id: str | None = None,
    opens_at: datetime | None = None,
    stage: AssessedPart = "input",
) -> Refused:
    """`decision.effect` is deny. The kind that speaks fixes status, type and code. `policy`: the surface's, if any."""
    kind = decision.kind
    speaking = tuple(r for r in decision.reasons if r.enforced and r.effect is Effect.DENY and r.kind is kind)
    status, type_, code = REFUSALS[kind]
    retry = RETRY_AFTER_S if kind is Kind.UNAVAILABLE and stage == "input" else None
    if kind in (Kind.BUDGET, Kind.UNAVAILABLE) and opens_at is not None:
        retry = max(1, round((opens_at - now).total_seconds()))
    tells = policy is None or policy.reasons_on_wire or kind in _ALWAYS_TOLD
    return Refused(
        decision=decision,
        status=status,
        type=type_,
        code=code,
        message=_said(kind, speaking, stage) if tells else MESSAGES[kind],
        param=speaking[0].param,
        review_id=review_id,
        opens_at=opens_at,
        retry_after_s=retry,
        stage=stage,
    )


def _said(kind: Kind, speaking: Sequence[Reason], stage: AssessedPart) -> str:
    """What was wrong and what is allowed, of every parameter: many clients show nothing else of an error."""
    if kind is Kind.MODERATION:
        what = "this request was rejected" if stage == "input" else "the images were withheld"
        return f"{what} by the safety policy ({', '.join(categories(speaking))})"
    if kind is Kind.UNAVAILABLE:
        what = MESSAGES[kind] if stage == "input" else "the images cannot be released"
        return f"{what} ({speaking[0].message})"
    if kind is Kind.PAUSED:
        return MESSAGES[kind]
    first: dict[str, Reason] = {}  # of each parameter: what else is wrong with it may be the same
    for reason in speaking:
        first.setdefault(reason.param or reason.id, reason)
    joint = " " if kind is Kind.RULE else "; "  # teams write whole sentences
    return joint.join(filter(None, map(_sentence, first.values()))) or MESSAGES[kind]


def _sentence(reason: Reason) -> str:
    return f"{reason.message} ({reason.hint})" if reason.hint else reason.message


def categories(reasons: Iterable[Reason]) -> list[str]:
    """The moderation categories that denied, as OpenAI names them in its own refusals: without what is behind a `/`."""
    denied = (r for r in reasons if r.kind is Kind.MODERATION and r.enforced and r.effect is Effect.DENY)
    return sorted({r.id.partition(".")[2].split("/")[0] for r in denied})


def held(decision: Decision, policy: Policy, review_id: str, expires_at: datetime) -> Held:
    """The answer to a request that a human decides first."""
    answer = Held(decision=decision, review_id=review_id, expires_at=expires_at)
    if not policy.reasons_on_wire:
        return answer
    how = f"send the same request again with `x-policyguard-review: {review_id}` once it is approved"
    return replace(answer, message=f"{WAITS} ({how})")

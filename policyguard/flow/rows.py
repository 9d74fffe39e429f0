"""What the record says: events, the columns of a leg, and the private part, made from a decision. Pure.

An event holds no prompt text, no image and no person's name: users and engineers are keyed pseudonyms, the prompt a
keyed hash and a length. Floats are banned (scores are thousandths), so that a row has one canonical form.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import orjson

from policyguard import pricing
from policyguard.decision import Decision, Effect, Reason
from policyguard.engine.decide import Screened
from policyguard.flow.events import DIMENSIONS, Event, EventType, event_id
from policyguard.flow.steps import Hold, Private
from policyguard.policy.model import Policy, ReviewRules
from policyguard.pricing import Quote
from policyguard.request import CALLER_FIELDS, Answers, Caller, ImageRequest, Outcome, Usage, Verdict

_IN_CLEAR = frozenset(DIMENSIONS) - {"user", "engineer"}  # these stand as they are; everything else is hashed
ANONYMOUS = "anonymous"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One decided request, as the record needs it."""

    decision: Decision
    outcome: str
    asked: ImageRequest
    at: datetime
    dimensions: Mapping[str, str | None]
    door: str
    forced: bool
    quote: Quote | None
    policy: Policy
    prompt_hash: str
    request_id: str | None
    retry_of: str | None
    elapsed_ms: int  # of the guard, moderation included, until the decision is written


def dimensions(surface: str | None, caller: Caller, pseudonym: Callable[[str, str], str]) -> dict[str, str | None]:
    """Caller values as the record and the budgets know them. Every one of `DIMENSIONS` is there, maybe None."""
    values: dict[str, str | None] = dict.fromkeys(DIMENSIONS)
    values["surface"] = surface
    for name, value in caller.items():
        values[name] = value if name in _IN_CLEAR else pseudonym(name, value)
    return values


# ---- decisions --------------------------------------------------------------------------------------------


def decided(facts: Facts, *, leg_id: str | None = None, review_id: str | None = None) -> Event:
    """The one row that every request has."""
    decision = facts.decision
    body = {
        **record_columns(facts),
        "asked": parameters(facts.asked),
        "reasons": _reasons(decision.reasons),
        "adjusted": [str(a) for a in decision.adjustments],
        "moderation": moderation_row(decision.verdict),
        "questions": _questions(decision.answers),
        "latency_ms": _latency(facts),
        "prompt_chars": len(facts.asked.prompt),
        "prompt_hash": facts.prompt_hash,
        "input_images": len(facts.asked.images),
        "has_mask": facts.asked.mask is not None,
    }
    return Event(
        id=event_id("request.decided", decision.id),
        type="request.decided",
        at=facts.at,
        decision_id=decision.id,
        leg_id=leg_id,
        review_id=review_id,
        outcome=facts.outcome,
        dimensions=_columns(facts.dimensions),
        body=body,
        keep_days=facts.policy.audit.events_days,
    )


def rejected(
    decision: Decision, at: datetime, columns: Mapping[str, str | None], door: str, keep_days: int | None
) -> Event:
    """The row of a request that could not even be read, or that no surface claims."""
    return Event(
        id=event_id("request.decided", decision.id),
        type="request.decided",
        at=at,
        decision_id=decision.id,
        outcome="deny",
        dimensions=_columns(columns),
        body={"door": door, "policy_digest": decision.policy_digest, "reasons": _reasons(decision.reasons)},
        keep_days=keep_days,
    )


def record_columns(facts: Facts) -> dict[str, Any]:
    """What the decision row and every row of the leg say alike."""
    decision, quote = facts.decision, facts.quote
    return {
        "door": facts.door,
        "request_id": facts.request_id,
        "retry_of": facts.retry_of,
        "mode": facts.policy.mode,
        "stakes": facts.policy.stakes,
        "policy_digest": decision.policy_digest,
        "request": parameters(decision.request or facts.asked),
        "moderation_parameter": "forced" if facts.forced else "declared",
        "estimated_micros": quote.ceiling_micros if quote else None,
        "prices_as_of": quote.as_of.isoformat() if quote else None,
        "prices_digest": quote.prices_digest if quote else None,
        "dimensions": dict(facts.dimensions),
        "keep_days": facts.policy.audit.events_days,
    }


def parameters(request: ImageRequest) -> dict[str, Any]:
    """What was asked for, without the prompt, the images and the user's own identifiers."""
    names = (
        "operation",
        "model",
        "size",
        "quality",
        "n",
        "background",
        "output_format",
        "stream",
        "partial_images",
        "moderation",
        "max_output_tokens",
    )
    found = {name: value for name in names if (value := getattr(request, name)) is not None}
    return found if request.main is None else {**found, "main_model": request.main.name}


def _reasons(reasons: Iterable[Reason]) -> list[dict[str, Any]]:
    return [reason_row(r) for r in reasons]


def reason_row(reason: Reason) -> dict[str, Any]:
    """A reason as the record and the wire show it."""
    return {
        "id": reason.id,
        "effect": reason.effect.word,
        "mode": reason.mode,
        "place": str(reason.place) if reason.place else None,
        "message": reason.message,
        "values": thousandths(reason.values),
    }


def thousandths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Floats as whole thousandths under a name that says so."""
    return {
        (f"{name}_milli" if isinstance(value, float) else name): round(value * 1000)
        if isinstance(value, float)
        else value
        for name, value in values.items()
    }


def moderation_row(verdict: Verdict | None) -> dict[str, Any] | None:
    """What moderation said, in thousandths."""
    if verdict is None:
        return None
    return {
        "model": verdict.model,
        "scores_milli": {category: round(score * 1000) for category, score in sorted(verdict.scores.items())},
        "incomplete": sorted(verdict.incomplete),
        "error": verdict.error,
        "calls": verdict.calls,
        "latency_ms": verdict.latency_ms,
        "request_ids": list(verdict.request_ids),
    }


def _questions(answers: Answers | None) -> dict[str, Any] | None:
    """What was asked by name, what was answered, and what it cost by the packaged prices, outside of every budget."""
    if answers is None:
        return None
    tokens = answers.input_tokens
    return {
        "model": answers.model,
        "answers_milli": {name: round(value * 1000) for name, value in sorted(answers.probabilities.items())},
        "refused": sorted(answers.refused),
        "error": answers.error,
        "calls": answers.calls,
        "latency_ms": answers.latency_ms,
        "request_id": answers.request_id,
        "input_tokens": tokens,
        "cost_micros": None if tokens is None else pricing.questions_micros(answers.model, tokens),
    }


def _latency(facts: Facts) -> dict[str, int]:
    """By stage: what moderation and questions took, which are asked at once, and what the guard took beside it."""
    asked = (facts.decision.verdict, facts.decision.answers)
    moderation = max((one.latency_ms for one in asked if one is not None), default=0)
    return {"moderation": moderation, "guard": max(0, facts.elapsed_ms - moderation)}


def _columns(values: Mapping[str, str | None]) -> dict[str, str | None]:
    return {name: values.get(name) for name in DIMENSIONS}


def leg_facts(facts: Facts) -> dict[str, str | int | None]:
    """The columns by which spend is reported."""
    request = facts.decision.request or facts.asked
    return {
        **_columns(facts.dimensions),
        "model": request.model,
        "size": request.size,
        "quality": request.quality,
        "n": request.n or 1,
        "keep_days": facts.policy.audit.events_days,
    }


def prompt(facts: Facts) -> tuple[Private, ...]:
    """The prompt, to be encrypted, where the policy keeps it: as much of it as the policy allows to be sent."""
    if not facts.policy.audit.store_prompt:
        return ()
    row = Private(
        id=f"prompt:{facts.decision.id}",
        kind="prompt",
        subject=facts.dimensions["user"] or ANONYMOUS,
        plaintext=facts.asked.prompt[: facts.policy.request.max_prompt_chars].encode(),
        keep_days=facts.policy.audit.private_days,
    )
    return (row,)


# ---- held requests ----------------------------------------------------------------------------------------


_DETAILS = ("output_compression", "input_fidelity")


def _details(request: ImageRequest) -> dict[str, Any]:
    """What else was asked for, that an approval covers though no row shows it."""
    return {name: value for name in _DETAILS if (value := getattr(request, name)) is not None}


def request_digest(request: ImageRequest) -> str:
    """Over the prompt, every parameter, every image and what else came: what an approval is bound to."""
    canonical = {
        **parameters(request),
        "prompt": request.prompt,
        **_details(request),
        "extra": dict(request.extra),
        "images": [image.digest for image in request.images],
        "mask": request.mask.digest if request.mask else None,
    }
    if request.markup is not None:
        canonical["markup"] = request.markup.digest
    if request.main is not None:
        canonical["main"] = request.main.digest
    if request.whole is not None:
        canonical["whole"] = hashlib.sha256(request.whole).hexdigest()
    return "sha256:" + hashlib.sha256(orjson.dumps(canonical, option=orjson.OPT_SORT_KEYS)).hexdigest()


def hold(facts: Facts, review_id: str, screened: Screened) -> Hold:
    """The review item with its decision row, its own row and the encrypted request."""
    review, policy, decision = facts.policy.review, facts.policy, facts.decision
    request = decision.request or facts.asked
    subject = facts.dimensions["user"] or ANONYMOUS
    sealed = Private(
        id=f"request:{review_id}",
        kind="request",
        subject=subject,
        plaintext=_whole_request(request, screened.caller),
        keep_days=policy.audit.artefacts_days,
    )
    events = (
        decided(facts, review_id=review_id),
        review_event(
            "review.held", review_id, facts.at, facts.dimensions, decision.id, keep_days=policy.audit.events_days
        ),
    )
    return Hold(
        review_id=review_id,
        decision_id=decision.id,
        surface=policy.surface,
        tenant=facts.dimensions["tenant"],
        user=facts.dimensions["user"],
        subject=subject,
        request_digest=request_digest(request),
        policy_digest=policy.digest,
        reasons=review_reasons(decision.reasons),
        approvals=review.approvals,
        reviewers=review.reviewers,
        escalate=escalation(review, facts.at),
        created_at=facts.at,
        due_at=facts.at + review.expires,
        ceiling_micros=facts.quote.ceiling_micros if facts.quote else 0,
        events=events,
        private=(sealed, *prompt(facts)),
    )


def escalation(review: ReviewRules, held_at: datetime) -> tuple[tuple[datetime, tuple[str, ...]], ...]:
    """When who may decide, too."""
    return tuple((held_at + step.after, step.to) for step in review.escalate)


def review_reasons(reasons: Iterable[Reason]) -> tuple[str, ...]:
    """Ids of the enforced reasons that ask for a review: what an approval covers."""
    return tuple(sorted({r.id for r in reasons if r.enforced and r.effect is Effect.REVIEW}))


def review_event(
    type_: EventType,
    review_id: str,
    at: datetime,
    columns: Mapping[str, str | None],
    decision_id: str | None = None,
    *,
    keep_days: int | None = None,
) -> Event:
    """A row about a review. A second decision about the same item (a resume, a reopening) makes a row of its own."""
    subject = f"{review_id}:{decision_id}" if type_ in ("review.resuming", "review.reopened") else review_id
    return Event(
        id=event_id(type_, subject),
        type=type_,
        at=at,
        decision_id=decision_id,
        review_id=review_id,
        dimensions=_columns(columns),
        keep_days=keep_days,
    )


def _whole_request(request: ImageRequest, caller: Caller) -> bytes:
    images = [{"url": i.url} if i.url else _image(i.data, i.media_type, i.filename) for i in request.images]
    mask, markup = request.mask, request.markup
    document = {
        "prompt": request.prompt,
        "parameters": {**parameters(request), **_details(request)},
        "more": dict(request.extra),
        "whole": orjson.Fragment(request.whole) if request.whole else None,
        "caller": {name: value for name, value in caller.items() if name in CALLER_FIELDS},
        "images": images,
        "mask": _image(mask.data, mask.media_type, mask.filename) if mask else None,
        "markup": _image(markup.data, markup.media_type, markup.filename) if markup else None,
    }
    return orjson.dumps(document)


def _image(data: bytes, media_type: str, filename: str) -> dict[str, str]:
    return {"media_type": media_type, "filename": filename, "base64": base64.b64encode(data).decode()}


# ---- legs -------------------------------------------------------------------------------------------------


def leg_ended(
    type_: EventType, leg_id: str, decision_id: str, at: datetime, base: Mapping[str, Any], body: Mapping[str, Any]
) -> Event:
    """The one row in which a leg ends; `base` is what `shared` gave at the decision."""
    return Event(
        id=event_id(type_, leg_id),
        type=type_,
        at=at,
        decision_id=decision_id,
        leg_id=leg_id,
        outcome=type_.removeprefix("leg."),
        dimensions=_columns(base.get("dimensions") or {}),
        body={**base, **body},
        keep_days=base.get("keep_days"),
    )


def outcome_row(outcome: Outcome) -> dict[str, Any]:
    """What happened upstream, as the record keeps it."""
    return {
        "status": outcome.status,
        "failure": outcome.failure.value if outcome.failure else None,
        "error_code": outcome.error_code,
        "moderation_stage": outcome.moderation_stage,
        "upstream_request_id": outcome.request_id,
        "latency_ms": {"upstream": outcome.latency_ms},
        "attempts": outcome.attempts,
        "retry_reasons": list(outcome.retry_reasons),
        "rendered_size": outcome.size,
        "rendered_quality": outcome.quality,
        "image_digests": list(outcome.image_digests),
        "usage": _usage(outcome.usage),
    }


def _usage(usage: Usage | None) -> dict[str, int] | None:
    if usage is None:
        return None
    names = ["input_text_tokens", "input_image_tokens", "output_image_tokens", "output_text_tokens"]
    if usage.main_input_tokens or usage.main_output_tokens:
        names += ["main_input_tokens", "main_output_tokens"]
    return {name: getattr(usage, name) for name in names}

"""The one body of every refusal, in OpenAI's own shape, so that existing clients raise their typed errors.

Which status and code belong to a kind of reason is the table in `decision`.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import orjson

from policyguard.decision import REFUSALS, Held, Kind, Reason, Refused, Released
from policyguard.flow.refuse import categories
from policyguard.flow.rows import thousandths

REVIEWS_PATH = "/policyguard/reviews"
Headers = list[tuple[str, str]]


class Rendered(NamedTuple):
    """Status, headers and body of an HTTP answer."""

    status: int
    headers: Headers
    body: bytes


def render(answer: Refused | Held | Released, *, reasons: bool = True) -> Rendered:
    """`reasons` false: the surface does not tell clients which rules fired. What was held is sent as it came."""
    if isinstance(answer, Released):
        return _released(answer)
    refusal = _fields(answer)
    decision = answer.decision
    policy = {
        "surface": decision.surface,
        "decision_id": decision.id,
        "reasons": [_reason(r) for r in decision.reasons if r.enforced] if reasons else [],
        "review_id": answer.review_id,
    }
    error: dict[str, Any] = {**refusal, "policy": policy}
    status = error.pop("status")
    if error["code"] == REFUSALS[Kind.MODERATION].code:
        error["moderation_details"] = _moderation_details(answer)
    body = orjson.dumps({"error": error}, default=str)
    headers = [
        ("content-type", "application/json"),
        ("content-length", str(len(body))),
        ("x-policyguard-decision", decision.id),
        *_retry(answer),
    ]
    return Rendered(status, headers, body)


def _released(released: Released) -> Rendered:
    answer = released.answer
    headers = [
        ("content-type", answer.content_type),
        ("content-length", str(len(answer.body))),
        ("x-policyguard-decision", released.decision.id),
        ("x-policyguard-review", released.review_id),
    ]
    return Rendered(answer.status, headers, answer.body)


def _fields(answer: Refused | Held) -> dict[str, Any]:
    if isinstance(answer, Held):
        status, type_, code = REFUSALS[Kind.REVIEW]
        return {"status": status, "message": answer.message, "type": type_, "param": None, "code": code}
    return {
        "status": answer.status,
        "message": answer.message,
        "type": answer.type,
        "param": answer.param,
        "code": answer.code,
    }


def _reason(reason: Reason) -> dict[str, Any]:
    return {
        "id": reason.id,
        "effect": reason.effect.word,
        "message": reason.message,
        "values": thousandths(reason.values),
    }


def _moderation_details(answer: Refused | Held) -> dict[str, Any]:
    stage = answer.stage if isinstance(answer, Refused) else "input"
    return {"moderation_stage": stage, "categories": categories(answer.decision.reasons)}


def _retry(answer: Refused | Held) -> Headers:
    """A refusal is final, whatever an SDK would retry; only what is not decidable now may come again."""
    headers: Headers = []
    if answer.review_id is not None:
        headers.append(("location", f"{REVIEWS_PATH}/{answer.review_id}"))
    if isinstance(answer, Held) or answer.stage == "output" or answer.code != REFUSALS[Kind.UNAVAILABLE].code:
        headers.append(("x-should-retry", "false"))
    if isinstance(answer, Refused) and answer.retry_after_s is not None:
        headers.append(("retry-after", str(answer.retry_after_s)))
    return headers

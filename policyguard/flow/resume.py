"""Whether a held request may go now: the check of a review item against the request that came back. Pure.

An approval is bound to the surface, the user, the tenant and the digest of prompt, parameters, images and what else an
app reads of the request, and covers the reasons that it showed. Nothing here consumes it: the store does that, once,
with the reservation.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from policyguard.decision import Reason
from policyguard.flow.reasons import mismatch_reason, state_reason
from policyguard.flow.rows import review_reasons
from policyguard.flow.states import ReviewState
from policyguard.flow.steps import ReviewItem


class Way(Enum):
    GO = "go"  # consume the approval and go
    REFUSE = "refuse"
    ANEW = "anew"  # reasons that the approval did not show: a new review
    REOPEN = "reopen"  # the policy's meaning changed: the same item is reviewed again


@dataclass(frozen=True, slots=True)
class Resumption:
    """`reason` is there where the way is to refuse."""

    way: Way
    reason: Reason | None = None


def resumption(
    item: ReviewItem | None,
    dimensions: Mapping[str, str | None],
    request_digest: str,
    policy_digest: str,
    reasons: Iterable[Reason],
    now: datetime,
) -> Resumption:
    """What the review `item` is worth for this request. Somebody else's item looks like one that does not exist."""
    if item is None or not _same_caller(item, dimensions):
        return Resumption(Way.REFUSE, state_reason(None))
    if item.request_digest != request_digest:
        return Resumption(Way.REFUSE, mismatch_reason())
    if item.kind == "output" and item.state is ReviewState.RELEASED and now < item.due_at:
        return Resumption(Way.GO)  # again: it is paid for, and a connection can break
    if item.state is ReviewState.APPROVED and now < item.due_at:
        return _approved(item, policy_digest, review_reasons(reasons))
    return Resumption(Way.REFUSE, state_reason(ReviewState.EXPIRED if _ran_out(item, now) else item.state))


def _same_caller(item: ReviewItem, dimensions: Mapping[str, str | None]) -> bool:
    mine = (dimensions["surface"], dimensions["tenant"], dimensions["user"])
    return (item.surface, item.tenant, item.user) == mine


def _ran_out(item: ReviewItem, now: datetime) -> bool:
    return item.state in (ReviewState.HELD, ReviewState.APPROVED) and now >= item.due_at


def _approved(item: ReviewItem, policy_digest: str, needed: tuple[str, ...]) -> Resumption:
    if item.policy_digest != policy_digest:
        return Resumption(Way.REOPEN)
    if not set(needed) <= set(item.reasons):
        return Resumption(Way.ANEW)
    return Resumption(Way.GO)

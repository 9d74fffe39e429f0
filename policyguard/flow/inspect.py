"""The end of the path: what came out is looked at before it is released, and its leg is settled whatever is found.

Generators over `steps`, like `admit`. The money is spent by now: a deny withholds the whole answer, a review holds it
encrypted, and both are written in the transaction that settles the leg.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import orjson

from policyguard.decision import Decision, Effect, Held, Reason, Refused, Released, combine
from policyguard.engine import decide
from policyguard.flow import rows
from policyguard.flow.events import Event, event_id
from policyguard.flow.reasons import state_reason, too_large_reason
from policyguard.flow.refuse import held, refuse
from policyguard.flow.resume import Way, resumption
from policyguard.flow.steps import Hold, Moderate, NotResumable, Private, Record, Release, ReviewItem, Settle, Step
from policyguard.policy.model import Policy
from policyguard.request import Answer, Caller, ImageRequest, Output, Verdict

RESTRICTED = "sexual/minors"  # what was suspected of it is never rendered for anybody


@dataclass(frozen=True, slots=True, kw_only=True)
class Looking:
    """What an inspection needs of the request, kept with its ticket."""

    facts: rows.Facts
    caller: Caller

    @property
    def policy(self) -> Policy:
        return self.facts.policy


@dataclass(frozen=True, slots=True, kw_only=True)
class _InspectedAnswer:
    """One answer with what is said of it."""

    looking: Looking
    decision: Decision
    output: Output
    now: datetime
    review_id: str


Inspected = Refused | Held | None  # None: the answer is released
Inspection = Generator[Step, Any, Inspected]


def inspect(looking: Looking, output: Output, settle: Settle | None, now: datetime, new_review_id: str) -> Inspection:
    """Look at an answer and end its leg by `settle`; None where a call inside has ended it already."""
    if not (output.images or output.problem or output.required):  # an error, or an answer in words
        if settle is not None:
            yield settle
        return None
    verdict = yield from _moderate(looking, output)
    seen = _seen(looking, output, verdict, now, new_review_id)
    if seen.decision.effect is Effect.REVIEW:
        hold = _hold(seen)
        yield replace(settle, inspected=_event(seen, "hold"), hold=hold) if settle else _alone(hold, seen)
        return held(seen.decision, looking.policy, hold.review_id, hold.due_at)
    withheld = seen.decision.effect is Effect.DENY
    event = _event(seen, "withhold" if withheld else "release")
    yield replace(settle, inspected=event) if settle else Record((event,))
    return refuse(seen.decision, policy=looking.policy, now=now, stage="output") if withheld else None


def _moderate(looking: Looking, output: Output) -> Generator[Step, Any, Verdict | None]:
    """None where the policy has no pictures scored, or where there are none and there need not be any."""
    policy = looking.policy
    if not policy.checks_output:
        return None
    problem = output.problem or ("no_images" if output.required and not output.images else None)
    if problem is not None:
        return Verdict(model=policy.moderation.model, error=problem)
    # what came out is scored as if it had come with an edit
    shown = replace(_asked(looking), operation="edit", images=output.images, mask=None, markup=None)
    rules = policy.moderation
    verdict: Verdict = yield Moderate(rules.model, shown, False, True, rules.timeout_s, "output")
    return verdict


def _asked(looking: Looking) -> ImageRequest:
    return looking.facts.decision.request or looking.facts.asked


def _seen(looking: Looking, output: Output, verdict: Verdict | None, now: datetime, review_id: str) -> _InspectedAnswer:
    before, policy = looking.facts.decision, looking.policy
    reasons = decide.inspect(policy, _asked(looking), looking.caller, now, before.verdict, before.answers, verdict)
    if combine(reasons) is Effect.REVIEW:
        reasons += _not_to_be_held(output)
    decision = replace(before, effect=combine(reasons), reasons=reasons, verdict=verdict, adjustments=())
    return _InspectedAnswer(looking=looking, decision=decision, output=output, now=now, review_id=review_id)


def _not_to_be_held(output: Output) -> tuple[Reason, ...]:
    """Why what should be held has to be withheld: it cannot be kept."""
    if output.answer is not None:
        return ()
    return (too_large_reason(),)


# ---- the record -------------------------------------------------------------------------------------------


def _event(seen: _InspectedAnswer, outcome: str) -> Event:
    facts, decision = seen.looking.facts, seen.decision
    body = {
        "policy_digest": decision.policy_digest,
        "mode": facts.policy.mode,
        "reasons": [rows.reason_row(reason) for reason in decision.reasons],
        "moderation": rows.moderation_row(decision.verdict),
        "images": len(seen.output.images),
        "image_digests": [image.digest for image in seen.output.images],
        "problem": seen.output.problem,
    }
    return Event(
        id=event_id("output.inspected", decision.id),
        type="output.inspected",
        at=seen.now,
        decision_id=decision.id,
        review_id=seen.review_id if outcome == "hold" else None,
        outcome=outcome,
        dimensions=facts.dimensions,
        body=body,
        keep_days=facts.policy.audit.events_days,
    )


def _hold(seen: _InspectedAnswer) -> Hold:
    """The review item with its row and the encrypted answer."""
    facts, review, decision = seen.looking.facts, seen.looking.policy.review, seen.decision
    due_at, audit = seen.now + review.expires, seen.looking.policy.audit
    subject = facts.dimensions["user"] or rows.ANONYMOUS
    stored = Private(
        id=stored_id(seen.review_id),
        kind="output",
        subject=subject,
        plaintext=_packed(seen),
        keep_days=audit.artefacts_days,
        until=due_at,
    )
    held = rows.review_event(
        "review.held", seen.review_id, seen.now, facts.dimensions, decision.id, keep_days=audit.events_days
    )
    return Hold(
        review_id=seen.review_id,
        decision_id=decision.id,
        surface=facts.policy.surface,
        tenant=facts.dimensions["tenant"],
        user=facts.dimensions["user"],
        subject=subject,
        request_digest=rows.request_digest(_asked(seen.looking)),
        policy_digest=facts.policy.digest,
        reasons=rows.review_reasons(decision.reasons),
        approvals=review.approvals,
        reviewers=review.reviewers,
        escalate=rows.escalation(review, seen.now),
        created_at=seen.now,
        due_at=due_at,
        ceiling_micros=facts.quote.ceiling_micros if facts.quote else 0,
        events=(held,),
        private=(stored,),
        kind="output",
    )


def _alone(hold: Hold, seen: _InspectedAnswer) -> Hold:
    """A hold whose leg has ended already."""
    return replace(hold, events=(*hold.events, _event(seen, "hold")))


# ---- what is stored ---------------------------------------------------------------------------------------


def stored_id(review_id: str) -> str:
    """Of the private row that holds the answer."""
    return f"output:{review_id}"


def _packed(seen: _InspectedAnswer) -> bytes:
    """One line that says what it is, then the answer as it came."""
    answer = seen.output.answer
    if answer is None:
        raise ValueError("an answer that was not kept")
    said = (*seen.looking.facts.decision.reasons, *seen.decision.reasons)
    head = {
        "status": answer.status,
        "content_type": answer.content_type,
        "restricted": any(reason.id.endswith(RESTRICTED) for reason in said),
        "prompt": _asked(seen.looking).prompt,
        "parameters": rows.parameters(_asked(seen.looking)),
        "caller": dict(seen.looking.caller.items()),
    }
    return orjson.dumps(head) + b"\n" + answer.body


def unpacked(stored: bytes) -> tuple[Mapping[str, Any], Answer]:
    """What is said of a stored answer, and the answer."""
    line, _, body = stored.partition(b"\n")
    head = orjson.loads(line)
    return head, Answer(status=head["status"], content_type=head["content_type"], body=body)


# ---- released after a review ------------------------------------------------------------------------------


def released(
    facts: rows.Facts, item: ReviewItem, review_id: str
) -> Generator[Step, Any, Released | Refused | ReviewItem]:
    """The caller came back for a held answer. An item that is answered has to be reviewed anew.

    It is handed out again until the review's own end, because a connection can break on the way.
    """
    policy, decision, now = facts.policy, facts.decision, facts.at
    digest = rows.request_digest(decision.request or facts.asked)
    said = resumption(item, facts.dimensions, digest, policy.digest, (), now)
    if said.way is Way.REOPEN:
        return item
    if said.way is Way.REFUSE and said.reason is not None:
        return (yield from _refused(facts, said.reason, review_id))
    keep = policy.audit.events_days
    event = rows.review_event("review.released", review_id, now, facts.dimensions, decision.id, keep_days=keep)
    row = rows.decided(replace(facts, outcome="release"), review_id=review_id)
    answer: bytes | NotResumable = yield Release(review_id=review_id, policy_digest=policy.digest, events=(row, event))
    if isinstance(answer, NotResumable):
        return (yield from _refused(facts, state_reason(answer.state), review_id))
    return Released(decision=replace(decision, effect=Effect.ALLOW), review_id=review_id, answer=unpacked(answer)[1])


def _refused(facts: rows.Facts, reason: Reason, review_id: str) -> Generator[Step, Any, Refused]:
    """A row in the record, as every request has one."""
    reasons = (*facts.decision.reasons, reason)
    decision = replace(facts.decision, effect=Effect.DENY, reasons=reasons)
    refused = replace(facts, decision=decision, outcome="deny")
    yield Record((rows.decided(refused, review_id=review_id),), rows.prompt(refused))
    return refuse(decision, policy=facts.policy, now=facts.at, review_id=review_id)

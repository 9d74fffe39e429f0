"""The path of a request, written once: `admit` and `reject` as generators over `steps`.

A generator yields what it needs and receives the answer; `drive` and `adrive` run it, with whoever performs its steps.
Time, ids and keyed hashes come in as arguments, so replay and tests run the same code without I/O.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal

from policyguard import pricing
from policyguard.decision import (
    Admission,
    Admitted,
    Decision,
    Effect,
    Reason,
    Refused,
    Ticket,
    combine,
)
from policyguard.engine import decide
from policyguard.engine.callers import resolve_caller
from policyguard.engine.decide import Screened
from policyguard.errors import PolicyguardError
from policyguard.flow import rows
from policyguard.flow.ask import Ask, Keys, Unreadable
from policyguard.flow.events import Event, EventType
from policyguard.flow.inspect import Looking, released
from policyguard.flow.reasons import (
    budget_reason,
    paused_reason,
    state_reason,
    unknown_surface_reason,
    upstream_reason,
)
from policyguard.flow.refuse import held, refuse
from policyguard.flow.resume import Way, resumption
from policyguard.flow.steps import (
    Charge,
    CheckPaused,
    FindReview,
    Inquire,
    Look,
    Moderate,
    NotResumable,
    OverBudget,
    Pause,
    Record,
    RefusedLeg,
    Reopen,
    Reserve,
    Reserved,
    Resume,
    ReviewItem,
    Step,
    UpstreamDown,
)
from policyguard.policy.budget import charged, windows
from policyguard.policy.model import Policy, PolicySet
from policyguard.request import Answers, Verdict

# How long an admitted request may wait before it is sent. It only bounds how long unsent money stays reserved.
HELD_FOR = timedelta(seconds=60)


@dataclass(frozen=True, slots=True)
class _RequestPath:
    """What the steps of one request share."""

    ask: Ask
    policy: Policy
    keys: Keys
    dimensions: Mapping[str, str | None]
    screened: Screened
    verdict: Verdict | None = None
    answers: Answers | None = None


Flow = Generator[Step, Any, Admission]


# ---- admit ------------------------------------------------------------------------------------------------


def admit(policies: PolicySet, ask: Ask, keys: Keys) -> Flow:
    """Decide one request: screen, moderate, judge, then reserve, hold or refuse. Each ends in one decision row."""
    policy = policies.surfaces.get(ask.surface)
    if policy is None:
        what = Unreadable(
            reason=unknown_surface_reason(),
            surface=None,
            caller=ask.caller,
            now=ask.now,
            decision_id=ask.decision_id,
            door=ask.door,
            address=ask.address,
        )
        return (yield from reject(policies, what, keys))
    caller, reasons = resolve_caller(policies.caller, ask.caller)
    dimensions = rows.dimensions(ask.surface, caller, keys.pseudonym)
    pause: Pause | None = yield CheckPaused(policy.surface, dimensions["tenant"], dimensions["user"])
    if pause is not None:
        reasons = (*reasons, paused_reason(pause))
    screened = decide.screen(policy, ask.request, caller, ask.now, ask.fixed, reasons)
    path = _RequestPath(ask, policy, keys, dimensions, screened)
    if screened.refused:
        return (yield from _refuse(path))
    item = (yield FindReview(ask.review_id)) if ask.review_id is not None else None
    if item is not None and item.kind == "output":
        return (yield from _release(path, item))
    path = yield from _moderate(path)
    effect = combine(path.screened.reasons)
    if effect is Effect.DENY:
        return (yield from _refuse(path))
    if effect is not Effect.REVIEW:
        return (yield from _reserve(path))
    if ask.review_id is None:
        return (yield from _hold(path))
    return (yield from _resume(path, item, ask.review_id))


def _moderate(path: _RequestPath) -> Generator[Step, Any, _RequestPath]:
    """The only network stage before money is spent; without anything to look at or to ask there is none."""
    screened, rules = path.screened, path.policy.moderation
    verdict, answers = None, None
    scored = Moderate(rules.model, screened.request, screened.check_prompt, screened.check_images, rules.timeout_s)
    asked = decide.open_questions(screened)
    looked_at = scored if scored.prompt or scored.images else None
    if asked:
        verdict, answers = yield Look(looked_at, Inquire(screened.request, asked, rules.timeout_s, rules.model))
    elif looked_at:
        verdict = yield looked_at
    return replace(path, screened=decide.judge(screened, verdict, answers), verdict=verdict, answers=answers)


def _decision(path: _RequestPath, *extra: Reason) -> Decision:
    reasons = path.screened.reasons + extra
    return Decision(
        id=path.ask.decision_id,
        surface=path.policy.surface,
        policy_digest=path.policy.digest,
        effect=combine(reasons),
        reasons=reasons,
        request=path.screened.request,
        adjustments=path.screened.adjustments,
        verdict=path.verdict,
        answers=path.answers,
    )


def _facts(path: _RequestPath, decision: Decision, outcome: str) -> rows.Facts:
    return rows.Facts(
        decision=decision,
        outcome=outcome,
        asked=path.ask.request,
        at=path.ask.now,
        dimensions=path.dimensions,
        door=path.ask.door,
        forced=path.ask.forced,
        quote=path.screened.quote,
        policy=path.policy,
        prompt_hash=path.keys.pseudonym("prompt", path.ask.request.prompt),
        request_id=path.ask.request_id,
        retry_of=path.ask.retry_of,
        elapsed_ms=path.ask.elapsed_ms(),
    )


def _refuse(
    path: _RequestPath,
    *extra: Reason,
    review_id: str | None = None,
    opens_at: datetime | None = None,
    over: Charge | None = None,
) -> Flow:
    decision = _decision(path, *extra)
    facts = _facts(path, decision, "deny")
    refusal = RefusedLeg(rows.leg_facts(facts), facts.quote.ceiling_micros if facts.quote else 0, over)
    known = path.dimensions["user"] is not None
    private = rows.prompt(facts) if known else ()
    stranger = None if known else path.ask.address
    yield Record((rows.decided(facts, review_id=review_id),), private, refusal, stranger)
    return refuse(decision, policy=path.policy, review_id=review_id, opens_at=opens_at, now=path.ask.now)


# ---- reserve ----------------------------------------------------------------------------------------------


def _reserve(path: _RequestPath, resume: Resume | None = None) -> Flow:
    quote = path.screened.quote
    if quote is None:  # the engine denies what has no price
        raise PolicyguardError("an unpriced request came through")
    given = path.ask.ticket
    if given is not None and resume is None and quote.ceiling_micros <= given.ceiling_micros:
        return (yield from _take_over(path, given))
    decision = _decision(path)
    facts = _facts(path, decision, "resume" if resume else decision.effect.word)
    ticket = _ticket(path, facts, quote.ceiling_micros, resume)
    answer: Reserved | OverBudget | NotResumable | UpstreamDown = yield Reserve(
        leg_id=ticket.leg_id,
        charges=_charges(path, quote.ceiling_micros),
        ceiling_micros=quote.ceiling_micros,
        expires_at=ticket.expires_at,
        event=rows.decided(facts, leg_id=ticket.leg_id, review_id=ticket.review_id),
        facts=rows.leg_facts(facts),
        private=rows.prompt(facts),
        review=resume,
        upstream=path.ask.upstream or f"app:{path.policy.surface}",
        sent_until=ticket.expires_at - HELD_FOR + path.ask.sent_for if path.ask.sent_for else None,
    )
    if isinstance(answer, Reserved):
        # an approval answers the review reasons; what is left let the request through
        return Admitted(replace(decision, effect=Effect.ALLOW) if resume else decision, ticket)
    if isinstance(answer, OverBudget):
        charge = answer.charge
        return (yield from _refuse(path, budget_reason(answer, path.policy), opens_at=charge.ends, over=charge))
    if isinstance(answer, UpstreamDown):
        return (yield from _refuse(path, upstream_reason(answer), opens_at=answer.until))
    return (yield from _refuse(path, state_reason(answer.state), review_id=ticket.review_id))


def _take_over(path: _RequestPath, ticket: Ticket) -> Flow:
    """Run on what is reserved already: the row says that this was looked at, too; the leg stays one."""
    decision = _decision(path)
    facts = _facts(path, decision, decision.effect.word)
    yield Record((rows.decided(facts, leg_id=ticket.leg_id),), rows.prompt(facts))
    return Admitted(decision, ticket)


def _ticket(path: _RequestPath, facts: rows.Facts, ceiling_micros: int, resume: Resume | None) -> Ticket:
    user = path.screened.caller.user
    return Ticket(
        leg_id=path.ask.leg_id,
        decision_id=path.ask.decision_id,
        surface=path.policy.surface,
        model=path.screened.request.model or "",
        ceiling_micros=ceiling_micros,
        expires_at=path.ask.now + timedelta(milliseconds=path.ask.elapsed_ms()) + HELD_FOR,
        rates=pricing.rates(path.screened.request, path.policy.request.prices),
        review_id=resume.review_id if resume else None,
        safety_identifier=path.keys.safety_identifier(user) if user else None,
        record=rows.record_columns(facts),
        output=Looking(facts=facts, caller=path.screened.caller) if path.policy.inspects_output else None,
    )


def _charges(path: _RequestPath, ceiling_micros: int) -> tuple[Charge, ...]:
    images = path.screened.request.n or 1
    return tuple(
        Charge(
            budget_id=window.budget.id,
            key=window.key,
            unit=window.budget.unit,
            amount=charged(window.budget, ceiling_micros, images),
            limit=window.budget.limit,
            starts=window.span.starts,
            ends=window.span.ends,
            local=window.span.local,
            mode=window.budget.mode,
            alert_at=window.budget.alert_at,
        )
        for window in windows(path.policy.budgets, path.dimensions, path.ask.now)
    )


# ---- hold and resume --------------------------------------------------------------------------------------


def _hold(path: _RequestPath) -> Flow:
    decision = _decision(path)
    hold = rows.hold(_facts(path, decision, "hold"), path.ask.new_review_id, path.screened)
    yield hold
    return held(decision, path.policy, hold.review_id, hold.due_at)


def _release(path: _RequestPath, item: ReviewItem) -> Flow:
    """The caller came back for an answer that was held."""
    said = yield from released(_facts(path, _decision(path), "release"), item, item.review_id)
    if isinstance(said, ReviewItem):
        return (yield from _reopen(path, said, item.reasons))
    return said


def _resume(path: _RequestPath, item: ReviewItem | None, review_id: str) -> Flow:
    """The caller came back with a review: admitted once, if it is the same request and all that counts was approved."""
    digest = rows.request_digest(path.screened.request)
    answer = resumption(item, path.dimensions, digest, path.policy.digest, path.screened.reasons, path.ask.now)
    if answer.way is Way.GO:
        return (yield from _reserve(path, Resume(review_id, path.policy.digest, _review_event(path, item, "resuming"))))
    if answer.way is Way.ANEW:
        return (yield from _hold(path))
    if answer.way is Way.REOPEN and item is not None:
        return (yield from _reopen(path, item))
    extra = (answer.reason,) if answer.reason else ()
    return (yield from _refuse(path, *extra, review_id=review_id))


def _reopen(path: _RequestPath, item: ReviewItem, reasons: tuple[str, ...] | None = None) -> Flow:
    """The policy's meaning changed since the approval: the votes are void, the item waits for new ones."""
    decision = _decision(path)
    review, quote = path.policy.review, path.screened.quote
    yield Reopen(
        review_id=item.review_id,
        policy_digest=path.policy.digest,
        reasons=rows.review_reasons(decision.reasons) if reasons is None else reasons,
        approvals=review.approvals,
        reviewers=review.reviewers,
        escalate=rows.escalation(review, path.ask.now),
        ceiling_micros=quote.ceiling_micros if quote else item.ceiling_micros,
        due_at=min(item.due_at, path.ask.now + review.expires),
        event=_review_event(path, item, "reopened"),
    )
    facts = _facts(path, decision, "hold")
    yield Record((rows.decided(facts, review_id=item.review_id),), rows.prompt(facts))
    return held(decision, path.policy, item.review_id, min(item.due_at, path.ask.now + review.expires))


def _review_event(path: _RequestPath, item: ReviewItem | None, what: Literal["resuming", "reopened"]) -> Event:
    review_id = item.review_id if item else ""
    type_: EventType = "review.resuming" if what == "resuming" else "review.reopened"
    keep = path.policy.audit.events_days
    return rows.review_event(type_, review_id, path.ask.now, path.dimensions, path.ask.decision_id, keep_days=keep)


# ---- what never became a request --------------------------------------------------------------------------


def reject(policies: PolicySet, what: Unreadable, keys: Keys) -> Generator[Step, Any, Refused]:
    """One decision row for what was refused before it became a request."""
    caller, _ = resolve_caller(policies.caller, what.caller)
    decision = Decision(
        id=what.decision_id,
        surface=what.surface,
        policy_digest=policies.digest,
        effect=Effect.DENY,
        reasons=(what.reason,),
    )
    columns = rows.dimensions(what.surface, caller, keys.pseudonym)
    policy = policies.surfaces.get(what.surface or "")
    keep_days = policy.audit.events_days if policy else None
    event = rows.rejected(decision, what.now, columns, what.door, keep_days)
    stranger = None if columns["user"] else what.address
    yield Record((event,), refusal=RefusedLeg(columns), stranger=stranger)
    refused = refuse(decision, policy=policy, now=what.now)
    status = what.reason.values.get("status", refused.status)
    return replace(refused, status=status)

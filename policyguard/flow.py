"""The path of a request, written once: `admit` and `reject` as generators over `steps`.

A generator yields what it needs and receives the answer; `drive` and `adrive` run it, with whoever performs its steps.
Time, ids and keyed hashes come in as arguments, so replay and tests run the same code without I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Literal, Protocol, TypedDict

from policyguard import engine, pricing, record
from policyguard.callers import caller_reason, resolve_caller
from policyguard.decision import (
    Admission,
    Admitted,
    Decision,
    Effect,
    Kind,
    Reason,
    Refused,
    Ticket,
    combine,
)
from policyguard.engine import Screened
from policyguard.errors import InvalidRequest, PolicyguardError
from policyguard.events import Event, EventType
from policyguard.inspection import Looking, released
from policyguard.policy.budget import charged, windows
from policyguard.policy.model import Policy, PolicySet
from policyguard.refusal import budget_reason, held, paused_reason, refuse, upstream_reason
from policyguard.request import Answers, Caller, ImageRequest, Verdict
from policyguard.resumption import Way, resumption, state_reason
from policyguard.steps import (
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
    Refusal,
    Reopen,
    Reserve,
    Reserved,
    Resume,
    ReviewItem,
    Step,
    UpstreamDown,
)

# How long an admitted request may wait before it is sent. It only bounds how long unsent money stays reserved.
HELD_FOR = timedelta(seconds=60)


class Keys(Protocol):
    """Keyed hashes: the same text gives the same pseudonym, and nobody without the key can guess the text."""

    def pseudonym(self, kind: str, text: str) -> str: ...

    def safety_identifier(self, user: str) -> str: ...


class AskOptions(TypedDict, total=False):
    """What a door can say beside the request.

    `review_id` resumes an approved review. `door` is `python` unless a door of ours says otherwise. `forced` false: the
    door can only declare what happens behind it. `upstream` is the host that the door itself calls: where it fails too
    often, requests to it are refused for a while; without it that is counted for the surface. `fixed` are parameters
    that it cannot change, so that the policy denies what it would bring down. `request_id` is the client's own, for
    the record. `policies` is the set that the door read the request by, so that a reload in between does not mix two
    sets; without it the set in force.
    `sends`: the door sends at once what is admitted, so that it is marked as sent with its reservation; no `sent` then.
    `address` is where the request comes from, where the door knows: of callers whom nobody knows it bounds the rows.
    `ticket` is of the request that this one is a part of, `retry_of` the decision on the first attempt of it.
    """

    review_id: str | None
    door: str
    forced: bool
    fixed: frozenset[str]
    upstream: str | None
    request_id: str | None
    address: str | None
    policies: PolicySet
    ticket: Ticket
    retry_of: str | None
    sends: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request as a door hands it over, with the ids and the time that the driver gives it.

    `door` is `asgi`, `client`, `decorator`, `proxy` or `python`; `forced` is false where the door can only declare what
    the app does, and `fixed` are the parameters that it cannot change. `upstream` is what a breaker is for: the API's
    host where the door calls it, without it the app behind the surface. `review_id` resumes an approved review,
    `request_id` is the client's own, `address` where the request comes from. `ticket` is of the admitted and sent
    request that this one is a part of, `retry_of` the decision on the first attempt of this one. `sent_for`: it goes
    upstream at once, and has this time there. `elapsed_ms` says how long the guard has worked on the request so far.
    """

    request: ImageRequest
    caller: Caller
    surface: str
    now: datetime
    decision_id: str
    leg_id: str
    new_review_id: str
    review_id: str | None = None
    door: str = "python"
    forced: bool = True
    fixed: frozenset[str] = frozenset()
    upstream: str | None = None
    request_id: str | None = None
    address: str | None = None
    ticket: Ticket | None = None
    retry_of: str | None = None
    sent_for: timedelta | None = None
    elapsed_ms: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True)
class _Path:
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
        reason = Reason(
            id="surface.unknown", kind=Kind.SURFACE, effect=Effect.DENY, message="no surface claims this request"
        )
        what = Unreadable(
            reason=reason,
            surface=None,
            caller=ask.caller,
            now=ask.now,
            decision_id=ask.decision_id,
            door=ask.door,
            address=ask.address,
        )
        return (yield from reject(policies, what, keys))
    caller, reasons = resolve_caller(policies.caller, ask.caller)
    dimensions = record.dimensions(ask.surface, caller, keys.pseudonym)
    pause: Pause | None = yield CheckPaused(policy.surface, dimensions["tenant"], dimensions["user"])
    if pause is not None:
        reasons = (*reasons, paused_reason(pause))
    screened = engine.price(engine.screen(policy, ask.request, caller, ask.now, ask.fixed)).after(reasons)
    path = _Path(ask, policy, keys, dimensions, screened)
    if combine(screened.reasons) is Effect.DENY:
        return (yield from _refuse(path))
    if _holds_every_answer(policy) and dimensions["user"] is None:
        return (yield from _refuse(path, _nobodys()))
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


def _moderate(path: _Path) -> Generator[Step, Any, _Path]:
    """The only network stage before money is spent; without anything to look at or to ask there is none."""
    screened, rules = path.screened, path.policy.moderation
    verdict, answers = None, None
    scored = Moderate(rules.model, screened.request, screened.check_prompt, screened.check_images, rules.timeout_s)
    asked = engine.open_questions(screened)
    looked_at = scored if scored.prompt or scored.images else None
    if asked:
        verdict, answers = yield Look(looked_at, Inquire(screened.request, asked, rules.timeout_s))
    elif looked_at:
        verdict = yield looked_at
    return replace(path, screened=engine.judge(screened, verdict, answers), verdict=verdict, answers=answers)


def _decision(path: _Path, *extra: Reason) -> Decision:
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


def _facts(path: _Path, decision: Decision, outcome: str) -> record.Facts:
    return record.Facts(
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
    path: _Path,
    *extra: Reason,
    review_id: str | None = None,
    opens_at: datetime | None = None,
    over: Charge | None = None,
) -> Flow:
    decision = _decision(path, *extra)
    facts = _facts(path, decision, "deny")
    refusal = Refusal(record.leg_facts(facts), facts.quote.ceiling_micros if facts.quote else 0, over)
    known = path.dimensions["user"] is not None
    private = record.prompt(facts) if known else ()
    stranger = None if known else path.ask.address
    yield Record((record.decided(facts, review_id=review_id),), private, refusal, stranger)
    return refuse(decision, policy=path.policy, review_id=review_id, opens_at=opens_at, now=path.ask.now)


# ---- reserve ----------------------------------------------------------------------------------------------


def _reserve(path: _Path, resume: Resume | None = None) -> Flow:
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
        event=record.decided(facts, leg_id=ticket.leg_id, review_id=ticket.review_id),
        facts=record.leg_facts(facts),
        private=record.prompt(facts),
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


def _take_over(path: _Path, ticket: Ticket) -> Flow:
    """Run on what is reserved already: the row says that this was looked at, too; the leg stays one."""
    decision = _decision(path)
    facts = _facts(path, decision, decision.effect.word)
    yield Record((record.decided(facts, leg_id=ticket.leg_id),), record.prompt(facts))
    return Admitted(decision, ticket)


def _ticket(path: _Path, facts: record.Facts, ceiling_micros: int, resume: Resume | None) -> Ticket:
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
        record=record.shared(facts),
        output=Looking(facts=facts, caller=path.screened.caller) if path.policy.inspects_output else None,
    )


def _charges(path: _Path, ceiling_micros: int) -> tuple[Charge, ...]:
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


def _hold(path: _Path) -> Flow:
    if path.dimensions["user"] is None:  # an approval is somebody's; without a name anybody could use it
        return (yield from _refuse(path, _nobodys()))
    decision = _decision(path)
    hold = record.hold(_facts(path, decision, "hold"), path.ask.new_review_id, path.screened)
    yield hold
    return held(decision, path.policy, hold.review_id, hold.due_at)


def _nobodys() -> Reason:
    return caller_reason("user", "a request that is reviewed needs a user")


def _holds_every_answer(policy: Policy) -> bool:
    return policy.review.hold_output and (policy.mode == "enforce" or policy.limit_hold_output)


def _release(path: _Path, item: ReviewItem) -> Flow:
    """The caller came back for an answer that was held."""
    said = yield from released(_facts(path, _decision(path), "release"), item, item.review_id)
    if isinstance(said, ReviewItem):
        return (yield from _reopen(path, said, item.reasons))
    return said


def _resume(path: _Path, item: ReviewItem | None, review_id: str) -> Flow:
    """The caller came back with a review: admitted once, if it is the same request and all that counts was approved."""
    digest = record.request_digest(path.screened.request)
    answer = resumption(item, path.dimensions, digest, path.policy.digest, path.screened.reasons, path.ask.now)
    if answer.way is Way.GO:
        return (yield from _reserve(path, Resume(review_id, path.policy.digest, _review_event(path, item, "resuming"))))
    if answer.way is Way.ANEW:
        return (yield from _hold(path))
    if answer.way is Way.REOPEN and item is not None:
        return (yield from _reopen(path, item))
    extra = (answer.reason,) if answer.reason else ()
    return (yield from _refuse(path, *extra, review_id=review_id))


def _reopen(path: _Path, item: ReviewItem, reasons: tuple[str, ...] | None = None) -> Flow:
    """The policy's meaning changed since the approval: the votes are void, the item waits for new ones."""
    decision = _decision(path)
    review, quote = path.policy.review, path.screened.quote
    yield Reopen(
        review_id=item.review_id,
        policy_digest=path.policy.digest,
        reasons=record.review_reasons(decision.reasons) if reasons is None else reasons,
        approvals=review.approvals,
        reviewers=review.reviewers,
        escalate=record.escalation(review, path.ask.now),
        ceiling_micros=quote.ceiling_micros if quote else item.ceiling_micros,
        due_at=min(item.due_at, path.ask.now + review.expires),
        event=_review_event(path, item, "reopened"),
    )
    facts = _facts(path, decision, "hold")
    yield Record((record.decided(facts, review_id=item.review_id),), record.prompt(facts))
    return held(decision, path.policy, item.review_id, min(item.due_at, path.ask.now + review.expires))


def _review_event(path: _Path, item: ReviewItem | None, what: Literal["resuming", "reopened"]) -> Event:
    review_id = item.review_id if item else ""
    type_: EventType = "review.resuming" if what == "resuming" else "review.reopened"
    keep = path.policy.audit.events_days
    return record.review_event(type_, review_id, path.ask.now, path.dimensions, path.ask.decision_id, keep_days=keep)


# ---- what never became a request --------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Something that a door could not turn into a request, or that no surface claims."""

    reason: Reason
    surface: str | None
    caller: Caller
    now: datetime
    decision_id: str
    door: str
    address: str | None = None


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
    columns = record.dimensions(what.surface, caller, keys.pseudonym)
    policy = policies.surfaces.get(what.surface or "")
    keep_days = policy.audit.events_days if policy else None
    event = record.rejected(decision, what.now, columns, what.door, keep_days)
    stranger = None if columns["user"] else what.address
    yield Record((event,), refusal=Refusal(columns), stranger=stranger)
    refused = refuse(decision, policy=policy, now=what.now)
    status = what.reason.values.get("status", refused.status)
    return replace(refused, status=status)

"""The decision: `screen` before moderation, `judge` after it, `inspect` when the answer is there.

Pure and fast: no clock, no I/O, no randomness. Whoever decides calls these three and adds no reason: the flow of a
guard, `diff`, and through the flow `explain` and `test`. Only the state of the world is not known here: a full budget,
a pause, a breaker that is open, a review. Its reasons are made in `flow.reasons`.

Every reason is kept, not only the first, and outcomes combine as deny > review > flag > allow whatever the order of
rules. What cannot be evaluated is a reason of its own, never a rule that was skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, NamedTuple

from policyguard import pricing
from policyguard.decision import Adjustment, Effect, Kind, Reason, combine
from policyguard.engine.callers import missing_callers, nobodys
from policyguard.engine.fit import Fitting, fit, fits, forced, with_defaults
from policyguard.engine.rules import fire
from policyguard.engine.thresholds import alarming, thresholds
from policyguard.policy.expr import EvaluationError, Unavailable
from policyguard.policy.model import (
    Expression,
    Policy,
    Question,
    RequestRules,
)
from policyguard.policy.questions import answers_in
from policyguard.pricing import Quote
from policyguard.request import AUTO, Answers, Caller, ImageRequest, Verdict

_UNCHANGED: tuple[Adjustment, ...] = ()


class Screened(NamedTuple):
    """What is known before moderation. `request` is what would go upstream.

    `facts` are what conditions can read before moderation. Without a `quote` there is no price, and that is denied.
    """

    policy: Policy
    asked: ImageRequest
    request: ImageRequest
    caller: Caller
    now: datetime
    reasons: tuple[Reason, ...]
    adjustments: tuple[Adjustment, ...]
    facts: Mapping[str, Any]
    quote: Quote | None = None

    @property
    def check_prompt(self) -> bool:
        return "prompt" in _checks(self.policy)

    @property
    def check_images(self) -> bool:
        """Whether this request has images that the policy wants looked at."""
        has_images = next(self.request.input_images, None) is not None
        return has_images and "input_images" in _checks(self.policy)

    @property
    def refused(self) -> bool:
        """Whether it is denied already: then nothing is moderated, and nothing is judged."""
        return combine(self.reasons) is Effect.DENY


def _checks(policy: Policy) -> frozenset[str]:
    return frozenset(policy.moderation.check | policy.limit_moderation.check)


# ---- before moderation ------------------------------------------------------------------------------------


def screen(
    policy: Policy,
    asked: ImageRequest,
    caller: Caller,
    now: datetime,
    fixed: frozenset[str] = frozenset(),
    found: tuple[Reason, ...] = (),
) -> Screened:
    """Everything that can be decided without scores: parameters, caller values, the rules over them, and the price.

    `caller` is resolved (`resolve_caller`); `now` is aware UTC; `fixed` are parameters that the door cannot change.
    `found` are the reasons from before the policy was asked: those of `resolve_caller`, and a pause.
    """
    prepared, request, adjustments = policy.prepared, asked, _UNCHANGED
    reasons = list(missing_callers(policy, caller)) if prepared.per else []
    if not fits(prepared.plain, asked):
        filled = with_defaults(policy.request, asked)
        if policy.mode == "enforce" and fits(prepared.plain, filled):
            request = filled
        else:
            request, adjustments, wrong = _fitted(policy, asked, filled, fixed)
            reasons += wrong
            if policy.mode == "enforce" and policy.request.max_prompt_chars is not None:
                request.read_at_most(policy.request.max_prompt_chars)  # what is longer is denied already
    if policy.review.required:
        reasons.append(_review_required(policy))
    given = {"request": request, "caller": caller.values, "surface": policy.surface, "now": now}
    facts = {**given, "scores": None, "answers": None, "output": None}
    fire(prepared.early, facts, policy, reasons)
    if caller.user is None and _holds_every_answer(policy):
        reasons.append(nobodys("a request"))
    quote = _priced(policy, request, reasons)
    said = (*found, *_not_said(reasons, found)) if found else tuple(reasons)
    return Screened(policy, asked, request, caller, now, said, adjustments, facts, quote)


def _not_said(reasons: list[Reason], found: tuple[Reason, ...]) -> Iterator[Reason]:
    """A caller's value that is missing is missed by the organisation, by a budget and by a review: once is enough."""
    said = {reason.id for reason in found}
    return (reason for reason in reasons if reason.id not in said)


def _fitted(
    policy: Policy, asked: ImageRequest, filled: ImageRequest, fixed: frozenset[str]
) -> tuple[ImageRequest, tuple[Adjustment, ...], list[Reason]]:
    """A closer look at the parameters, `filled` with the policy's defaults."""
    always = forced(filled, whole=policy.holds_back)
    fitted = fit(policy.request, always.request, policy.mode, fixed=fixed)
    if policy.mode == "shadow":
        would, fitted = (
            fitted,
            fit(policy.limits, _left_out(policy, asked, always, fixed), "enforce", auto_unlisted=True),
        )
        fitted.reasons += would.reasons
        fitted.reasons += [_would_adjust(would, adjustment) for adjustment in would.adjustments]
    return fitted.request, (*always.adjustments, *fitted.adjustments), always.reasons + fitted.reasons


def _left_out(policy: Policy, asked: ImageRequest, always: Fitting, fixed: frozenset[str]) -> ImageRequest:
    """Under shadow, what the client left out is left to upstream. Where a limit does not let it, the default is taken
    and that is recorded: such a request was sent with it before. `auto` spelt out is no more than left out."""
    changes: dict[str, Any] = {}
    defaults = {"size": policy.request.default_size, "quality": policy.request.default_quality}
    for name, admits in (("size", _admits_any_size), ("quality", _admits_any_quality)):
        default, said = defaults[name] or AUTO, getattr(asked, name)
        is_open = said is None or (said == AUTO and policy.request.on_excess == "adjust" and name not in fixed)
        if not is_open or default == AUTO:
            continue
        changes[name] = AUTO if admits(policy.limits) else default
        if changes[name] == default:
            always.adjustments.append(Adjustment(name, AUTO, default))
    return replace(always.request, **changes)


def _admits_any_size(limits: RequestRules) -> bool:
    return limits.admits_size(AUTO, auto_unlisted=True)


def _admits_any_quality(limits: RequestRules) -> bool:
    return limits.qualities is None or AUTO in limits.qualities


def _would_adjust(fitting: Fitting, adjustment: Adjustment) -> Reason:
    return Reason(
        id=f"request.{adjustment.param}",
        kind=Kind.PARAMETER,
        effect=Effect.FLAG,
        message=f"would be adjusted: {adjustment}",
        place=fitting.place(adjustment.param),
        mode="shadow",
        param=adjustment.param,
    )


def _priced(policy: Policy, request: ImageRequest, reasons: list[Reason]) -> Quote | None:
    """The most that the request can cost; without a price the reason why is added."""
    try:
        return pricing.ceiling(request, policy.request.prices)
    except pricing.UnknownPrice as unknown:
        message = f"no price: {unknown}"
    reasons.append(Reason(id="request.price", kind=Kind.PARAMETER, effect=Effect.DENY, message=message, param="model"))
    return None


def _holds_every_answer(policy: Policy) -> bool:
    return policy.review.hold_output and (policy.mode == "enforce" or policy.limit_hold_output)


def _review_required(policy: Policy) -> Reason:
    return Reason(
        id="review.required",
        kind=Kind.REVIEW,
        effect=Effect.REVIEW,
        message="every request of this surface is reviewed",
        place=policy.review.place,
        mode="enforce" if policy.limit_review else policy.mode,
    )


# ---- questions --------------------------------------------------------------------------------------------


def open_questions(screened: Screened) -> tuple[Question, ...]:
    """The questions whose answers can still decide something about this request; mostly none."""
    asking = screened.policy.prepared.asking
    if not asking:
        return ()
    today, facts = screened.now.date(), screened.facts
    names: set[str] = set()
    for one in asking:
        speaks = _speaks(one.rule.when, facts)
        if speaks is False:
            continue
        exempt = [exemption.when for exemption in one.exempt if today <= exemption.until]
        conditions = [one.rule.when] if speaks is None else []
        conditions += [when for when in exempt if _speaks(when, facts) is None]
        names.update(answers_in(conditions))
    return tuple(question for question in screened.policy.questions if question.name in names)


def _speaks(when: Expression, facts: Mapping[str, Any]) -> bool | None:
    """Whether a condition is met, or fails; None where it needs what is still to be asked."""
    try:
        return when(facts)
    except Unavailable:
        return None
    except EvaluationError:
        return True


# ---- after moderation -------------------------------------------------------------------------------------


def judge(screened: Screened, verdict: Verdict | None, answers: Answers | None = None) -> Screened:
    """Add what scores and answers decide: thresholds, unavailability, and the rules that read them.

    `verdict` is None where the policy has nothing moderated; rules that read scores are then unevaluable. `answers`
    is None where no question is open.
    """
    policy = screened.policy
    reasons: list[Reason] = []
    if verdict is not None and alarming(policy.prepared.alarms, verdict):
        reasons += thresholds(policy.moderation, verdict, policy.mode)
        if policy.mode == "shadow":
            reasons += thresholds(policy.limit_moderation, verdict, "enforce")
    if policy.prepared.late:
        fire(policy.prepared.late, facts_with(screened, verdict, answers), policy, reasons)
    if screened.caller.user is None and combine((*screened.reasons, *reasons)) is Effect.REVIEW:
        reasons.append(nobodys("a request"))
    return screened._replace(reasons=(*screened.reasons, *reasons)) if reasons else screened


def facts_with(screened: Screened, verdict: Verdict | None, answers: Answers | None = None) -> Mapping[str, Any]:
    """What conditions can read after moderation. A score that is only a lower bound counts as unknown."""
    facts = screened.facts if answers is None else {**screened.facts, "answers": answers.probabilities}
    return facts if verdict is None else {**facts, "scores": _known(verdict)}


def _known(verdict: Verdict) -> Mapping[str, float]:
    if not verdict.incomplete:
        return verdict.scores
    return {category: score for category, score in verdict.scores.items() if category not in verdict.incomplete}


# ---- after the answer -------------------------------------------------------------------------------------


def inspect(
    policy: Policy,
    request: ImageRequest,
    caller: Caller,
    now: datetime,
    verdict: Verdict | None,
    answers: Answers | None,
    output: Verdict | None,
) -> tuple[Reason, ...]:
    """What the policy says of an answer: thresholds and rules over its pictures, and whether all answers are held.

    `verdict` and `answers` are what was said before, `output` is what moderation says of the pictures; None is what was
    not asked.
    """
    reasons: list[Reason] = []
    if output is not None and "output_images" in policy.moderation.check:
        reasons += thresholds(policy.moderation, output, policy.mode, "output")
    if output is not None and policy.mode == "shadow" and "output_images" in policy.limit_moderation.check:
        reasons += thresholds(policy.limit_moderation, output, "enforce", "output")
    if policy.review.hold_output:
        reasons.append(_output_held(policy))
    if policy.prepared.final:
        facts = {
            "request": request,
            "caller": caller.values,
            "scores": None if verdict is None else _known(verdict),
            "answers": None if answers is None else answers.probabilities,
            "output": None if output is None else _known(output),
            "surface": policy.surface,
            "now": now,
        }
        fire(policy.prepared.final, facts, policy, reasons)
    if caller.user is None and combine(reasons) is Effect.REVIEW:
        reasons.append(nobodys("an answer"))
    return tuple(reasons)


def _output_held(policy: Policy) -> Reason:
    return Reason(
        id="review.output",
        kind=Kind.REVIEW,
        effect=Effect.REVIEW,
        message="every answer of this surface is reviewed",
        place=policy.review.place,
        mode="enforce" if policy.limit_hold_output else policy.mode,
    )


# ---- rules ------------------------------------------------------------------------------------------------

"""The decision: `screen` before moderation, `judge` after it. Pure and fast: no clock, no I/O, no randomness.

Every reason is kept, not only the first, and outcomes combine as deny > review > flag > allow whatever the order of
rules. What cannot be evaluated is a reason of its own, never a rule that was skipped.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Literal

from policyguard import pricing
from policyguard.decision import Adjustment, Effect, Kind, Mode, Place, Reason
from policyguard.fit import Fitting, fit, forced, with_defaults
from policyguard.policy.expr import EvaluationError, RequestFacts, Unavailable
from policyguard.policy.model import CallerField, Exemption, ModerationRules, Policy, Rule
from policyguard.pricing import Quote
from policyguard.request import Caller, ImageRequest, Verdict, parse_size

_MAX_CALLER_CHARS = 256
# Caller values that may stand in a record as they are; the others name a person or may do so.
_OPEN_CALLER_FIELDS = frozenset({"tenant", "tier", "cohort", "feature"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Screened:
    """What is known before moderation. `request` is what would go upstream; `quote` None: its price is unknown."""

    policy: Policy
    asked: ImageRequest
    request: ImageRequest
    caller: Caller
    now: datetime
    quote: Quote | None
    reasons: tuple[Reason, ...]
    adjustments: tuple[Adjustment, ...]

    @property
    def check_prompt(self) -> bool:
        return "prompt" in _checks(self.policy)

    @property
    def check_images(self) -> bool:
        """Whether this request has images that the policy wants looked at."""
        has_images = next(self.request.input_images, None) is not None
        return has_images and "input_images" in _checks(self.policy)


def _checks(policy: Policy) -> frozenset[str]:
    return frozenset(policy.moderation.check | policy.limit_moderation.check)


# ---- who asks ---------------------------------------------------------------------------------------------


def resolve_caller(fields: tuple[CallerField, ...], given: Caller) -> tuple[Caller, tuple[Reason, ...]]:
    """The caller as the organisation declares it: its defaults filled in, values that it does not declare dropped."""
    values: dict[str, str | None] = {}
    reasons: list[Reason] = []
    for spec in fields:
        value = given.get(spec.name) or spec.default
        problem = _caller_problem(spec, value)
        if problem:
            reasons.append(caller_reason(spec.name, problem, spec.place))
        else:
            values[spec.name] = value
    return Caller.of(values), tuple(reasons)


def _caller_problem(spec: CallerField, value: str | None) -> str | None:
    if value is None:
        return f"the caller's `{spec.name}` is missing" if spec.required else None
    if not isinstance(value, str) or len(value) > _MAX_CALLER_CHARS or not value.isprintable():
        return f"the caller's `{spec.name}` is no short printable text"
    if spec.values and value not in spec.values:
        return f"the caller's `{spec.name}` is not one of the declared values"
    return None


def caller_reason(name: str, message: str, place: Place | None = None) -> Reason:
    return Reason(id=f"caller.{name}", kind=Kind.CALLER, effect=Effect.DENY, message=message, place=place, param=None)


def _budget_callers(policy: Policy, caller: Caller) -> Iterator[Reason]:
    missing = {b.per: b.place for b in policy.budgets if b.per is not None and caller.get(b.per) is None}
    for name, place in sorted(missing.items()):
        yield caller_reason(name, f"the caller's `{name}` is missing, and a budget is kept per `{name}`", place)


# ---- before moderation ------------------------------------------------------------------------------------


def screen(
    policy: Policy, asked: ImageRequest, caller: Caller, now: datetime, fixed: frozenset[str] = frozenset()
) -> Screened:
    """Everything that can be decided without scores: parameters, price, caller values, and the rules over them.

    `caller` is resolved (`resolve_caller`); `now` is aware UTC; `fixed` are parameters that the door cannot change.
    """
    always = forced(with_defaults(policy.request, asked))
    fitted = _fit(policy, always.request, fixed)
    quote, price_reasons = _quote(fitted.request)
    screened = Screened(
        policy=policy,
        asked=asked,
        request=fitted.request,
        caller=caller,
        now=now,
        quote=quote,
        reasons=(),
        adjustments=tuple(always.adjustments + fitted.adjustments),
    )
    reasons = [*_budget_callers(policy, caller), *always.reasons, *fitted.reasons, *price_reasons]
    reasons += _review_required(policy)
    reasons += _rules(screened, None, late=False)
    return replace(screened, reasons=tuple(reasons))


def _fit(policy: Policy, request: ImageRequest, fixed: frozenset[str]) -> Fitting:
    """Under shadow the surface's own rules are only recorded; the organisation's limits stay."""
    fitted = fit(policy.request, request, policy.mode, fixed=fixed)
    if policy.mode == "enforce":
        return fitted
    limited = fit(policy.limits, request, "enforce", auto_unlisted=True)
    limited.reasons += fitted.reasons
    limited.reasons += [_would_adjust(fitted, adjustment) for adjustment in fitted.adjustments]
    return limited


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


def _quote(request: ImageRequest) -> tuple[Quote | None, tuple[Reason, ...]]:
    try:
        return pricing.ceiling(request), ()
    except pricing.UnknownPrice as unknown:
        reason = Reason(
            id="request.price", kind=Kind.PARAMETER, effect=Effect.DENY, message=f"no price: {unknown}", param="model"
        )
        return None, (reason,)


def _review_required(policy: Policy) -> Iterator[Reason]:
    if not policy.review.required:
        return
    mode: Mode = "enforce" if policy.limit_review else policy.mode
    yield Reason(
        id="review.required",
        kind=Kind.REVIEW,
        effect=Effect.REVIEW,
        message="every request of this surface is reviewed",
        place=policy.review.place,
        mode=mode,
    )


# ---- after moderation -------------------------------------------------------------------------------------


def judge(screened: Screened, verdict: Verdict | None) -> Screened:
    """Add what scores decide: thresholds, unavailability, and the rules that read scores.

    `verdict` is None where the policy has nothing moderated; rules that read scores are then unevaluable.
    """
    policy = screened.policy
    reasons = list(screened.reasons)
    if verdict is not None:
        reasons += _thresholds(policy.moderation, verdict, policy.mode)
        if policy.mode == "shadow":
            reasons += _thresholds(policy.limit_moderation, verdict, "enforce")
    reasons += _rules(screened, verdict, late=True)
    return replace(screened, reasons=tuple(reasons))


def _thresholds(rules: ModerationRules, verdict: Verdict, mode: Mode) -> Iterator[Reason]:
    missing = []
    for threshold in rules.deny_at:
        lower_bound = verdict.scores.get(threshold.category)
        if lower_bound is not None and lower_bound >= threshold.at:
            yield _moderation(threshold.category, lower_bound, threshold.at, Effect.DENY, threshold.place, mode)
        elif verdict.score(threshold.category) is None:
            missing.append(threshold.category)
    for threshold in rules.review_at:
        lower_bound = verdict.scores.get(threshold.category)
        if lower_bound is not None and lower_bound >= threshold.at:
            yield _moderation(threshold.category, lower_bound, threshold.at, Effect.REVIEW, threshold.place, mode)
    if missing:
        yield _moderation_unavailable(rules, verdict, missing, mode)


def _moderation(category: str, score: float, at: float, effect: Effect, place: Place, mode: Mode) -> Reason:
    return Reason(
        id=f"moderation.{category}",
        kind=Kind.MODERATION,
        effect=effect,
        message=f"moderation scores `{category}` at or above the threshold",
        place=place,
        mode=mode,
        values={"score": score, "threshold": at},
    )


def _moderation_unavailable(rules: ModerationRules, verdict: Verdict, missing: list[str], mode: Mode) -> Reason:
    return Reason(
        id="moderation.unavailable",
        kind=Kind.UNAVAILABLE,
        effect=rules.when_unavailable,
        message="moderation did not assess every category",
        place=rules.place,
        mode=mode,
        values={"error": verdict.error or "incomplete", "missing": len(missing)},
    )


# ---- rules ------------------------------------------------------------------------------------------------


def rule_stage(policy: Policy, rule: Rule) -> Literal["screen", "judge"]:
    """When a rule runs, derived from what it and its exemptions read."""
    exemptions = (e for e in policy.exempt if rule.id in e.rules and not rule.organisation)
    late = rule.needs_scores or any(_reads_scores(e.when.reads) for e in exemptions)
    return "judge" if late else "screen"


def _reads_scores(reads: frozenset[str]) -> bool:
    return any(name.split(".", 1)[0] == "scores" for name in reads)


def _rules(screened: Screened, verdict: Verdict | None, *, late: bool) -> Iterator[Reason]:
    stage = "judge" if late else "screen"
    rules = [rule for rule in screened.policy.rules if rule_stage(screened.policy, rule) == stage]
    if not rules:
        return
    inputs = facts(screened, verdict)
    for rule in rules:
        reason = _rule(screened, rule, inputs)
        if reason is not None:
            exemption = _exemption(screened, rule, inputs)
            yield _exempted(reason, exemption) if exemption else reason


def facts(screened: Screened, verdict: Verdict | None) -> dict[str, Any]:
    """What conditions can read, by root name."""
    request, size = screened.request, parse_size(screened.request.size or "")
    scores = None
    if verdict is not None:
        scores = {c: s for c, s in verdict.scores.items() if c not in verdict.incomplete}
    return {
        "request": RequestFacts(
            operation=request.operation,
            prompt=request.prompt,
            model=request.model or "",
            size=request.size or "",
            width=size.width if size else None,
            height=size.height if size else None,
            pixels=size.pixels if size else None,
            quality=request.quality or "",
            n=request.n or 1,
            background=request.background or "auto",
            output_format=request.output_format or "png",
            partial_images=request.partial_images or 0,
            input_images=len(request.images),
            has_mask=request.mask is not None,
        ),
        "caller": dict(screened.caller.items()),
        "scores": scores,
        "surface": screened.policy.surface,
        "now": screened.now,
    }


def rule_mode(policy: Policy, rule: Rule) -> Mode:
    """A surface in shadow has its own rules in shadow; the organisation's rules keep their own mode."""
    return rule.mode if rule.organisation or policy.mode == "enforce" else "shadow"


def _rule(screened: Screened, rule: Rule, inputs: Mapping[str, Any]) -> Reason | None:
    mode = rule_mode(screened.policy, rule)
    try:
        if not rule.when(inputs):
            return None
    except Unavailable:
        return _unevaluable(rule, mode, screened.policy.moderation.when_unavailable, "an input is unavailable")
    except EvaluationError as error:
        return _unevaluable(rule, mode, Effect.DENY, f"the condition fails ({error.code})")
    return Reason(
        id=rule.id,
        kind=Kind.REVIEW if rule.then is Effect.REVIEW else Kind.RULE,
        effect=rule.then,
        message=rule.message,
        place=rule.place,
        mode=mode,
        values=_values(rule, inputs),
    )


def _unevaluable(rule: Rule, mode: Mode, effect: Effect, why: str) -> Reason:
    """A rule that cannot be evaluated denies or holds; a flag is only recorded."""
    recorded_only = rule.then is Effect.FLAG
    return Reason(
        id=rule.id,
        kind=Kind.UNAVAILABLE,
        effect=Effect.FLAG if recorded_only else effect,
        message=f"unevaluable: {why}",
        place=rule.place,
        mode=mode,
        values={"unevaluable": True},
    )


def _exemption(screened: Screened, rule: Rule, inputs: Mapping[str, Any]) -> Exemption | None:
    if rule.organisation:
        return None
    today = screened.now.date()
    for exemption in screened.policy.exempt:
        if rule.id not in exemption.rules or today > exemption.until:
            continue
        try:
            if exemption.when(inputs):
                return exemption
        except (Unavailable, EvaluationError):
            continue  # an exemption that cannot be evaluated does not apply
    return None


def _exempted(reason: Reason, exemption: Exemption) -> Reason:
    """An exempted rule is recorded like a shadow rule: who switched it off for this request is part of the record."""
    values = {**reason.values, "exempt_until": exemption.until.isoformat(), "exempt_place": str(exemption.place)}
    return replace(reason, mode="shadow", values=values)


def _values(rule: Rule, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """What the condition read, without the prompt and without anything that may name a person."""
    values: dict[str, Any] = {}
    for name in sorted(rule.when.reads):
        root, _, rest = name.partition(".")
        if root == "request" and rest and rest != "prompt":
            values[name] = getattr(inputs["request"], rest)
        elif (root == "caller" and rest in _OPEN_CALLER_FIELDS) or (root == "scores" and rest):
            values[name] = (inputs[root] or {}).get(rest)
    return values

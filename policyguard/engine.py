"""The decision: `screen` before moderation, `judge` after it, `inspect` when the answer is there.

Pure and fast: no clock, no I/O, no randomness.

Every reason is kept, not only the first, and outcomes combine as deny > review > flag > allow whatever the order of
rules. What cannot be evaluated is a reason of its own, never a rule that was skipped.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any, Literal, NamedTuple

from policyguard import pricing
from policyguard.decision import Adjustment, Effect, Kind, Mode, Place, Reason
from policyguard.fit import Fitting, fit, fits, forced, with_defaults
from policyguard.policy.expr import EvaluationError, Unavailable, field_of
from policyguard.policy.model import (
    Armed,
    CallerField,
    Exemption,
    Expression,
    ModerationRules,
    Policy,
    Question,
    RequestRules,
    Rule,
    Threshold,
)
from policyguard.policy.questions import answers_in
from policyguard.pricing import Quote
from policyguard.request import AUTO, CATEGORIES, IMAGE_CATEGORIES, Answers, Caller, ImageRequest, Verdict

Stage = Literal["input", "output"]
_NAMESPACES: Mapping[Stage, str] = {"input": "moderation", "output": "output"}  # of reasons
_SCORED: Mapping[str, Collection[str]] = {"scores": CATEGORIES, "output": IMAGE_CATEGORIES}
_UNCHANGED: tuple[Adjustment, ...] = ()
_MAX_CALLER_CHARS = 256
# Caller values that may stand in a record as they are; the others name a person or may do so.
_OPEN_CALLER_FIELDS = frozenset({"tenant", "tier", "cohort", "feature"})


class Screened(NamedTuple):
    """What is known before moderation. `request` is what would go upstream.

    `facts` are what conditions can read before moderation; `quote` is there once `price` found one.
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

    def after(self, reasons: tuple[Reason, ...]) -> Screened:
        """With what was found before the policy was asked; what is said there is not said twice."""
        said = {reason.id for reason in reasons}
        return self._replace(reasons=reasons + tuple(r for r in self.reasons if r.id not in said))


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
    if len(value) > _MAX_CALLER_CHARS or not value.isprintable():
        return f"the caller's `{spec.name}` is no short printable text"
    if spec.values and value not in spec.values:
        return f"the caller's `{spec.name}` is not one of the declared values"
    return None


def caller_reason(name: str, message: str, place: Place | None = None) -> Reason:
    return Reason(id=f"caller.{name}", kind=Kind.CALLER, effect=Effect.DENY, message=message, place=place, param=None)


def _missing_callers(policy: Policy, caller: Caller) -> Iterator[Reason]:
    for name in policy.prepared.per:
        if name not in caller.values:
            place = next(budget.place for budget in policy.budgets if budget.per == name)
            yield caller_reason(name, f"the caller's `{name}` is missing, and a budget is kept per `{name}`", place)


# ---- before moderation ------------------------------------------------------------------------------------


def screen(
    policy: Policy, asked: ImageRequest, caller: Caller, now: datetime, fixed: frozenset[str] = frozenset()
) -> Screened:
    """Everything that can be decided without scores: parameters, caller values, and the rules over them.

    `caller` is resolved (`resolve_caller`); `now` is aware UTC; `fixed` are parameters that the door cannot change.
    """
    prepared, request, adjustments = policy.prepared, asked, _UNCHANGED
    reasons = list(_missing_callers(policy, caller)) if prepared.per else []
    if not fits(prepared.plain, asked):
        filled = with_defaults(policy.request, asked)
        if policy.mode == "enforce" and fits(prepared.plain, filled):
            request = filled
        else:
            request, adjustments, wrong = _fitted(policy, asked, filled, fixed)
            reasons += wrong
    if policy.review.required:
        reasons.append(_review_required(policy))
    given = {"request": request, "caller": caller.values, "surface": policy.surface, "now": now}
    facts = {**given, "scores": None, "answers": None, "output": None}
    _fire(prepared.early, facts, policy, reasons)
    return Screened(policy, asked, request, caller, now, tuple(reasons), adjustments, facts)


def _fitted(
    policy: Policy, asked: ImageRequest, filled: ImageRequest, fixed: frozenset[str]
) -> tuple[ImageRequest, tuple[Adjustment, ...], list[Reason]]:
    """A closer look at the parameters, `filled` with the policy's defaults."""
    always = forced(filled, whole=policy.holds_back)
    fitted = fit(policy.request, always.request, policy.mode, fixed=fixed)
    if policy.mode == "shadow":
        would, fitted = fitted, fit(policy.limits, _left_out(policy, asked, always), "enforce", auto_unlisted=True)
        fitted.reasons += would.reasons
        fitted.reasons += [_would_adjust(would, adjustment) for adjustment in would.adjustments]
    return fitted.request, (*always.adjustments, *fitted.adjustments), always.reasons + fitted.reasons


def _left_out(policy: Policy, asked: ImageRequest, always: Fitting) -> ImageRequest:
    """Under shadow, what the client left out is left to upstream. Where a limit does not let it, the default is taken
    and that is recorded: such a request was sent with it before."""
    changes: dict[str, Any] = {}
    for name, admits in (("size", _admits_any_size), ("quality", _admits_any_quality)):
        default = getattr(always.request, name)
        if getattr(asked, name) is not None or default == AUTO:
            continue
        if admits(policy.limits):
            changes[name] = AUTO
        else:
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


def price(screened: Screened) -> Screened:
    """With the most that the request can cost, or with the reason why nobody knows."""
    try:
        return screened._replace(quote=pricing.ceiling(screened.request, screened.policy.request.prices))
    except pricing.UnknownPrice as unknown:
        message = f"no price: {unknown}"
    reason = Reason(id="request.price", kind=Kind.PARAMETER, effect=Effect.DENY, message=message, param="model")
    return screened._replace(reasons=(*screened.reasons, reason))


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
    if verdict is not None and _alarming(policy.prepared.alarms, verdict):
        reasons += _thresholds(policy.moderation, verdict, policy.mode)
        if policy.mode == "shadow":
            reasons += _thresholds(policy.limit_moderation, verdict, "enforce")
    if policy.prepared.late:
        _fire(policy.prepared.late, facts_with(screened, verdict, answers), policy, reasons)
    return screened._replace(reasons=(*screened.reasons, *reasons)) if reasons else screened


def facts_with(screened: Screened, verdict: Verdict | None, answers: Answers | None = None) -> Mapping[str, Any]:
    """What conditions can read after moderation. A score that is only a lower bound counts as unknown."""
    facts = screened.facts if answers is None else {**screened.facts, "answers": answers.probabilities}
    return facts if verdict is None else {**facts, "scores": _known(verdict)}


def _known(verdict: Verdict) -> Mapping[str, float]:
    if not verdict.incomplete:
        return verdict.scores
    return {category: score for category, score in verdict.scores.items() if category not in verdict.incomplete}


def _alarming(alarms: tuple[tuple[str, float], ...], verdict: Verdict) -> bool:
    """Whether some score may have an effect, or is not there."""
    scores = verdict.scores
    if verdict.incomplete or len(scores) < len(CATEGORIES):
        return True
    try:
        for category, at in alarms:
            if not scores[category] < at:
                return True
    except KeyError:
        return True
    return False


def _thresholds(rules: ModerationRules, verdict: Verdict, mode: Mode, stage: Stage = "input") -> Iterator[Reason]:
    """Of pictures alone only what is looked for in pictures can be missing."""
    missing = set()
    for effect, thresholds in ((Effect.DENY, rules.deny_at), (Effect.REVIEW, rules.review_at)):
        for threshold in thresholds:
            if stage == "output" and threshold.category not in IMAGE_CATEGORIES:
                continue
            lower_bound = verdict.scores.get(threshold.category)
            if lower_bound is not None and lower_bound >= threshold.at:
                yield _moderation(threshold, lower_bound, effect, mode, stage)
            elif verdict.score(threshold.category) is None:
                missing.add(threshold.category)
    if missing:
        yield _moderation_unavailable(rules, verdict, len(missing), mode, stage)


def _moderation(threshold: Threshold, score: float, effect: Effect, mode: Mode, stage: Stage) -> Reason:
    category = threshold.category
    return Reason(
        id=f"{_NAMESPACES[stage]}.{category}",
        kind=Kind.MODERATION,
        effect=effect,
        message=f"moderation scores `{category}` at or above the threshold",
        place=threshold.place,
        mode=mode,
        values={"score": score, "threshold": threshold.at},
    )


def _moderation_unavailable(rules: ModerationRules, verdict: Verdict, missing: int, mode: Mode, stage: Stage) -> Reason:
    return Reason(
        id=f"{_NAMESPACES[stage]}.unavailable",
        kind=Kind.UNAVAILABLE,
        effect=rules.when_unavailable,
        message="moderation did not assess every category",
        place=rules.place,
        mode=mode,
        values={"error": verdict.error or "incomplete", "missing": missing},
    )


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
        reasons += _thresholds(policy.moderation, output, policy.mode, "output")
    if output is not None and policy.mode == "shadow" and "output_images" in policy.limit_moderation.check:
        reasons += _thresholds(policy.limit_moderation, output, "enforce", "output")
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
        _fire(policy.prepared.final, facts, policy, reasons)
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


def _fire(armed: tuple[Armed, ...], facts: Mapping[str, Any], policy: Policy, reasons: list[Reason]) -> None:
    """Add the reason of every rule whose condition is true, or cannot be evaluated."""
    for one in armed:
        try:
            if not one.run(facts):
                continue
            reason = _fired(one, facts)
        except Unavailable:
            reason = _unevaluable(one, when_unavailable(one, facts, policy), "an input is unavailable")
        except EvaluationError as error:
            reason = _unevaluable(one, Effect.DENY, f"the condition fails ({error.code})")
        exemption = _exemption(one, facts) if one.exempt else None
        reasons.append(_exempted(reason, exemption) if exemption else reason)


def _fired(armed: Armed, facts: Mapping[str, Any]) -> Reason:
    rule = armed.rule
    return Reason(
        id=rule.id,
        kind=Kind.REVIEW if rule.then is Effect.REVIEW else Kind.RULE,
        effect=rule.then,
        message=rule.message,
        place=rule.place,
        mode=armed.mode,
        values=_values(rule, facts),
    )


def _unevaluable(armed: Armed, effect: Effect, why: str) -> Reason:
    """A rule that cannot be evaluated denies or holds; a flag is only recorded."""
    rule = armed.rule
    recorded_only = rule.then is Effect.FLAG
    return Reason(
        id=rule.id,
        kind=Kind.UNAVAILABLE,
        effect=Effect.FLAG if recorded_only else effect,
        message=f"unevaluable: {why}",
        place=rule.place,
        mode=armed.mode,
        values={"unevaluable": True},
    )


def when_unavailable(armed: Armed, facts: Mapping[str, Any], policy: Policy) -> Effect:
    """The strictest of what is said of the inputs that are not there."""
    reads, answers = armed.rule.when.reads, facts["answers"] or {}
    effects = [
        question.when_unavailable
        for question in policy.questions
        if f"answers.{question.name}" in reads and question.name not in answers
    ]
    if not effects or any(_is_unscored(name, facts) for name in reads):
        effects.append(policy.moderation.when_unavailable)
    return max(effects)


def _is_unscored(name: str, facts: Mapping[str, Any]) -> bool:
    """Whether what `name` reads of scores, of the request or its output, was not assessed."""
    root, _, category = name.partition(".")
    if root not in _SCORED:
        return False
    scores = facts[root] or {}
    return category not in scores if category else len(scores) < len(_SCORED[root])


def _exemption(armed: Armed, facts: Mapping[str, Any]) -> Exemption | None:
    today = facts["now"].date()
    for exemption in armed.exempt:
        if today > exemption.until:
            continue
        try:
            if exemption.when(facts):
                return exemption
        except (Unavailable, EvaluationError):
            continue  # an exemption that cannot be evaluated does not apply
    return None


def _exempted(reason: Reason, exemption: Exemption) -> Reason:
    """An exempted rule is recorded like a shadow rule: who switched it off for this request is part of the record."""
    values = {**reason.values, "exempt_until": exemption.until.isoformat(), "exempt_place": str(exemption.place)}
    return reason._replace(mode="shadow", values=values)


def _values(rule: Rule, facts: Mapping[str, Any]) -> dict[str, Any]:
    """What the condition read, without the prompt and without anything that may name a person."""
    values: dict[str, Any] = {}
    for name in sorted(rule.when.reads):
        root, _, rest = name.partition(".")
        if root == "request" and rest and rest != "prompt":
            values[name] = _field(facts["request"], rest)
        elif (root == "caller" and rest in _OPEN_CALLER_FIELDS) or (root in ("scores", "output", "answers") and rest):
            values[name] = (facts[root] or {}).get(rest)
    return values


def _field(request: ImageRequest, name: str) -> Any:
    try:
        return field_of(request, name)
    except EvaluationError:  # of a size that upstream picks
        return None

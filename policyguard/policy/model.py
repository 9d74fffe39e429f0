"""Compiled policies: the tables and functions that the engine reads. Built by `compile`, never by hand in production.

Everything here is frozen; a `PolicySet` is replaced as a whole. Each value that can refuse a request knows its place
in the YAML.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, NamedTuple, Protocol

from policyguard.decision import Effect, Mode, Place
from policyguard.pricing import PriceBook, price_book
from policyguard.request import IMAGE_CATEGORIES, MAX_IMAGES, MAX_PROMPT_CHARS, parse_size

Check = Literal["prompt", "input_images", "output_images"]


class Expression(Protocol):
    """A compiled CEL condition."""

    @property
    def source(self) -> str: ...

    @property
    def run(self) -> Callable[[Mapping[str, Any]], bool]:
        """The condition as a plain function."""

    @property
    def reads(self) -> frozenset[str]:
        """Dotted names, for example `request.n`, `caller.tier`, `scores.sexual/minors`."""

    def __call__(self, inputs: Mapping[str, Any]) -> bool:
        """True or False; raises `policyguard.policy.expr.Unavailable` or `EvaluationError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CallerField:
    """One value of who asks. `header` is lower case; None: given in code."""

    name: str
    place: Place
    header: str | None = None
    required: bool = False
    default: str | None = None
    values: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRules:
    """What a request may ask for. None means: not restricted beyond what the API and the price book allow.

    `prices` say which models, sizes and qualities there are, and what they cost. `places` maps `model, size, quality,
    n, output_format, prompt, input_images, partial_images, responses, extra` to where the rule stands. Lists keep the
    order of the file. `auto` counts only where it is listed.
    """

    models: tuple[str, ...] | None = None
    default_model: str | None = None
    sizes: tuple[str, ...] | None = None
    max_pixels: int | None = None
    max_edge: int | None = None
    default_size: str | None = None
    qualities: tuple[str, ...] | None = None
    default_quality: str | None = None
    max_n: int | None = None
    formats: tuple[str, ...] | None = None
    max_prompt_chars: int | None = None
    max_input_images: int | None = None
    max_input_bytes: int | None = None  # per image
    input_types: tuple[str, ...] | None = None  # like `png`
    max_input_pixels: int | None = None  # per image
    max_input_edge: int | None = None
    input_hosts: tuple[str, ...] | None = None  # of images elsewhere; what a surface does not name is ()
    max_partial_images: int = 0
    main_models: tuple[str, ...] | None = None
    max_output_tokens: int | None = None  # of a main model
    unknown_parameters: Literal["deny", "pass"] = "deny"
    on_excess: Literal["deny", "adjust"] = "deny"
    places: Mapping[str, Place] = field(default_factory=dict)
    prices: PriceBook = field(default_factory=price_book, repr=False)

    def admits_size(self, text: str, *, auto_unlisted: bool = False) -> bool:
        """`auto_unlisted`: whether `auto` passes where nothing is listed. What upstream then picks has no bound."""
        if self.sizes is not None and text not in self.sizes:
            return False
        size = parse_size(text)
        if size is None:
            return self.sizes is not None or (auto_unlisted and self.max_pixels is None and self.max_edge is None)
        too_big = self.max_pixels is not None and size.pixels > self.max_pixels
        too_long = self.max_edge is not None and size.edge > self.max_edge
        return not too_big and not too_long


class Threshold(NamedTuple):
    """`score >= at` has the effect. `at` is 0 to 1."""

    category: str
    at: float
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class ModerationRules:
    """`deny_at` has one threshold for each of the 13 categories; `review_at` only for those that are named."""

    model: str
    check: frozenset[Check]
    deny_at: tuple[Threshold, ...]
    review_at: tuple[Threshold, ...]
    when_unavailable: Literal[Effect.DENY, Effect.REVIEW]
    timeout_s: float
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A team's own rule."""

    id: str
    when: Expression
    then: Literal[Effect.FLAG, Effect.REVIEW, Effect.DENY]
    message: str
    mode: Mode
    place: Place
    organisation: bool  # stands in org.yaml: enforced whatever the surface's mode


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """Asked about a request where a rule needs the answer: the probability, 0 to 1, that it is to be answered yes."""

    name: str
    ask: str
    when_unavailable: Literal[Effect.DENY, Effect.REVIEW]
    place: Place


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Switches rules of the same file off where `when` is true, until the end of `until` (UTC)."""

    rules: frozenset[str]
    when: Expression
    until: date
    by: str
    why: str
    place: Place


Unit = Literal["usd", "images", "requests"]
Period = Literal["minute", "hour", "day", "week", "month", "year", "total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A cap on money (`usd`, limit in micro-dollars), images or requests, per calendar window and per value of `per`.

    `identity` names what may not change without being a new budget: file, id, unit, window, zone, per. `alert_at` are
    per cent of the limit, in order.
    """

    id: str
    unit: Unit
    limit: int
    period: Period
    time_zone: str
    per: str | None  # a caller field's name, for example `user`
    mode: Mode
    place: Place
    identity: str
    alert_at: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    after: timedelta
    to: tuple[str, ...]  # people, groups already resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRules:
    """Who decides what is held. `reviewers` are people, groups already resolved. `hold_output`: every answer is."""

    required: bool
    reviewers: tuple[str, ...]
    approvals: int
    escalate: tuple[Escalation, ...]
    expires: timedelta
    place: Place
    hold_output: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditRules:
    """Days to keep; None keeps for ever. `store_prompt`: every prompt is kept, encrypted."""

    store_prompt: bool
    events_days: int | None
    private_days: int | None
    artefacts_days: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """Which requests of an ASGI app belong to a surface.

    `shape` is `generations`, `edits` or `responses` (OpenAI's own forms) or `custom`. For `custom`, `fields` maps a
    parameter to a path in the JSON body, `constants` to a fixed value; `usage` and `images` are paths in the answer.
    Paths are tuples of keys; `"[]"` stands for every element of a list.
    """

    method: str
    path: str
    shape: Literal["generations", "edits", "responses", "custom"]
    place: Place
    fields: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    constants: Mapping[str, str | int] = field(default_factory=dict)
    usage: tuple[str, ...] | None = None
    images: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """One surface. `digest` is over the meaning: a comment or the order of keys does not change it.

    `request` and `moderation` are effective: the surface's own, else the default, within the limits. `limits` and
    `limit_moderation` are the organisation's part alone; they stay enforced where `mode` is shadow.
    """

    surface: str
    title: str
    owner: str
    stakes: Literal["low", "high"]
    mode: Mode
    place: Place
    digest: str
    request: RequestRules
    limits: RequestRules
    moderation: ModerationRules
    limit_moderation: ModerationRules
    rules: tuple[Rule, ...]
    exempt: tuple[Exemption, ...]
    budgets: tuple[Budget, ...]  # the surface's and the organisation's, sorted by identity
    review: ReviewRules
    audit: AuditRules
    routes: tuple[Route, ...]
    limit_review: bool = False  # the organisation's limits alone require a review of every request
    limit_hold_output: bool = False  # the same of every answer
    reasons_on_wire: bool = True
    questions: tuple[Question, ...] = ()  # those that some rule reads, the organisation's included
    prepared: Prepared = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "prepared", _prepare(self))

    @property
    def checks_output(self) -> bool:
        """Whether the images of an answer are scored."""
        return "output_images" in self.moderation.check or "output_images" in self.limit_moderation.check

    @property
    def inspects_output(self) -> bool:
        """Whether an answer is looked at before it is released."""
        return self.checks_output or self.review.hold_output

    @property
    def holds_back(self) -> bool:
        """Whether what is found in an answer can keep it from being released; in shadow the organisation's part can."""
        if self.mode == "enforce":
            return self.inspects_output
        rules = any(one.mode == "enforce" for one in self.prepared.final)
        return self.limit_hold_output or "output_images" in self.limit_moderation.check or rules

    @property
    def may_hold_output(self) -> bool:
        """Whether an answer can have to wait for a review."""
        held = {threshold.category for threshold in self.moderation.review_at}.intersection(IMAGE_CATEGORIES)
        rules = any(one.rule.then is Effect.REVIEW for one in self.prepared.final)
        unavailable = self.checks_output and self.moderation.when_unavailable is Effect.REVIEW
        scored = self.checks_output and bool(held)
        return self.holds_back and (self.review.hold_output or scored or rules or unavailable)


# ---- prepared ---------------------------------------------------------------------------------------------


class Plain(NamedTuple):
    """Requests that are as the policy wants them: nothing to fill in, to bring down or to refuse.

    A request beyond this is looked at closely; it need not be refused. `formats` None: any.
    """

    models: frozenset[str | None]
    sizes: frozenset[str | None]
    qualities: frozenset[str | None]
    formats: frozenset[str] | None
    max_n: int
    max_prompt_chars: int


class Armed(NamedTuple):
    """A rule as it runs on one surface: the mode that holds there, and the exemptions from it."""

    run: Callable[[Mapping[str, Any]], bool]
    rule: Rule
    mode: Mode
    exempt: tuple[Exemption, ...]


@dataclass(frozen=True, slots=True)
class Prepared:
    """What the engine looks at first, made once for a policy, so that most requests need no closer look.

    `alarms` is the lowest score of each category that has any effect; `per` are the caller values that budgets need.
    `early` rules read nothing of moderation and run before it, `late` ones after it, `final` ones read what came out:
    that is derived, never written. `asking` are those that read answers.
    """

    plain: Plain | None
    alarms: tuple[tuple[str, float], ...]
    per: tuple[str, ...]
    early: tuple[Armed, ...]
    late: tuple[Armed, ...]
    asking: tuple[Armed, ...]
    final: tuple[Armed, ...]


def _prepare(policy: Policy) -> Prepared:
    armed = [_armed(policy, rule) for rule in policy.rules]
    return Prepared(
        plain=_plain(policy.request),
        alarms=_alarms(policy),
        per=tuple(sorted({budget.per for budget in policy.budgets if budget.per is not None})),
        early=tuple(one for one in armed if not _reads(one, "scores", "answers", "output")),
        late=tuple(one for one in armed if _reads(one, "scores", "answers") and not _reads(one, "output")),
        asking=tuple(one for one in armed if _reads(one, "answers")),
        final=tuple(one for one in armed if _reads(one, "output")),
    )


def _plain(rules: RequestRules) -> Plain | None:
    if rules.models is None or rules.sizes is None or rules.qualities is None:
        return None
    return Plain(
        models=frozenset(rules.models),
        sizes=frozenset(text for text in rules.sizes if rules.admits_size(text)),
        qualities=frozenset(rules.qualities),
        formats=None if rules.formats is None else frozenset(rules.formats),
        max_n=MAX_IMAGES if rules.max_n is None else rules.max_n,
        max_prompt_chars=MAX_PROMPT_CHARS if rules.max_prompt_chars is None else rules.max_prompt_chars,
    )


def _alarms(policy: Policy) -> tuple[tuple[str, float], ...]:
    lowest: dict[str, float] = {}
    for rules in (policy.moderation, policy.limit_moderation):
        for threshold in (*rules.deny_at, *rules.review_at):
            lowest[threshold.category] = min(threshold.at, lowest.get(threshold.category, threshold.at))
    return tuple(lowest.items())


def _armed(policy: Policy, rule: Rule) -> Armed:
    """In a surface in shadow its own rules are so, too. The organisation's keep their mode, and have no exemptions."""
    mode: Mode = rule.mode if rule.organisation or policy.mode == "enforce" else "shadow"
    exempt = () if rule.organisation else tuple(e for e in policy.exempt if rule.id in e.rules)
    return Armed(rule.when.run, rule, mode, exempt)


def _reads(armed: Armed, *roots: str) -> bool:
    """Whether a rule, or an exemption from it, reads one of these."""
    conditions = (armed.rule.when, *(exemption.when for exemption in armed.exempt))
    return any(name.split(".", 1)[0] in roots for condition in conditions for name in condition.reads)


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicySet:
    """All surfaces of a folder. `digest` is over all of them; `origin` is what `load` needs to follow the folder."""

    organisation: str
    folder: str
    digest: str
    loaded_at: datetime | None
    caller: tuple[CallerField, ...]
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...]
    groups: Mapping[str, tuple[str, ...]]
    surfaces: Mapping[str, Policy]
    prices: PriceBook = field(default_factory=price_book, repr=False, compare=False)
    origin: Any = field(default=None, repr=False, compare=False)

"""Compiled policies: the tables and functions that the engine reads. Built by `compile`, never by hand in production.

Everything here is frozen; a `PolicySet` is replaced as a whole. Each value that can refuse a request knows its place
in the YAML.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network
from typing import Any, Literal, Protocol

from policyguard.decision import Effect, Mode, Place

Check = Literal["prompt", "input_images"]


class Expression(Protocol):
    """A compiled CEL condition."""

    @property
    def source(self) -> str: ...

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

    `places` maps `model, size, quality, n, output_format, prompt, input_images, partial_images, extra` to where the
    rule stands. Lists keep the order of the file. `auto` counts only where it is listed.
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
    max_partial_images: int = 0
    unknown_parameters: Literal["deny", "pass"] = "deny"
    on_excess: Literal["deny", "adjust"] = "deny"
    places: Mapping[str, Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Threshold:
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
    """A team's own rule. `needs_scores` is derived from what the condition reads."""

    id: str
    when: Expression
    then: Literal[Effect.FLAG, Effect.REVIEW, Effect.DENY]
    message: str
    mode: Mode
    place: Place
    organisation: bool  # stands in org.yaml: enforced whatever the surface's mode
    needs_scores: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Exemption:
    """Switches rules of the same file off where `when` is true, until the end of `until` (UTC)."""

    rules: frozenset[str]
    when: Expression
    until: date
    by: str
    why: str
    place: Place


Period = Literal["minute", "hour", "day", "week", "month", "year", "total"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """A cap on money (`usd`, limit in micro-dollars) or on images, per calendar window and per value of `per`.

    `identity` names what may not change without being a new budget: file, id, unit, window, zone, per.
    """

    id: str
    unit: Literal["usd", "images"]
    limit: int
    period: Period
    time_zone: str
    per: str | None  # a caller field's name, for example `user`
    mode: Mode
    place: Place
    identity: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Escalation:
    after: timedelta
    to: tuple[str, ...]  # people, groups already resolved


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewRules:
    """Who decides a held request. `reviewers` are people, groups already resolved."""

    required: bool
    reviewers: tuple[str, ...]
    approvals: int
    escalate: tuple[Escalation, ...]
    expires: timedelta
    place: Place


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

    `shape` is `generations` or `edits` (OpenAI's own forms) or `custom`. For `custom`, `fields` maps a parameter to a
    path in the JSON body, `constants` to a fixed value; `usage` and `images` are paths in the JSON answer.
    Paths are tuples of keys; `"[]"` stands for every element of a list.
    """

    method: str
    path: str
    shape: Literal["generations", "edits", "custom"]
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
    reasons_on_wire: bool = True


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
    origin: Any = field(default=None, repr=False, compare=False)

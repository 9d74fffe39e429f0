"""What the policy says of one request: reasons, the decision, and what a guard answers.

A refusal is a value with a place in `REFUSALS`, which fixes its HTTP status, type and code on every
door. `PolicyRefused` carries the same value for code that prefers exceptions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import IntEnum, StrEnum
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from policyguard.errors import PolicyguardError
from policyguard.request import Answer, Answers, ImageRequest, Verdict

Mode = Literal["enforce", "shadow"]
_EMPTY: Mapping[str, Any] = MappingProxyType({})


def _empty() -> Mapping[str, Any]:
    return _EMPTY


class Effect(IntEnum):
    """Outcomes in order of strength: deny > review > flag > allow. There is no way to combine downwards."""

    ALLOW = 0
    FLAG = 1
    REVIEW = 2
    DENY = 3

    @property
    def word(self) -> str:
        return self.name.lower()


class Kind(StrEnum):
    """What a reason is about. It decides how a refusal looks on the wire."""

    MALFORMED = "malformed"
    CALLER = "caller"
    PAUSED = "paused"
    SURFACE = "surface"
    PARAMETER = "parameter"
    RULE = "rule"
    MODERATION = "moderation"
    REVIEW = "review"
    BUDGET = "budget"
    UNAVAILABLE = "unavailable"


class RefusalForm(NamedTuple):
    """How one kind of refusal looks on the wire."""

    status: int
    type: str
    code: str


# In order of precedence: where several reasons deny, the first kind found speaks.
REFUSALS: Mapping[Kind, RefusalForm] = MappingProxyType(
    {
        Kind.MALFORMED: RefusalForm(400, "invalid_request_error", "invalid_request"),
        Kind.SURFACE: RefusalForm(403, "permission_error", "policy_no_surface"),
        Kind.PAUSED: RefusalForm(403, "permission_error", "policy_paused"),
        Kind.CALLER: RefusalForm(403, "permission_error", "policy_caller_missing"),
        Kind.MODERATION: RefusalForm(400, "image_generation_user_error", "moderation_blocked"),
        Kind.PARAMETER: RefusalForm(400, "invalid_request_error", "policy_violation"),
        Kind.RULE: RefusalForm(400, "invalid_request_error", "policy_violation"),
        Kind.BUDGET: RefusalForm(429, "insufficient_quota", "policy_budget_exceeded"),
        Kind.UNAVAILABLE: RefusalForm(503, "service_unavailable_error", "policy_unavailable"),
        Kind.REVIEW: RefusalForm(403, "permission_error", "policy_review_required"),
    }
)


class Place(NamedTuple):
    """Where in the policies something stands. Lines and columns count from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Reason(NamedTuple):
    """Why. `id` is a rule's id, or a built-in reason with a dot in it; `values` are what it saw, `hint` says
    what is allowed. Clients read message and hint.

    None of them ever holds text of the prompt.
    """

    id: str
    kind: Kind
    effect: Effect
    message: str
    place: Place | None = None
    mode: Mode = "enforce"
    param: str | None = None
    values: Mapping[str, Any] = _EMPTY
    hint: str = ""

    @property
    def enforced(self) -> bool:
        return self.mode == "enforce"


class Adjustment(NamedTuple):
    """A parameter that was brought down to what the policy allows."""

    param: str
    asked: str
    given: str

    def __str__(self) -> str:
        return f"{self.param}={self.asked}->{self.given}"


def combine(reasons: Iterable[Reason]) -> Effect:
    """The strongest enforced effect; shadow reasons never count."""
    strongest = Effect.ALLOW
    for reason in reasons:
        if reason.effect > strongest and reason.enforced:
            strongest = reason.effect
    return strongest


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the policy says of one request. `request` is what may go upstream, after defaults and adjustments."""

    id: str
    surface: str | None
    policy_digest: str
    effect: Effect
    reasons: tuple[Reason, ...] = ()
    request: ImageRequest | None = None
    adjustments: tuple[Adjustment, ...] = ()
    verdict: Verdict | None = None
    answers: Answers | None = None

    @property
    def kind(self) -> Kind:
        """The kind of refusal that speaks for this decision, by the order of `REFUSALS`."""
        kinds = {r.kind for r in self.reasons if r.enforced and r.effect is self.effect}
        return next(kind for kind in REFUSALS if kind in kinds)


@dataclass(frozen=True, slots=True, kw_only=True)
class Ticket:
    """The money side of an admitted request. Settle it exactly once; unsettled, it runs out by itself.

    `ceiling_micros` is the most that the request can cost, in micro-dollars, already reserved.
    `expires_at` (UTC) is when an unsent ticket is released. `rates` are thousandths of a micro-dollar for a token, by
    kind, as they were when it was admitted: its cost is told by them.
    """

    leg_id: str
    decision_id: str
    surface: str
    model: str
    ceiling_micros: int
    expires_at: datetime
    rates: Mapping[str, int | None] = field(repr=False)
    review_id: str | None = None
    safety_identifier: str | None = field(default=None, repr=False)
    record: Mapping[str, Any] = field(
        default_factory=_empty, repr=False
    )  # the fields that every event of this leg shares
    output: Any = field(default=None, repr=False, compare=False)  # what an inspection needs; None: nothing is looked at


@dataclass(frozen=True, slots=True)
class Admitted:
    """The request may go upstream as `decision.request` says. Call `settle` when it ended."""

    decision: Decision
    ticket: Ticket

    @property
    def request(self) -> ImageRequest:
        if self.decision.request is None:
            raise PolicyguardError("an admitted decision without its request")
        return self.decision.request


@dataclass(frozen=True, slots=True, kw_only=True)
class Refused:
    """The request must not go upstream.

    `opens_at` (UTC) says when a spent budget opens again; `retry_after_s` when it makes sense to ask again. `stage`
    `output`: the images were made, and are withheld.
    """

    decision: Decision
    status: int
    type: str
    code: str
    message: str
    param: str | None = None
    review_id: str | None = None
    opens_at: datetime | None = None
    retry_after_s: int | None = None
    stage: Literal["input", "output"] = "input"


WAITS = "this request waits for a review"


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A human decides first. Re-send the same request with `review_id` once it is approved."""

    decision: Decision
    review_id: str
    expires_at: datetime
    message: str = WAITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Released:
    """An answer that was held for a review, and approved: it is sent as it came, nothing goes upstream."""

    decision: Decision
    review_id: str
    answer: Answer


Admission = Admitted | Refused | Held | Released


class PolicyRefused(PolicyguardError):
    """A request that the policy did not let through; the decorator and the client door raise it."""

    def __init__(self, answer: Refused | Held) -> None:
        self.answer = answer
        self.decision = answer.decision
        self.review_id = answer.review_id
        if isinstance(answer, Held):
            self.status, _, self.code = REFUSALS[Kind.REVIEW]
        else:
            self.status, self.code = answer.status, answer.code
        super().__init__(answer.message)

    def __reduce__(self) -> tuple[type[PolicyRefused], tuple[Refused | Held]]:
        """To another process it says why, not what: prompt, pictures and scores stay behind."""
        reasons = tuple(reason._replace(values=dict(reason.values)) for reason in self.decision.reasons)
        bare = replace(self.decision, request=None, verdict=None, reasons=reasons)
        return type(self), (replace(self.answer, decision=bare),)


class PolicyDenied(PolicyRefused):
    """A parameter, a rule, moderation or the caller's standing said no."""


class BudgetExceeded(PolicyRefused):
    """A budget has no room for the most that this request can cost."""


class ReviewRequired(PolicyRefused):
    """A named human must approve first; `review_id` says which item."""


class PolicyUnavailable(PolicyRefused):
    """Not decidable now: the store or moderation is down."""


def refused_error(answer: Refused | Held) -> PolicyRefused:
    """The exception that carries `answer`."""
    code = REFUSALS[Kind.REVIEW].code if isinstance(answer, Held) else answer.code
    for error, kind in (
        (ReviewRequired, Kind.REVIEW),
        (BudgetExceeded, Kind.BUDGET),
        (PolicyUnavailable, Kind.UNAVAILABLE),
    ):
        if code == REFUSALS[kind].code:
            return error(answer)
    return PolicyDenied(answer)

"""What the flow asks the outside world for: one value for each question, one for each answer.

The generators in `flow` yield steps and receive answers. `Guard` performs them: moderation by a Moderator, the rest
by the store, each in one transaction. Money is micro-dollars, time is aware UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from policyguard.decision import Mode
from policyguard.flow.events import Event
from policyguard.flow.states import LegState, ReviewState
from policyguard.policy.model import Question, Unit
from policyguard.request import ImageRequest

ReviewKind = Literal["request", "output"]  # what waits for a review

# ---- private data -----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """Personal data of one subject that goes into the store encrypted.

    `kind`: `prompt`, `request`, `caller`, `note` or `output`. `subject` is the pseudonym of the user; erasing a subject
    erases every row of it. It goes after `keep_days`, and at `until` whatever those say.
    """

    id: str
    kind: str
    subject: str
    plaintext: bytes = field(repr=False)
    keep_days: int | None = None
    until: datetime | None = None


# ---- questions --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class CheckPaused:
    """Is this surface, tenant, user or everything paused? Answer: `Pause | None`."""

    surface: str
    tenant: str | None
    user: str | None  # the pseudonym


def texts_of(request: ImageRequest) -> tuple[str, ...]:
    """The prompt, and where it differs what it says to a person."""
    revealed = request.reading.text
    return (request.prompt,) if revealed == request.prompt else (request.prompt, revealed)


@dataclass(frozen=True, slots=True)
class Moderate:
    """Score the prompt, and each image, with `model`. Answer: `Verdict`.

    `stage`: the images came with the request, or are its output, which stands in `request` as if it had come with it.
    The prompt is scored by each of `texts`; the highest score of a category holds.
    """

    model: str
    request: ImageRequest
    prompt: bool
    images: bool
    timeout_s: float
    stage: Literal["input", "output"] = "input"

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompt, and where it differs what it says to a person."""
        return texts_of(self.request)


@dataclass(frozen=True, slots=True)
class Inquire:
    """Ask these questions about the prompt and the input images. Answer: `Answers`.

    A prompt that hides its letters is shown as it is read, too.
    """

    request: ImageRequest
    questions: tuple[Question, ...]
    timeout_s: float
    model: str = ""  # the surface's moderation model: its moderator is asked


@dataclass(frozen=True, slots=True)
class Look:
    """Moderate and ask at the same time. Answer: `(Verdict | None, Answers)`."""

    moderate: Moderate | None
    inquire: Inquire


@dataclass(frozen=True, slots=True)
class FindReview:
    """Answer: `ReviewItem | None`."""

    review_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """One budget that a reservation touches. `amount` and `limit` are micro-dollars, images or requests.

    `key` is the budget's identity with the value of `per`, pseudonymised. A window is `[starts, ends)`; `ends` is None
    for a budget in total. `key` and `local` name it: the local time of its start, which is the same for every version
    of the zone's table. A shadow charge counts in its own row and never refuses. `alert_at` are per cent, in order.
    """

    budget_id: str
    key: str
    unit: Unit
    amount: int
    limit: int
    starts: datetime
    ends: datetime | None
    local: datetime
    mode: Mode
    alert_at: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Take every charge or none, write the leg and the event; with `review`, consume that approval as well.

    Answer: `Reserved | OverBudget | NotResumable | UpstreamDown`. The store adds `budgets` (id, window, before,
    after, limit, mode) to the event's body. Asking twice with one leg id answers as the first time and changes nothing.
    """

    leg_id: str
    charges: tuple[Charge, ...]
    ceiling_micros: int
    expires_at: datetime
    event: Event
    facts: Mapping[str, str | int | None]  # columns of the leg: DIMENSIONS, model, size, quality, n, retention
    private: tuple[Private, ...] = ()
    review: Resume | None = None
    upstream: str | None = None  # whose breaker it passes
    sent_until: datetime | None = None  # it goes upstream at once: the leg is `sent` from the start, with this time


@dataclass(frozen=True, slots=True)
class Resume:
    """The approval that a reservation consumes, with the policy digest that was approved."""

    review_id: str
    policy_digest: str
    event: Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Hold:
    """Store a held request or answer: review item, its encrypted content, its events. Answer: None."""

    review_id: str
    decision_id: str
    surface: str
    tenant: str | None
    user: str | None
    subject: str
    request_digest: str
    policy_digest: str
    reasons: tuple[str, ...]  # ids that the approval will cover
    approvals: int
    reviewers: tuple[str, ...]
    escalate: tuple[tuple[datetime, tuple[str, ...]], ...]
    created_at: datetime
    due_at: datetime
    ceiling_micros: int
    events: tuple[Event, ...]
    private: tuple[Private, ...]
    kind: ReviewKind = "request"


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """Hand out a held answer that was approved, now or again. Answer: what was stored, or `NotResumable`."""

    review_id: str
    policy_digest: str
    events: tuple[Event, ...]


@dataclass(frozen=True, slots=True)
class Reopen:
    """Put an approved item back to held under the policy that is in force now: its reviewers, its quorum, no votes.

    Answer: bool (did it).
    """

    review_id: str
    policy_digest: str
    reasons: tuple[str, ...]
    approvals: int
    reviewers: tuple[str, ...]
    escalate: tuple[tuple[datetime, tuple[str, ...]], ...]
    ceiling_micros: int
    due_at: datetime  # or the item's own end, where that is sooner
    event: Event


@dataclass(frozen=True, slots=True)
class Record:
    """Write events (and private data) alone: a request that was refused or held. Answer: the alerts, mostly none.

    `stranger` is the address of a caller whom nobody knows: so many of its refusals have rows, and the rest is counted.
    """

    events: tuple[Event, ...]
    private: tuple[Private, ...] = ()
    refusal: RefusedLeg | None = None
    stranger: str | None = None


@dataclass(frozen=True, slots=True)
class RefusedLeg:
    """What reports say of a refused request: the columns of a leg that was never made, and the money not spent.

    `over` is the budget without room: it has reached its limit, whatever little is left of it.
    """

    facts: Mapping[str, str | int | None]
    ceiling_micros: int = 0
    over: Charge | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settle:
    """End a leg in `state`, charging `charge_micros` (0 for released). Answer: `Settled`.

    Only the moves of `states.LEG_MOVES` happen; a leg that already ended keeps its first end. Images and requests are
    charged in full unless released. A review that the leg resumes ends with it. `answered`: False is a fault of the
    upstream, which its breaker counts; None says nothing of it. `inspected` is what was found in the answer, `hold` the
    review that it waits for: both are written however the leg ended before.
    """

    leg_id: str
    state: Literal[LegState.SETTLED, LegState.RELEASED, LegState.PRESUMED]
    charge_micros: int | None  # None: the ceiling
    event: Event
    review_event: Event | None = None
    answered: bool | None = None
    inspected: Event | None = None
    hold: Hold | None = None

    @property
    def private(self) -> tuple[Private, ...]:
        return self.hold.private if self.hold else ()


# ---- answers ----------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pause:
    """`scope` is `all`, `surface`, `tenant` or `user`; `value` is the pseudonym for a user."""

    scope: str
    value: str
    why: str
    by: str
    since: datetime


@dataclass(frozen=True, slots=True)
class Reserved:
    """`over` names shadow budgets that would have refused."""

    over: tuple[str, ...] = ()
    alerts: tuple[Alert, ...] = ()


@dataclass(frozen=True, slots=True)
class Alert:
    """A budget has reached so many per cent of its limit, for the first time in its window."""

    budget_id: str
    per_cent: int
    used: int
    limit: int
    unit: Unit


@dataclass(frozen=True, slots=True)
class OverBudget:
    """The first budget, in key order, without room. Nothing was changed."""

    charge: Charge
    spent: int
    reserved: int


@dataclass(frozen=True, slots=True)
class UpstreamDown:
    """The breaker of the upstream is open. Nothing was changed."""

    upstream: str
    until: datetime


@dataclass(frozen=True, slots=True)
class NotResumable:
    """The approval is not there (any more). Nothing was changed."""

    state: ReviewState | None


@dataclass(frozen=True, slots=True)
class Settled:
    """`state` is how the leg ended, now or before; `changed` says whether this call did it."""

    state: LegState
    charged_micros: int
    ceiling_micros: int
    changed: bool
    alerts: tuple[Alert, ...] = ()
    opened: str | None = None  # the upstream whose breaker this end has opened


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewItem:
    """A held request, or a held answer, as the flow and the reviewers see it, without its private part."""

    review_id: str
    decision_id: str
    state: ReviewState
    surface: str
    tenant: str | None
    user: str | None
    subject: str
    request_digest: str
    policy_digest: str
    reasons: tuple[str, ...]
    approvals: int
    reviewers: tuple[str, ...]
    escalate: tuple[tuple[datetime, tuple[str, ...]], ...]
    created_at: datetime
    due_at: datetime
    ceiling_micros: int
    level: int  # how many escalations have fired
    round: int  # starts at 1; reopening starts the next
    votes: tuple[Vote, ...] = ()
    kind: ReviewKind = "request"


@dataclass(frozen=True, slots=True)
class Vote:
    """One reviewer's word in one round. `verdict` is `approve` or `reject`."""

    reviewer: str
    verdict: Literal["approve", "reject"]
    round: int
    at: datetime
    reason: str = ""


Step = CheckPaused | Moderate | Look | FindReview | Reserve | Hold | Reopen | Record | Settle | Release

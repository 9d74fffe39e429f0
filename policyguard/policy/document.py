"""The documents as people write them: `org.yaml` and one file per surface. Unknown keys are refused.

Pydantic checks the form; `compile` gives it a meaning. The docstrings of fields are what editors show.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from policyguard.policy import units
from policyguard.request import CATEGORIES

Text = Annotated[str, Field(min_length=1, max_length=500)]
Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Count = Annotated[int, Field(ge=1)]
MAX_ITEMS = 500  # of one list: people read these files, and every rule is evaluated for every request
Score = Annotated[float, Field(ge=0, le=1)]


def _checked(read: Any) -> BeforeValidator:
    """Validate with a reader of `units` and keep what people wrote; `compile` reads it again."""

    def check(value: Any) -> Any:
        read(value)
        return value

    return BeforeValidator(check)


Duration = Annotated[str, _checked(units.duration)]
Days = Annotated[str, _checked(units.days)]
Bytes = Annotated[str | int, _checked(units.size_in_bytes)]
Day = Annotated[str, _checked(units.day)]
BudgetLimit = Annotated[str, _checked(units.budget_limit)]
Header = Annotated[str, Field(pattern=r'^http\.headers\["[a-z0-9-]{1,64}"\]$')]
RouteText = Annotated[str, _checked(units.route)]
BodyPath = Annotated[str, _checked(lambda v: units.path_in(v, "body"))]
Version = Annotated[Literal[1], _checked(units.version)]
Condition = Annotated[str, Field(min_length=1, max_length=10_000)]
ResponsePath = Annotated[str, _checked(lambda v: units.path_in(v, "response"))]


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


# ---- request ----------------------------------------------------------------------------------------------


class ModelList(Document):
    allow: list[Text] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """The models that may be asked for, best as dated snapshots."""


class Models(ModelList):
    default: Text | None = None
    """The model of a request that names none. Without it such a request is denied."""


class SizeBounds(Document):
    allow: list[Text] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """The sizes that may be asked for, like `1024x1024`. `auto` counts only where it is listed."""
    max_pixels: Count | None = None
    """Width times height, at most."""
    max_edge: Count | None = None
    """The longer edge in pixels, at most."""


class Sizes(SizeBounds):
    default: Text | None = None
    """The size of a request that names none."""


Quality = Literal["low", "medium", "high", "xhigh", "max", "auto"]


class QualityList(Document):
    allow: list[Quality] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """The qualities that may be asked for. `auto` counts only where it is listed."""


class Qualities(QualityList):
    default: Quality | None = None
    """The quality of a request that names none."""


class Formats(Document):
    allow: list[Literal["png", "webp", "jpeg"]] = Field(min_length=1, max_length=MAX_ITEMS)
    """The output formats that may be asked for; without one a request means png."""


class Number(Document):
    max: Annotated[int, Field(ge=1, le=10)]
    """Images in one request, at most."""


class PartialImages(Document):
    max: Annotated[int, Field(ge=0, le=3)]
    """Partial images in a stream, at most."""


class Prompt(Document):
    max_chars: Annotated[int, Field(ge=1, le=32_000)]
    """Characters of the prompt, at most."""


class InputImages(Document):
    max: Annotated[int, Field(ge=0, le=16)] | None = None
    """Input images of one edit, at most."""
    max_bytes: Bytes | None = None
    """The size of one input image, at most, like `10MB`."""


class RequestLimits(Document):
    models: ModelList | None = None
    sizes: SizeBounds | None = None
    quality: QualityList | None = None
    n: Number | None = None
    formats: Formats | None = None
    prompt: Prompt | None = None
    input_images: InputImages | None = None
    partial_images: PartialImages | None = None
    moderation: Literal["auto"] | None = None
    """`auto`, always: it is forced on every request."""


class Request(RequestLimits):
    models: Models | None = None
    sizes: Sizes | None = None
    quality: Qualities | None = None
    on_excess: Literal["deny", "adjust"] | None = None
    """What happens to n, quality and size beyond the policy: deny, or bring them down. Nothing else is adjusted."""
    unknown_parameters: Literal["deny", "pass"] | None = None
    """What happens to parameters that policyguard does not know."""


# ---- moderation, review, audit ----------------------------------------------------------------------------

Category = Literal["default", *CATEGORIES]  # type: ignore[valid-type]


class Moderation(Document):
    model: Literal["omni-moderation-latest", "omni-moderation-2024-09-26", "keyword"] | None = None
    """Who scores. `keyword` is a plain word list for trials without a key, no safety control."""
    check: list[Literal["prompt", "input_images"]] | None = Field(default=None, max_length=MAX_ITEMS)
    """What is scored."""
    deny_at: dict[Category, Score] | None = None
    """From which score on a request is denied, by category; `default` covers all that are not named."""
    review_at: dict[Category, Score] | None = None
    """From which score on a request is reviewed, by category."""
    when_unavailable: Literal["deny", "review"] | None = None
    """What happens while moderation is down. There is no way to let requests pass."""
    timeout: Duration | None = None
    """How long moderation may take."""


class ModerationLimits(Document):
    check: list[Literal["prompt", "input_images"]] | None = Field(default=None, max_length=MAX_ITEMS)
    deny_at: dict[Category, Score] | None = None
    review_at: dict[Category, Score] | None = None
    when_unavailable: Literal["deny", "review"] | None = None


class Step(Document):
    after: Duration
    """How long after the request was held."""
    to: list[Text] = Field(min_length=1, max_length=MAX_ITEMS)
    """Who may decide from then on, too: people, or groups as `group:NAME`."""


class Review(Document):
    required: bool | None = None
    """Every request of the surface is reviewed."""
    hold: Literal["request"] | None = None
    """A request is held before money is spent."""
    reviewers: list[Text] | None = Field(default=None, max_length=MAX_ITEMS)
    """Who decides: people, or groups as `group:NAME`."""
    approvals: Annotated[int, Field(ge=1, le=10)] | None = None
    """How many must approve. One rejection is final."""
    escalate: list[Step] | None = Field(default=None, max_length=MAX_ITEMS)
    """Who may decide, too, when nobody has."""
    expires: Duration | None = None
    """When a held request runs out. It is rejected then; nothing approves by itself."""


class ReviewLimits(Document):
    required: bool | None = None
    approvals: Annotated[int, Field(ge=1, le=10)] | None = None
    expires: Duration | None = None


class Retain(Document):
    events: Days | None = None
    """How long rows of the record are kept."""
    private: Days | None = None
    """How long encrypted prompts are kept."""
    artefacts: Days | None = None
    """How long held requests with their images are kept."""


class Audit(Document):
    prompt: Literal["encrypted", "none"] | None = None
    """Whether prompts are kept, encrypted."""
    retain: Retain | None = None


# ---- rules, budgets, routes -------------------------------------------------------------------------------


class Rule(Document):
    id: Id
    """Its name in refusals, reports and tests."""
    when: Condition
    """A CEL condition."""
    then: Literal["deny", "review", "flag"]
    message: Annotated[str, Field(max_length=500)] = ""
    """What the person in front of the button reads; without it a general sentence."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow`: evaluated and recorded, not enforced."""


class Budget(Document):
    id: Id
    limit: BudgetLimit
    """Like `$2000 / month` or `20 images / day`."""
    per: Annotated[str, Field(pattern=r"^caller\.[a-z][a-z0-9_]*$")] | None = None
    """One budget for each value, like `caller.user`."""
    time_zone: Text = "UTC"
    """Where its days and months begin."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow`: counted, never refuses."""


class Exemption(Document):
    rules: list[Id] = Field(min_length=1, max_length=MAX_ITEMS)
    """Rules of this file that are switched off."""
    when: Condition
    until: Day
    """The last day, in UTC."""
    by: Text
    why: Text


class OwnRoute(Document):
    route: RouteText
    fields: dict[Text, BodyPath] = Field(max_length=MAX_ITEMS)
    """Where the app's JSON body has each parameter; adjusted values are written back there."""
    constants: dict[Text, Text | int] = Field(default_factory=dict, max_length=MAX_ITEMS)
    """What the app always uses; recorded as declared."""
    usage: ResponsePath | None = None
    """Where the JSON answer has OpenAI's token counts. Without it every call is presumed at its ceiling."""
    images: ResponsePath | None = None
    """Where the JSON answer has the images, for their digests in the record."""


class Surface(Document):
    version: Version
    surface: Id
    title: Text
    owner: Text
    """Who answers for it; shown to reviewers and in reports."""
    stakes: Literal["low", "high"]
    """`high`: employment, medical, identity, legal, financial."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow`: what this file says is recorded, not enforced; the organisation's part stays."""
    routes: list[RouteText | OwnRoute] = Field(default_factory=list, max_length=MAX_ITEMS)
    """Which requests of an ASGI app belong here."""
    request: Request = Field(default_factory=Request)
    moderation: Moderation = Field(default_factory=Moderation)
    budgets: list[Budget] = Field(default_factory=list, max_length=MAX_ITEMS)
    rules: list[Rule] = Field(default_factory=list, max_length=MAX_ITEMS)
    review: Review = Field(default_factory=Review)
    exempt: list[Exemption] = Field(default_factory=list, max_length=MAX_ITEMS)
    audit: Audit = Field(default_factory=Audit)
    reasons_on_wire: bool = True
    """Whether refusals tell the client which rules fired."""


# ---- the organisation -------------------------------------------------------------------------------------


class CallerField(Document):
    from_: Header | None = Field(default=None, alias="from")
    """`http.headers["x-user-id"]`; it counts only from a trusted proxy. Without it the value is given in code."""
    required: bool = False
    """Without the value a request is denied."""
    default: Text | None = None
    values: list[Text] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """The only values that there are."""


class Defaults(Document):
    request: Request = Field(default_factory=Request)
    moderation: Moderation = Field(default_factory=Moderation)
    review: Review = Field(default_factory=Review)
    audit: Audit = Field(default_factory=Audit)


class Limits(Document):
    request: RequestLimits = Field(default_factory=RequestLimits)
    moderation: ModerationLimits = Field(default_factory=ModerationLimits)
    review: ReviewLimits = Field(default_factory=ReviewLimits)


class Organisation(Document):
    version: Version
    organisation: Text
    trusted_proxies: list[Text] = Field(default_factory=list, max_length=MAX_ITEMS)
    """Networks from which header values count, like `10.0.0.0/8`."""
    caller: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], CallerField] = Field(
        default_factory=dict, max_length=MAX_ITEMS
    )
    """Who asks: the one place that says where these values come from."""
    groups: dict[Id, Annotated[list[Text], Field(max_length=MAX_ITEMS)]] = Field(
        default_factory=dict, max_length=MAX_ITEMS
    )
    """People by group, for reviews."""
    defaults: Defaults = Field(default_factory=Defaults)
    """What a surface gets where it says nothing."""
    limits: Limits = Field(default_factory=Limits)
    """What no surface may go beyond."""
    high_stakes: Limits = Field(default_factory=Limits)
    """Further limits for surfaces with `stakes: high`."""
    budgets: list[Budget] = Field(default_factory=list, max_length=MAX_ITEMS)
    """Shared by all surfaces."""
    rules: list[Rule] = Field(default_factory=list, max_length=MAX_ITEMS)
    """For every surface; enforced whatever its mode."""

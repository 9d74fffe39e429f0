"""The documents as people write them: `org.yaml` and one file per surface. Unknown keys are refused.

Pydantic checks the form; `compile` gives it a meaning. The docstrings of fields are what editors show, and the patterns
say to them what the readers of `units` accept.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema

from policyguard.policy import units
from policyguard.request import CATEGORIES, MAX_INPUT_PIXELS, MAX_OUTPUT_TOKENS

ShortText = Annotated[str, Field(min_length=1, max_length=500)]
Id = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,62}$")]
Count = Annotated[int, Field(ge=1)]
MAX_ITEMS = 500  # of one list: people read these files, and every rule is evaluated for every request
Score = Annotated[float, Field(ge=0, le=1)]


def checked(read: Any) -> BeforeValidator:
    """Validate with a reader of `units` and keep what people wrote; `compile` reads it again."""

    def check(value: Any) -> Any:
        read(value)
        return value

    return BeforeValidator(check)


def written(read: Any, pattern: str, *examples: str, **more: Any) -> WithJsonSchema:
    """What `read` accepts, as a pattern that means the same in Python and JavaScript, with the words of `read`."""
    try:
        read("")
    except ValueError as error:
        says = str(error)
    form = {"type": "string", "pattern": f"^(?:{pattern})$", "patternErrorMessage": says, "examples": list(examples)}
    return WithJsonSchema({**form, **more})


def _body_path(text: object) -> tuple[str, ...]:
    return units.path_in(text, "body")


def _response_path(text: object) -> tuple[str, ...]:
    return units.path_in(text, "response")


SIZE = "^(?:auto|[1-9][0-9]{0,4}x[1-9][0-9]{0,4})$"
_BYTES = r"[1-9][0-9]{0,8}(?:B|kB|MB|GB)?"
_AMOUNT = r"(?!\$?0+(?:\.0+)?[ /])(?:\$[0-9]{1,9}(?:\.[0-9]{1,6})?|[0-9]{1,9} (?:image|request)s?)"
_PERIOD = "|".join(units.PERIODS)
_NAME = r"[A-Za-z_][A-Za-z0-9_-]*"
_PATH = r"(?!.*//)(?!.*/\.\.?(?:/|$))/[A-Za-z0-9._~:@!$&'()+,;=/-]*"

Duration = Annotated[
    str, checked(units.duration), written(units.duration, r"[1-9][0-9]{0,5}[smhd]", "30m", "4h", "400d")
]
Days = Annotated[str, checked(units.days), written(units.days, r"[1-9][0-9]{0,5}d", "30d", "400d")]
Bytes = Annotated[
    str | int,
    checked(units.size_in_bytes),
    written(units.size_in_bytes, _BYTES, "10MB", "500kB", type=["string", "integer"], minimum=1, maximum=999_999_999),
]
Day = Annotated[
    str,
    checked(units.day),
    written(units.day, r"[0-9]{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12][0-9]|3[01])", "2027-01-31"),
]
BudgetLimit = Annotated[
    str,
    checked(units.budget_limit),
    written(
        units.budget_limit,
        f"(?:{_AMOUNT}) */ *(?:{_PERIOD})",
        "$2000 / month",
        "20 images / day",
        "100 requests / minute",
    ),
]
PerCent = Annotated[str, checked(units.per_cent), written(units.per_cent, "(?:100|[1-9][0-9]?)%", "50%", "80%", "100%")]
HeaderSource = Annotated[
    str, Field(pattern=r'^http\.headers\["[a-z0-9-]{1,64}"\]$', examples=['http.headers["x-user-id"]'])
]
RouteText = Annotated[
    str, checked(units.route), written(units.route, f"(?:POST|PUT|PATCH) {_PATH}", "POST /v1/images/generations")
]
BodyPath = Annotated[str, checked(_body_path), written(_body_path, rf"body\.{_NAME}(?:\.{_NAME})*", "body.prompt")]
ResponsePath = Annotated[
    str,
    checked(_response_path),
    written(_response_path, rf"response\.{_NAME}(?:\[\])?(?:\.{_NAME}(?:\[\])?)*", "response.usage"),
]
Host = Annotated[str, checked(units.host), written(units.host, units.HOST, "images.example.com")]
Version = Annotated[Literal[1], checked(units.version)]
SizeText = Annotated[
    str,
    Field(min_length=1, max_length=500),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": SIZE,
            "patternErrorMessage": "a size is written like `1024x1536`, or `auto`",
            "examples": ["1024x1024", "1024x1536", "1536x1024", "auto"],
        }
    ),
]
ModelName = Annotated[str, Field(min_length=1, max_length=500, json_schema_extra={"names": "models"})]
Parameter = Annotated[str, Field(min_length=1, max_length=500, json_schema_extra={"names": "parameters"})]
Constant = Annotated[str, Field(min_length=1, max_length=500, json_schema_extra={"names": "constants"})]
Moderating = Annotated[str, Field(min_length=1, max_length=500, json_schema_extra={"names": "moderators"})]
NetworkText = Annotated[
    str, Field(min_length=1, max_length=500, json_schema_extra={"pattern": "^[0-9A-Fa-f.:]+(?:/[0-9]{1,3})?$"})
]
Condition = Annotated[str, Field(min_length=1, max_length=10_000)]


class Document(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, use_attribute_docstrings=True)


# ---- request ----------------------------------------------------------------------------------------------


class ModelList(Document):
    allow: list[ModelName] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """The models that may be asked for, best as dated snapshots."""


class Models(ModelList):
    default: ModelName | None = None
    """The model of a request that names none. Without it such a request is denied."""


class SizeBounds(Document):
    allow: list[SizeText] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """The sizes that may be asked for, like `1024x1024`. `auto` counts only where it is listed."""
    max_pixels: Count | None = None
    """Width times height, at most."""
    max_edge: Count | None = None
    """The longer edge in pixels, at most."""


class Sizes(SizeBounds):
    default: SizeText | None = None
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
    types: list[Literal["png", "jpeg", "webp"]] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """What input images may be, by their bytes. A mask is a png always."""
    max_pixels: Annotated[int, Field(ge=1, le=MAX_INPUT_PIXELS)] | None = None
    """Width times height of one input image, at most. Where nothing is said: 50,000,000."""
    max_edge: Count | None = None
    """The longer edge of one input image in pixels, at most."""
    hosts: list[Host] | None = Field(default=None, max_length=MAX_ITEMS)
    """Hosts whose pictures an edit may name by an https address. OpenAI fetches them, so that only how many there are,
    and what moderation says of them, is checked: no bytes, type or pixels. Where nothing is said: none."""


class Responses(Document):
    models: list[ShortText] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """Main models that may ask for images by the tool of the Responses API. Each has a row in prices.yaml."""
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] | None = None
    """Tokens that the main model may write, at most; a request that says nothing gets it."""


class RequestLimits(Document):
    models: ModelList | None = None
    """Which models may be asked for."""
    sizes: SizeBounds | None = None
    """Which sizes may be asked for: a list, or bounds in pixels."""
    quality: QualityList | None = None
    """Which qualities may be asked for."""
    n: Number | None = None
    """How many images one request may ask for."""
    formats: Formats | None = None
    """Which output formats may be asked for."""
    prompt: Prompt | None = None
    """How long a prompt may be."""
    input_images: InputImages | None = None
    """How many images an edit may bring, of what kind, how large, and from where."""
    partial_images: PartialImages | None = None
    """How many partial images a stream may have."""
    responses: Responses | None = None
    """Images by the tool of the Responses API. Without main models such requests are denied."""
    moderation: Literal["auto"] | None = None
    """`auto`, always: it is forced on every request."""


class Request(RequestLimits):
    models: Models | None = None
    """Which models may be asked for, and the one of a request that names none."""
    sizes: Sizes | None = None
    """Which sizes may be asked for, and the one of a request that names none."""
    quality: Qualities | None = None
    """Which qualities may be asked for, and the one of a request that names none."""
    on_excess: Literal["deny", "adjust"] | None = None
    """What happens to n, quality, size and partial images beyond the policy: deny, or bring them down. Nothing else is
    adjusted."""
    unknown_parameters: Literal["deny", "pass"] | None = None
    """What happens to parameters that policyguard does not know."""


# ---- moderation, review, audit ----------------------------------------------------------------------------

Check = Literal["prompt", "input_images", "output_images"]
Category = Literal["default", *CATEGORIES]  # type: ignore[valid-type]


class Moderation(Document):
    model: Moderating | None = None
    """Who scores: a model of an installed moderator. `keyword` is a plain word list for trials without a key, no safety
    control."""
    check: list[Check] | None = Field(default=None, max_length=MAX_ITEMS)
    """What is scored. An answer whose `output_images` are scored is released whole, withheld or held."""
    deny_at: dict[Category, Score] | None = None
    """From which score on a request is denied, by category; `default` covers all that are not named."""
    review_at: dict[Category, Score] | None = None
    """From which score on a request is reviewed, by category."""
    when_unavailable: Literal["deny", "review"] | None = None
    """What happens while moderation is down. There is no way to let requests pass."""
    timeout: Duration | None = None
    """How long moderation may take."""


class ModerationLimits(Document):
    check: list[Check] | None = Field(default=None, max_length=MAX_ITEMS)
    """What has to be scored."""
    deny_at: dict[Category, Score] | None = None
    """The highest score from which on a request is denied, by category."""
    review_at: dict[Category, Score] | None = None
    """The highest score from which on a request is reviewed, by category."""
    when_unavailable: Literal["deny", "review"] | None = None
    """The least that happens while moderation is down; `deny` is more than `review`."""


class EscalationStep(Document):
    after: Duration
    """How long after the request was held."""
    to: list[ShortText] = Field(min_length=1, max_length=MAX_ITEMS)
    """Who may decide from then on, too: people, or groups as `group:NAME`."""


class Review(Document):
    required: bool | None = None
    """Every request of the surface is reviewed."""
    hold: Literal["request", "output"] | None = None
    """`output`: every answer is held, too, before its images are released. `request`: requests only, before money is
    spent."""
    reviewers: list[ShortText] | None = Field(default=None, max_length=MAX_ITEMS)
    """Who decides: people, or groups as `group:NAME`."""
    approvals: Annotated[int, Field(ge=1, le=10)] | None = None
    """How many must approve. One rejection is final."""
    escalate: list[EscalationStep] | None = Field(default=None, max_length=MAX_ITEMS)
    """Who may decide, too, when nobody has."""
    expires: Duration | None = None
    """When a held request runs out. It is rejected then; nothing approves by itself."""


class ReviewLimits(Document):
    required: bool | None = None
    """Every request is reviewed."""
    hold: Literal["request", "output"] | None = None
    """`output`: every answer is held before its images are released."""
    approvals: Annotated[int, Field(ge=1, le=10)] | None = None
    """How many have to approve, at least."""
    expires: Duration | None = None
    """When a held request runs out, at the latest."""


class Retain(Document):
    events: Days | None = None
    """How long rows of the record are kept."""
    private: Days | None = None
    """How long encrypted prompts are kept."""
    artefacts: Days | None = None
    """How long held requests and held answers are kept with their images."""


class Audit(Document):
    prompt: Literal["encrypted", "none"] | None = None
    """Whether prompts are kept, encrypted."""
    retain: Retain | None = None
    """How long what is recorded is kept."""


# ---- rules, budgets, routes -------------------------------------------------------------------------------


class Rule(Document):
    id: Id
    """Its name in refusals, reports and tests."""
    when: Condition
    """A CEL condition."""
    then: Literal["deny", "review", "flag"]
    """What happens where the condition is true. `flag` lets the request pass, and marks it in the record."""
    message: Annotated[str, Field(max_length=500)] = ""
    """What the person in front of the button reads; without it a general sentence."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow`: evaluated and recorded, not enforced."""


class Question(Document):
    ask: Annotated[str, Field(min_length=1, max_length=2_000)]
    """What is asked about the prompt and the input images, so that yes or no is an answer."""
    when_unavailable: Literal["deny", "review"] = "deny"
    """What a rule that reads the answer does while there is none. There is no way to let requests pass."""


QuestionName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,62}$")]
Questions = Annotated[dict[QuestionName, Question], Field(default_factory=dict, max_length=100)]


class Budget(Document):
    id: Id
    """Its name in refusals, reports and tests."""
    limit: BudgetLimit
    """Like `$2000 / month`, `20 images / day` or `100 requests / minute`."""
    per: Annotated[str, Field(pattern=r"^caller\.[a-z][a-z0-9_]*$")] | None = None
    """One budget for each value, like `caller.user`."""
    time_zone: ShortText = "UTC"
    """Where its days and months begin."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow`: counted, never refuses."""
    alert_at: list[PerCent] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """Tell when so much of the limit is spent or reserved, like `[50%, 80%, 100%]`: once for each window."""


class Exemption(Document):
    rules: list[Id] = Field(min_length=1, max_length=MAX_ITEMS)
    """Rules of this file that are switched off."""
    when: Condition
    """A CEL condition: for which requests."""
    until: Day
    """The last day, in UTC."""
    by: ShortText
    """Who answers for it."""
    why: ShortText
    """The reason, for those who read it later."""


class OwnRoute(Document):
    route: RouteText
    """Method and path as the app has them."""
    fields: dict[Parameter, BodyPath] = Field(max_length=MAX_ITEMS)
    """Where the app's JSON body has each parameter; adjusted values are written back there."""
    constants: dict[Constant, ShortText | int] = Field(default_factory=dict, max_length=MAX_ITEMS)
    """What the app always uses; recorded as declared."""
    usage: ResponsePath | None = None
    """Where the JSON answer has OpenAI's token counts. Without it every call is presumed at its ceiling."""
    images: ResponsePath | None = None
    """Where the JSON answer has the images, as base64: needed where output images are checked or held."""


class Surface(Document):
    version: Version
    """The version of the policy language: `1`."""
    surface: Id
    """Its name in code, refusals, reports and tests."""
    title: ShortText
    """What it is, in a few words, for reviewers and reports."""
    owner: ShortText
    """Who answers for it; shown to reviewers and in reports."""
    stakes: Literal["low", "high"]
    """`high`: employment, medical, identity, legal, financial."""
    mode: Literal["enforce", "shadow"] = "enforce"
    """`shadow`: what this file says is recorded, not enforced; the organisation's part stays."""
    routes: list[RouteText | OwnRoute] = Field(default_factory=list, max_length=MAX_ITEMS)
    """Which requests of an ASGI app belong here."""
    request: Request = Field(default_factory=Request)
    """What may be asked for: models, sizes, qualities, how many."""
    moderation: Moderation = Field(default_factory=Moderation)
    """From which score on a request is denied or reviewed."""
    questions: Questions
    """Questions of this surface's own; rules read the answers as `answers.NAME`, from 0 to 1."""
    budgets: list[Budget] = Field(default_factory=list, max_length=MAX_ITEMS)
    """How much money or how many images, in which time."""
    rules: list[Rule] = Field(default_factory=list, max_length=MAX_ITEMS)
    """Conditions of this surface's own."""
    review: Review = Field(default_factory=Review)
    """Who decides held requests, and until when."""
    exempt: list[Exemption] = Field(default_factory=list, max_length=MAX_ITEMS)
    """Named, expiring exceptions to rules of this file."""
    audit: Audit = Field(default_factory=Audit)
    """Whether prompts are kept, and how long what is recorded is kept."""
    reasons_on_wire: bool = True
    """Whether refusals tell the client which rules fired."""


# ---- the organisation -------------------------------------------------------------------------------------


class CallerField(Document):
    from_: HeaderSource | None = Field(default=None, alias="from")
    """`http.headers["x-user-id"]`; it counts only from a trusted proxy. Without it the value is given in code."""
    required: bool = False
    """Without the value a request is denied."""
    default: ShortText | None = None
    """The value of a request that brings none."""
    values: list[ShortText] | None = Field(default=None, min_length=1, max_length=MAX_ITEMS)
    """The only values that there are."""


class Defaults(Document):
    request: Request = Field(default_factory=Request)
    """What may be asked for where a surface says nothing."""
    moderation: Moderation = Field(default_factory=Moderation)
    """How requests are moderated where a surface says nothing."""
    review: Review = Field(default_factory=Review)
    """Who decides held requests where a surface says nothing."""
    audit: Audit = Field(default_factory=Audit)
    """What is kept where a surface says nothing."""


class Limits(Document):
    request: RequestLimits = Field(default_factory=RequestLimits)
    """The most that any surface may let be asked for."""
    moderation: ModerationLimits = Field(default_factory=ModerationLimits)
    """The mildest moderation that any surface may have."""
    review: ReviewLimits = Field(default_factory=ReviewLimits)
    """The least review that any surface may have."""


class Organisation(Document):
    version: Version
    """The version of the policy language: `1`."""
    organisation: ShortText
    """Its name, for reports."""
    trusted_proxies: list[NetworkText] = Field(default_factory=list, max_length=MAX_ITEMS)
    """Networks from which header values count, like `10.0.0.0/8`."""
    caller: dict[Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")], CallerField] = Field(
        default_factory=dict, max_length=MAX_ITEMS
    )
    """Who asks: the one place that says where these values come from."""
    groups: dict[Id, Annotated[list[ShortText], Field(max_length=MAX_ITEMS)]] = Field(
        default_factory=dict, max_length=MAX_ITEMS
    )
    """People by group, for reviews."""
    defaults: Defaults = Field(default_factory=Defaults)
    """What a surface gets where it says nothing."""
    limits: Limits = Field(default_factory=Limits)
    """What no surface may go beyond."""
    high_stakes: Limits = Field(default_factory=Limits)
    """Further limits for surfaces with `stakes: high`."""
    questions: Questions
    """Questions that every surface's rules may read the answers of."""
    budgets: list[Budget] = Field(default_factory=list, max_length=MAX_ITEMS)
    """Shared by all surfaces."""
    rules: list[Rule] = Field(default_factory=list, max_length=MAX_ITEMS)
    """For every surface; enforced whatever its mode."""

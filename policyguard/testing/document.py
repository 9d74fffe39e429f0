"""A file of policy tests as people write it. Unknown keys are refused; `read` gives it a meaning.

The docstrings of fields are what editors show.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, NamedTuple, cast

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from policyguard.policy.document import Bytes, Document, Host, Id, Quality, ShortText, checked, written
from policyguard.policy.model import Unit
from policyguard.request import (
    CATEGORIES,
    IMAGE_CATEGORIES,
    MAX_IMAGES,
    MAX_INPUT_IMAGES,
    MAX_OUTPUT_TOKENS,
    MAX_PROMPT_CHARS,
)
from policyguard.testing.simulate import EffectWord, SumScope

UNAVAILABLE = "unavailable"
_AMOUNT = r"\$([0-9]{1,9}(?:\.[0-9]{1,6})?)|([0-9]{1,9}) (image|request)s?"
_INSTANT = (
    r"20[0-9]{2}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?(?:Z|[+-][0-9]{2}:[0-9]{2})"
)
_NUMBER = re.compile(r"[0-9.+-]+")


class Amount(NamedTuple):
    """Micro-dollars, images or requests."""

    unit: Unit
    amount: int


def amount(text: object) -> Amount:
    """`$12.50`, `20 images` or `7 requests`."""
    match = re.fullmatch(_AMOUNT, text) if isinstance(text, str) else None
    if match is None:
        raise ValueError("what was spent is written like `$12.50`, `20 images` or `7 requests`")
    if match[1] is None:
        return Amount(cast(Unit, f"{match[3]}s"), int(match[2]))
    return Amount("usd", int(Decimal(match[1]) * 1_000_000))


def instant(text: object) -> datetime:
    """`2026-12-24T12:00:00Z` in UTC."""
    try:
        if isinstance(text, str) and re.fullmatch(_INSTANT, text):  # ISO 8601 has more forms than people know
            return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        pass
    raise ValueError("a time is written like `2026-12-24T12:00:00Z`, with its zone")


@dataclass(frozen=True, slots=True)
class Or:
    """Lets some words stand instead of the annotated form, in the schema as well."""

    words: tuple[str, ...]

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(self._check, handler(source))

    def _check(self, value: Any, form: core_schema.ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, str) and not _NUMBER.fullmatch(value):
            if value in self.words:
                return value
            listed = ", ".join(f"'{word}'" for word in self.words)
            raise PydanticCustomError("literal_error", "one of {expected}", {"expected": listed})
        return form(value)

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"anyOf": [{"enum": list(self.words)}, handler(schema["schema"])]}


# ---- what is asked ----------------------------------------------------------------------------------------

Category = Literal[*CATEGORIES]  # type: ignore[valid-type]
Pictured = Literal[*IMAGE_CATEGORIES]  # type: ignore[valid-type]
Score = Annotated[float, Field(ge=0, le=1), Or((UNAVAILABLE,))]
Spent = Annotated[str, checked(amount), written(amount, _AMOUNT, "$12.50", "20 images")]
Instant = Annotated[str, checked(instant), written(instant, _INSTANT, "2026-12-24T12:00:00Z")]


class Request(Document):
    """A request as a client sends it. What is left out is not sent."""

    prompt: Annotated[str, Field(min_length=1, max_length=MAX_PROMPT_CHARS)] | None = None
    """The prompt."""
    operation: Literal["generate", "edit"] | None = None
    """`edit` has one input image where it does not say how many; input images make it an edit."""
    model: ShortText | None = None
    """The model, allowed or not."""
    size: ShortText | None = None
    """`auto`, or like `1024x1536`."""
    quality: Quality | None = None
    """The quality."""
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = None
    """How many images are asked for."""
    background: Literal["transparent", "opaque", "auto"] | None = None
    """The background of the images."""
    output_format: Literal["png", "jpeg", "webp"] | None = None
    """The format of the images."""
    output_compression: Annotated[int, Field(ge=0, le=100)] | None = None
    """How much a jpeg or webp is compressed, from 0 to 100."""
    moderation: Literal["auto", "low"] | None = None
    """What a client asks of OpenAI's own filter."""
    input_fidelity: Literal["low", "high"] | None = None
    """How close an edit stays to its pictures."""
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    """How many partial images of a stream are asked for."""
    stream: bool | None = None
    """Whether the answer comes as a stream."""
    input_images: Annotated[int, Field(ge=0, le=MAX_INPUT_IMAGES)] | None = None
    """How many pictures come with the request."""
    image_bytes: Bytes | None = None
    """The size of each of them, like `12MB`."""
    image_type: Literal["png", "jpeg", "webp"] | None = None
    """What each of them is; a png where it is not said."""
    image_size: Annotated[str, Field(pattern="^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$")] | None = None
    """Width and height of each of them, like `4000x3000`."""
    image_host: Host | None = None
    """Where each of them is, if it comes as an https address, like `images.example.com`."""
    mask: bool | None = None
    """Whether a mask comes with them."""
    main_model: ShortText | None = None
    """The main model of the Responses API that asks for the images by its tool."""
    max_output_tokens: Annotated[int, Field(ge=1, le=MAX_OUTPUT_TOKENS)] | None = None
    """How much the main model may write."""
    extra: dict[ShortText, Any] | None = None
    """Parameters that policyguard does not know."""


class Given(Document):
    """A request and the world around it."""

    request: Request = Field(default_factory=Request)
    """What is asked for."""
    caller: dict[ShortText, ShortText] = Field(default_factory=dict)
    """Who asks, by the names of org.yaml."""
    scores: Annotated[dict[Category, Score], Or((UNAVAILABLE,))] = Field(default_factory=dict)
    """What moderation says, by category; 0 where it is not said. `unavailable` for one, or for all of them."""
    output: Annotated[dict[Pictured, Score], Or((UNAVAILABLE,))] = Field(default_factory=dict)
    """What moderation says of the images that come out, in the same way."""
    answers: Annotated[dict[ShortText, Score], Or((UNAVAILABLE,))] = Field(default_factory=dict)
    """What is answered to the questions, by name; 0 where it is not said. `unavailable` for one, or for all of them."""
    spent: dict[ShortText, Spent] = Field(default_factory=dict)
    """What has gone from a budget, by its id, like `$12.50` or `20 images`; nothing where it is not said."""
    now: Instant | None = None
    """When it is, like `2026-12-24T12:00:00Z`; `2026-01-15T12:00:00Z` where it is not said."""
    paused: SumScope | None = None
    """What the stop button has stopped."""


# ---- what is expected -------------------------------------------------------------------------------------


class Adjusted(Document):
    n: Annotated[int, Field(ge=1, le=MAX_IMAGES)] | None = None
    """How many images are left."""
    size: ShortText | None = None
    """The size that it becomes."""
    quality: Quality | None = None
    """The quality that it becomes."""
    moderation: Literal["auto"] | None = None
    """`auto`, where a client asked for less."""
    partial_images: Annotated[int, Field(ge=0, le=3)] | None = None
    """How many partial images are left."""


class Expectation(Document):
    outcome: EffectWord
    """What the policy decides."""
    reasons: list[ShortText] = Field(default_factory=list)
    """Exactly the reasons that count: rule ids, or built-in ones like `request.size`, `moderation.sexual`."""
    shadow: list[ShortText] | None = None
    """Exactly the reasons that are only recorded. Not looked at where it is left out."""
    adjusted: Adjusted | None = None
    """Exactly the parameters that are brought down, with what they become. Not looked at where it is left out."""


Expect = Annotated[Expectation, Or(("allow", "flag", "review", "deny"))]


class NamedCase(Given):
    name: ShortText
    """What the test shows, in a sentence."""
    without: list[ShortText] = Field(default_factory=list)
    """What is taken away from what `given` says, like `caller.user`."""
    expect: Expect
    """An outcome alone, or `{outcome, reasons, ...}`."""


class Matrix(Document):
    """A table of cases: every combination of the values has an expectation."""

    axes: dict[ShortText, Annotated[list[Any], Field(min_length=1)]] = Field(min_length=1)
    """Values by name, like `request.quality: [low, high]`."""
    expect: dict[str, Any]
    """Expectations, nested in the order of the axes: an outcome alone, or `{outcome, reasons, ...}`."""


class SuiteDocument(Document):
    surface: Id
    """Whose policy is tested."""
    given: Given = Field(default_factory=Given)
    """What every test starts from."""
    tests: list[NamedCase] = Field(default_factory=list)
    """Single cases, each with a name."""
    matrix: Matrix | None = None
    """A table of cases: every combination of some values."""

"""What is asked, who asks, what moderation said of it, and what happened upstream.

Values only: frozen, valid by construction, without I/O. One `ImageRequest` stands for the same request
whatever door it came through. Prompt text and image bytes never appear in a `repr`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from operator import attrgetter
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

from policyguard.errors import InvalidRequest
from policyguard.text import Reading, read
from policyguard.text.identity import value_of

Operation = Literal["generate", "edit"]
IdentityValue = str | int | None  # of who asks, as code gives it
AUTO = "auto"
MAX_IMAGES = 10  # the API's own bound on n
MAX_INPUT_IMAGES = 16  # the API's own bound on input images
MAX_INPUT_PIXELS = 89_000_000  # of one input image, whatever a policy says: above this Pillow speaks of a bomb
MAX_PROMPT_CHARS = 32_000  # the API's own bound on the prompt
MAX_OUTPUT_TOKENS = 1_000_000  # more than any main model writes
MAX_EDGE = 99_999

# The API's thirteen moderation categories, in the names that the wire uses.
CATEGORIES = (
    "harassment",
    "harassment/threatening",
    "hate",
    "hate/threatening",
    "illicit",
    "illicit/violent",
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "sexual/minors",
    "violence",
    "violence/graphic",
)

# Of these, what omni-moderation assesses in a picture; of the other seven it says 0 there, which means nothing.
IMAGE_CATEGORIES = (
    "self-harm",
    "self-harm/instructions",
    "self-harm/intent",
    "sexual",
    "violence",
    "violence/graphic",
)

_SIZE = re.compile(r"([1-9][0-9]{0,4})x([1-9][0-9]{0,4})", re.ASCII)
MAX_NAME_CHARS = 100
_NAME = re.compile(r"[A-Za-z0-9._:-]+", re.ASCII)  # of a model, a quality and the like
_WORD = re.compile(r"[a-z0-9_]{1,40}", re.ASCII)
_EMPTY: Mapping[str, Any] = MappingProxyType({})


def _empty() -> Mapping[str, Any]:
    return _EMPTY


class Size(NamedTuple):
    """Width and height in pixels."""

    width: int
    height: int

    @property
    def pixels(self) -> int:
        return self.width * self.height

    @property
    def edge(self) -> int:
        """The longer edge."""
        return max(self)

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


@lru_cache(maxsize=4096)
def parse_size(text: str) -> Size | None:
    """`"1024x1536"` as a pair; None where the text is no size (`auto` included)."""
    match = _SIZE.fullmatch(text)
    return Size(int(match[1]), int(match[2])) if match else None


def is_name(text: str) -> bool:
    """Whether a request can name a model, a quality or the like so."""
    return len(text) <= MAX_NAME_CHARS and _NAME.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class InputImage:
    """An image that came with the request. `size` is read from its header; None where it has none.

    With a `url` it is elsewhere: OpenAI fetches it, and nothing of it is known here but where it is said to be.
    """

    data: bytes = field(repr=False)
    media_type: str
    filename: str = field(default="", repr=False)  # people write names there
    size: Size | None = None
    url: str = field(default="", repr=False)

    @property
    def digest(self) -> str:
        """Of the bytes; of an image elsewhere, of its address."""
        return hashlib.sha256(b"url:" + self.url.encode() if self.url else self.data).hexdigest()

    @property
    def host(self) -> str:
        """Where an image elsewhere is, in lower case."""
        return self.url.removeprefix("https://").partition("/")[0].lower()


@dataclass(frozen=True, slots=True)
class MainModel:
    """The language model that asks for the images, where they are made by a tool of the Responses API.

    `text_bytes` bounds its input but for images: a token has at least one byte. `digest` is over everything that it is
    given: the prompt says what is in it, but not who said it.
    """

    name: str
    text_bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageRequest:
    """One request for images. None means that the client did not say; the policy then decides.

    `size` is `auto` or `WIDTHxHEIGHT` in pixels. `extra` holds parameters that policyguard does not know. Where a main
    model asks for the images, `prompt` is all the text that it reads, and n how often it may ask. `whole` is a JSON
    text of the whole request where an app reads more of it than is named here: an approval covers that, too.
    """

    prompt: str = field(repr=False)
    operation: Operation = "generate"
    model: str | None = None
    size: str | None = None
    quality: str | None = None
    n: int | None = None
    background: str | None = None
    output_format: str | None = None
    output_compression: int | None = None
    moderation: str | None = None
    input_fidelity: str | None = None
    partial_images: int | None = None
    stream: bool | None = None
    user: str | None = field(default=None, repr=False)
    safety_identifier: str | None = field(default=None, repr=False)
    images: tuple[InputImage, ...] = ()
    mask: InputImage | None = None
    markup: InputImage | None = None
    main: MainModel | None = None
    max_output_tokens: int | None = None  # of the main model
    extra: Mapping[str, Any] = field(default_factory=_empty, repr=False)
    whole: bytes | None = field(default=None, repr=False)
    _reading: Reading | None = field(default=None, init=False, repr=False, compare=False)
    _read_chars: int = field(default=MAX_PROMPT_CHARS, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _check_text(self)
        for name, value, (low, high) in zip(_INTEGERS, _integers(self), _INTEGERS.values(), strict=True):
            if value is not None and (type(value) is not int or not low <= value <= high):
                raise InvalidRequest(f"`{name}` must be a whole number from {low} to {high}", param=name)
        if self.stream is not None and type(self.stream) is not bool:
            raise InvalidRequest("`stream` must be true or false", param="stream")
        if self.size is not None and self.size != AUTO and parse_size(self.size) is None:
            raise InvalidRequest("`size` must be `auto` or like `1024x1536`", param="size")
        if len(self.images) > MAX_INPUT_IMAGES:
            raise InvalidRequest(f"at most {MAX_INPUT_IMAGES} input images are possible", param="image")
        if self.operation == "edit" and not self.images:
            raise InvalidRequest("an edit needs at least one input image", param="image")

    @property
    def input_images(self) -> Iterator[InputImage]:
        """Every image that came in, the mask and the markup included."""
        yield from self.images
        if self.mask is not None:
            yield self.mask
        if self.markup is not None:
            yield self.markup

    @property
    def reading(self) -> Reading:
        """What the prompt says to a person, for judging only; worked out once, and only where it is asked for."""
        if self._reading is None:
            object.__setattr__(self, "_reading", read(self.prompt, self._read_chars))
        return self._reading or Reading(self.prompt, False)

    def read_at_most(self, chars: int) -> None:
        """Leave the rest of the prompt unread: for a request that is denied for its length."""
        object.__setattr__(self, "_read_chars", chars)

    @property
    def obfuscated(self) -> bool:
        """Whether the prompt hides its letters."""
        return self.reading.hidden


_INTEGERS = {
    "n": (1, MAX_IMAGES),
    "partial_images": (0, 3),
    "output_compression": (0, 100),
    "max_output_tokens": (1, MAX_OUTPUT_TOKENS),
}
_integers = attrgetter(*_INTEGERS)
_NAMES = ("model", "size", "quality", "background", "output_format", "moderation", "input_fidelity")
_names = attrgetter(*_NAMES)
_known_name = lru_cache(maxsize=1024)(is_name)


def _is_short(value: object) -> bool:
    """Whether it is a text that a cache may be keyed by: nothing long that a client sends is kept."""
    return isinstance(value, str) and len(value) <= MAX_NAME_CHARS


def _check_text(request: ImageRequest) -> None:
    if not isinstance(request.prompt, str) or not request.prompt.strip():
        raise InvalidRequest("`prompt` must be a text that is not empty", param="prompt")
    if len(request.prompt) > MAX_PROMPT_CHARS:
        raise InvalidRequest(f"`prompt` is longer than {MAX_PROMPT_CHARS} characters", param="prompt")
    try:
        request.prompt.encode()
    except UnicodeEncodeError:
        raise InvalidRequest("`prompt` holds half of a surrogate pair", param="prompt") from None
    for name, value in zip(_NAMES, _names(request), strict=True):
        if value is not None and not (_is_short(value) and (name == "size" or _known_name(value))):
            raise InvalidRequest(f"`{name}` must be a short plain text", param=name)
    for name in ("user", "safety_identifier"):
        value = getattr(request, name)
        if value is not None and not (isinstance(value, str) and len(value) <= 512):
            raise InvalidRequest(f"`{name}` must be a text of at most 512 characters", param=name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who asks. Only `org.yaml` says which of these count, and from where they come.

    `attributes` holds the values that the organisation declares beyond the six names. Every value is put into the one
    form in which it counts, a whole number into its digits; an empty text is absent. Values are personal data: they do
    not appear in a `repr`. Raises `ConfigError` for a value that is neither a text nor a whole number.
    """

    user: str | None = field(default=None, repr=False)
    tenant: str | None = None
    tier: str | None = None
    cohort: str | None = None
    feature: str | None = None
    engineer: str | None = field(default=None, repr=False)
    attributes: Mapping[str, str] = field(default_factory=_empty, repr=False)

    values: Mapping[str, str] = field(init=False, repr=False, compare=False)  # every value that is there, by name

    def __post_init__(self) -> None:
        given = {**{name: getattr(self, name) for name in CALLER_FIELDS}, **self.attributes}
        values = {name: text for name, value in given.items() if (text := value_of(name, value)) is not None}
        for name in CALLER_FIELDS:
            object.__setattr__(self, name, values.get(name))
        more = {name: value for name, value in values.items() if name not in CALLER_FIELDS}
        object.__setattr__(self, "attributes", MappingProxyType(more))
        object.__setattr__(self, "values", MappingProxyType(values))

    def get(self, name: str) -> str | None:
        """The value of one of the six names, or of a declared attribute."""
        return self.values.get(name)

    def items(self) -> Iterable[tuple[str, str]]:
        """Every value that is there, by name."""
        return self.values.items()

    @classmethod
    def of(cls, values: Mapping[str, IdentityValue]) -> Caller:
        """A caller from values by name; None counts as absent."""
        known: dict[str, Any] = {k: v for k, v in values.items() if k in CALLER_FIELDS}
        rest: dict[str, Any] = {k: v for k, v in values.items() if k not in CALLER_FIELDS}
        return cls(**known, attributes=rest)


CALLER_FIELDS = ("user", "tenant", "tier", "cohort", "feature", "engineer")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What a moderator says of one request.

    `scores` holds what was assessed, 0 to 1, the maximum over prompt and images. A category in
    `incomplete` was not assessed for every part, so its score is only a lower bound; a category that is
    in neither was not assessed at all. Neither may be read as 0. `error` says in one word why.
    Raises ValueError for a score that is no number from 0 to 1: every comparison with NaN is false, so it would pass;
    and for an error that is no word: it goes into the record, and a sentence may quote the prompt.
    """

    model: str
    scores: Mapping[str, float] = field(default_factory=_empty)
    incomplete: frozenset[str] = frozenset()
    error: str | None = None
    calls: int = 0
    latency_ms: int = 0
    request_ids: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for score in self.scores.values():
            if isinstance(score, bool) or not isinstance(score, float | int) or not 0 <= score <= 1:
                raise ValueError("a score is a number from 0 to 1")
        _check_error(self.error)

    def score(self, category: str) -> float | None:
        """The score where it was fully assessed, else None."""
        return None if category in self.incomplete else self.scores.get(category)


def _check_error(error: str | None) -> None:
    if error is not None and not _WORD.fullmatch(error):
        raise ValueError("why nothing was assessed is one word, like `timeout`")


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """What a model says to the questions about one request: by name, the probability that the answer is yes.

    A question that is not in `probabilities` has no answer, which may never be read as 0: the model refused it, or
    `error` says in one word why. `input_tokens` is what was billed, None where that is not known.
    Raises ValueError for what is no number from 0 to 1, and for an error that is no word, like `Verdict`.
    """

    model: str
    probabilities: Mapping[str, float] = field(default_factory=_empty)
    refused: frozenset[str] = frozenset()
    error: str | None = None
    calls: int = 0
    latency_ms: int = 0
    input_tokens: int | None = None
    request_id: str | None = None

    def __post_init__(self) -> None:
        for value in self.probabilities.values():
            if isinstance(value, bool) or not isinstance(value, float | int) or not 0 <= value <= 1:
                raise ValueError("a probability is a number from 0 to 1")
        _check_error(self.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Tokens that the API billed, by kind. Counts are of the whole request, over all n images.

    Those of a main model are beside the others: they have rates of their own.
    """

    input_text_tokens: int = 0
    input_image_tokens: int = 0
    output_image_tokens: int = 0
    output_text_tokens: int = 0
    main_input_tokens: int = 0
    main_output_tokens: int = 0


class Failure(StrEnum):
    """Why an upstream call gave no answer that can be settled."""

    TIMEOUT = "timeout"
    CUT = "cut"  # the connection ended before the answer did
    CANCELLED = "cancelled"  # our side gave up: the client left, the task was cancelled
    ERROR = "error"  # the app or the API answered with an error, or raised one
    NO_USAGE = "no_usage"  # an answer came, without token counts


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What happened upstream.

    `definite` is true only where the answer came from OpenAI itself, not from an app that may have called
    it any number of times; only then may an error answer release the reservation.
    """

    status: int | None = None
    usage: Usage | None = None
    failure: Failure | None = None
    definite: bool = False
    error_code: str | None = None
    moderation_stage: str | None = None  # `input` or `output` where a `moderation_blocked` error says so
    request_id: str | None = None
    latency_ms: int = 0
    attempts: int = 1
    retry_reasons: tuple[str, ...] = ()
    size: str | None = None
    quality: str | None = None
    image_digests: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An answer as a door would send it: kept whole while its output is looked at, or held for a review."""

    status: int
    content_type: str
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What came out of a request. `problem` says in one word why not all of it can be looked at.

    `answer` is None where it is too large to be kept; `required` false: it may have no images at all.
    """

    images: tuple[InputImage, ...] = ()
    answer: Answer | None = None
    problem: str | None = None
    required: bool = True

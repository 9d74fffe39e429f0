"""What is asked about one request, call by call, and what an answer of the moderation endpoint is worth.

Pure: bytes in, values out. A prompt that hides its letters is asked about as it is and as it is read, in one call, and
the higher score holds. A score counts only where the answer is whole and says that this kind of input was looked at;
about an image the endpoint answers 0 for the categories that only text can have, and such a 0 is no score.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson

from policyguard.flow.steps import Moderate
from policyguard.moderation.merge import PartialVerdict
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, InputImage

MAX_IMAGE_BYTES = 20_000_000  # OpenAI's own limit for one image
MAX_MODEL_CHARS = 100


class Malformed(ValueError):
    """An answer that says nothing reliable. Never carries what the answer held."""


@dataclass(frozen=True, slots=True)
class Scorable:
    """The prompt, or one image: what one call scores. `revealed` is the prompt as it is read, where that differs."""

    text: str | None = field(default=None, repr=False)
    revealed: str | None = field(default=None, repr=False)
    image: InputImage | None = field(default=None, repr=False)

    @property
    def resource(self) -> str:
        return "moderations"

    @property
    def kind(self) -> Literal["text", "image"]:
        return "text" if self.image is None else "image"

    @property
    def expected(self) -> frozenset[str]:
        """The categories that a whole answer scores."""
        return frozenset(CATEGORIES if self.image is None else IMAGE_CATEGORIES)

    @property
    def results(self) -> int:
        """How many a whole answer has."""
        return 1 if self.revealed is None else 2

    @property
    def problem(self) -> str | None:
        """Why it cannot be sent."""
        too_large = self.image is not None and len(self.image.data) > MAX_IMAGE_BYTES
        return "image_too_large" if too_large else None

    def wire(self) -> Any:
        """The `input` of a call. An image grows by a third, so this is only made when it is sent."""
        if self.image is None:
            return self.text if self.revealed is None else [self.text, self.revealed]
        url = self.image.url or f"data:{self.image.media_type};base64,{b64encode(self.image.data).decode()}"
        return [{"type": "image_url", "image_url": {"url": url}}]

    def arguments(self) -> dict[str, Any]:
        """The body of a call, without the model."""
        return {"input": self.wire()}

    def failed(self, error: str, *, calls: int, request_id: str | None = None) -> PartialVerdict:
        """Nothing was assessed."""
        return PartialVerdict(expected=self.expected, scores={}, error=error, calls=calls, request_id=request_id)

    def read(self, body: bytes, *, calls: int, request_id: str | None = None) -> PartialVerdict:
        """What an answer says of it."""
        return read(self, body, calls=calls, request_id=request_id)


def questions(step: Moderate) -> tuple[Scorable, ...]:
    """The prompt, and each image that came in, the mask included."""
    prompt = (_about_the_prompt(*step.texts),) if step.prompt else ()
    images = tuple(Scorable(image=image) for image in step.request.input_images) if step.images else ()
    return prompt + images


def _about_the_prompt(text: str, revealed: str | None = None) -> Scorable:
    return Scorable(text=text, revealed=revealed)


def read(question: Scorable, body: bytes, *, calls: int, request_id: str | None) -> PartialVerdict:
    """What an answer says of the question: every score that can be believed, or the one word why there is none."""
    try:
        model, scores = _believable(question, body)
    except Malformed:
        return question.failed("malformed", calls=calls, request_id=request_id)
    error = None if question.expected <= scores.keys() else "partial"
    return PartialVerdict(
        expected=question.expected, scores=scores, model=model, error=error, calls=calls, request_id=request_id
    )


def _believable(question: Scorable, body: bytes) -> tuple[str | None, dict[str, float]]:
    try:
        data = orjson.loads(body)  # refuses NaN and Infinity
    except orjson.JSONDecodeError:
        raise Malformed("no JSON") from None
    answers = [_assessed(question, result) for result in _results(data, question.results)]
    scores = {c: max(answer[c] for answer in answers) for c in CATEGORIES if all(c in answer for answer in answers)}
    model = data.get("model")
    plain = isinstance(model, str) and len(model) <= MAX_MODEL_CHARS and model.isprintable()
    return (model if plain else None), scores


def _results(data: Any, count: int) -> list[dict[str, Any]]:
    """One for each input, neither more nor fewer: else nobody knows what belongs to what."""
    results = data.get("results") if isinstance(data, dict) else None
    if not isinstance(results, list) or len(results) != count or not all(isinstance(one, dict) for one in results):
        raise Malformed("not one result for each input")
    return results


def _assessed(question: Scorable, result: Mapping[str, Any]) -> dict[str, float]:
    looked_at = _looked_at(question, result)
    return {category: score for category, score in _scores(result) if category in looked_at}


def _scores(result: Mapping[str, Any]) -> Iterator[tuple[str, float]]:
    """Absent and null are not assessed; anything else that is no number from 0 to 1 spoils the whole answer."""
    given = result.get("category_scores")
    if not isinstance(given, dict):
        raise Malformed("no scores")
    for category in CATEGORIES:
        score = given.get(category)
        if score is None:
            continue
        if type(score) not in (int, float) or not 0 <= score <= 1:
            raise Malformed("a score that is none")
        yield category, float(score)


def _looked_at(question: Scorable, result: Mapping[str, Any]) -> frozenset[str]:
    """The categories for which this kind of input was looked at, in the answer's own words."""
    applied = result.get("category_applied_input_types")
    if not isinstance(applied, dict):
        raise Malformed("not said what was looked at")
    return frozenset(c for c in CATEGORIES if isinstance(applied.get(c), list) and question.kind in applied[c])

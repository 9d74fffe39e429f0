"""Questions about one request as one call of the decisions endpoint, and what its answer is worth.

Pure: bytes in, values out. An answer counts only where it stands in the place of its question, with its name, and is
a probability; a refusal is no answer. Answers that are of another number or another kind say nothing at all.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from policyguard.flow.steps import Inquire, texts_of
from policyguard.moderation.answers import MAX_IMAGE_BYTES, MAX_MODEL_CHARS, Malformed
from policyguard.request import Answers, InputImage

MODEL: Final = "gpt-6-luna"  # the only one that the endpoint has
_MAX_TOKENS = 10**9
_READ_AS = "The same text as a person reads it: "


@dataclass(frozen=True, slots=True)
class Inquiry:
    """One call. Everything that is open about a request is asked at once."""

    step: Inquire
    model: str = MODEL

    @property
    def resource(self) -> str:
        return "decisions"

    @property
    def problem(self) -> str | None:
        """Why it cannot be sent."""
        too_large = any(len(image.data) > MAX_IMAGE_BYTES for image in self.step.request.input_images)
        return "image_too_large" if too_large else None

    def arguments(self) -> dict[str, Any]:
        """The body of the call, without the model. Images grow by a third, so it is only made when it is sent."""
        text, *revealed = texts_of(self.step.request)
        parts: list[dict[str, str]] = [{"type": "input_text", "text": text}]
        parts += [{"type": "input_text", "text": _READ_AS + one} for one in revealed]
        parts += [
            {"type": "input_image", "image_url": image.url or _data_url(image)}
            for image in self.step.request.input_images
        ]
        return {
            "input": [{"role": "user", "content": parts}],
            "questions": [{"type": "predicate", "name": q.name, "instructions": q.ask} for q in self.step.questions],
        }

    def failed(self, error: str, *, calls: int, request_id: str | None = None) -> Answers:
        """Nothing was answered."""
        return Answers(model=self.model, error=error, calls=calls, request_id=request_id)

    def read(self, body: bytes, *, calls: int, request_id: str | None = None) -> Answers:
        """Every answer that can be believed, or the one word why there is none."""
        try:
            data = orjson.loads(body)  # refuses NaN and Infinity
            found = _answers([question.name for question in self.step.questions], data)
        except (orjson.JSONDecodeError, Malformed):
            return self.failed("malformed", calls=calls, request_id=request_id)
        refused = frozenset(name for name, probability in found.items() if probability is None)
        return Answers(
            model=_model(data) or self.model,
            probabilities={name: value for name, value in found.items() if value is not None},
            refused=refused,
            error="refused" if refused else None,
            calls=calls,
            input_tokens=_tokens(data),
            request_id=request_id,
        )


def _data_url(image: InputImage) -> str:
    return f"data:{image.media_type};base64,{b64encode(image.data).decode()}"


def _answers(names: Sequence[str], data: Any) -> dict[str, float | None]:
    """By question; None where it was refused."""
    rows = data.get("answers") if isinstance(data, dict) else None
    if not isinstance(rows, list) or len(rows) != len(names):
        raise Malformed("not one answer for each question")
    return {name: _answer(name, row) for name, row in zip(names, rows, strict=True)}


def _answer(name: str, row: Any) -> float | None:
    if not isinstance(row, dict) or row.get("name") != name:
        raise Malformed("an answer to another question")
    if row.get("type") == "refusal":
        return None
    probability: Any = row.get("probability")
    if row.get("type") != "predicate" or type(probability) not in (int, float) or not 0 <= probability <= 1:
        raise Malformed("an answer that is none")
    return float(probability)


def _model(data: Mapping[str, Any]) -> str | None:
    model = data.get("model")
    return model if isinstance(model, str) and len(model) <= MAX_MODEL_CHARS and model.isprintable() else None


def _tokens(data: Mapping[str, Any]) -> int | None:
    """What was billed; None where it is not said."""
    usage = data.get("usage")
    count = usage.get("input_tokens") if isinstance(usage, dict) else None
    return count if type(count) is int and 0 <= count <= _MAX_TOKENS else None

"""OpenAI's moderation endpoint by the official SDK: one call for the prompt, one for each image, merged.

The SDK's own retries are off, because they would not be counted; one retry of ours stays within the policy's time
limit. Everything that is wrong upstream becomes one word in the verdict.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from math import isfinite
from typing import Any

import anyio
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, AsyncOpenAI, OpenAI

from policyguard.moderation.merge import IMAGE_CATEGORIES, Part, merge
from policyguard.request import CATEGORIES, InputImage, Verdict
from policyguard.steps import Moderate

MODELS = frozenset({"omni-moderation-latest", "omni-moderation-2024-09-26"})
MAX_IMAGE_BYTES = 20_000_000  # OpenAI's own limit for one image
ATTEMPTS = 2
_RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504})


@dataclass(frozen=True, slots=True)
class _Question:
    """One call: its input, and what the answer has to assess. No input: it is not sent."""

    expected: frozenset[str]
    input: Any
    error: str | None = None


class OpenAIModerator:
    """Serves omni-moderation. Without clients of your own it makes them, with the SDK's environment variables."""

    models = MODELS

    def __init__(
        self,
        client: OpenAI | None = None,
        aclient: AsyncOpenAI | None = None,
        *,
        api_key: str | None = None,
        base_url: str | None = None,
    ) -> None:
        make = {"api_key": api_key, "base_url": base_url, "max_retries": 0}
        self._client = client.with_options(max_retries=0) if client else OpenAI(**make)  # type: ignore[arg-type]
        self._aclient = aclient.with_options(max_retries=0) if aclient else AsyncOpenAI(**make)  # type: ignore[arg-type]
        self._pool = ThreadPoolExecutor(8, thread_name_prefix="policyguard-moderation")

    def moderate(self, step: Moderate) -> Verdict:
        started = time.monotonic()
        deadline = started + step.timeout_s
        questions = list(_questions(step))
        if len(questions) == 1:
            parts = [self._ask(step.model, questions[0], deadline)]
        else:
            parts = list(self._pool.map(lambda q: self._ask(step.model, q, deadline), questions))
        return merge(step.model, parts, _since(started))

    async def amoderate(self, step: Moderate) -> Verdict:
        started = time.monotonic()
        questions = list(_questions(step))
        parts = [_failed(q, "timeout", 1) for q in questions]

        async def ask(index: int, question: _Question) -> None:
            parts[index] = await self._aask(step.model, question, started + step.timeout_s)

        with anyio.move_on_after(step.timeout_s):
            async with anyio.create_task_group() as group:
                for index, question in enumerate(questions):
                    group.start_soon(ask, index, question)
        return merge(step.model, parts, _since(started))

    def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._client.close()

    async def aclose(self) -> None:
        self.close()
        await self._aclient.close()

    # ---- one call ---------------------------------------------------------------------------------------------

    def _ask(self, model: str, question: _Question, deadline: float) -> Part:
        part = _failed(question, question.error or "timeout", 0)
        for attempt in range(1, ATTEMPTS + 1):
            left = deadline - time.monotonic()
            if question.error is not None or left <= 0:
                break
            try:
                answer = self._client.with_options(timeout=left).moderations.create(model=model, input=question.input)
                return _read(question, answer, attempt)
            except APIError as error:
                part = _failed(question, _word(error), attempt)
                if not _worth_a_retry(error):
                    break
        return part

    async def _aask(self, model: str, question: _Question, deadline: float) -> Part:
        part = _failed(question, question.error or "timeout", 0)
        for attempt in range(1, ATTEMPTS + 1):
            left = deadline - time.monotonic()
            if question.error is not None or left <= 0:
                break
            try:
                client = self._aclient.with_options(timeout=left)
                return _read(question, await client.moderations.create(model=model, input=question.input), attempt)
            except APIError as error:
                part = _failed(question, _word(error), attempt)
                if not _worth_a_retry(error):
                    break
        return part


def _questions(step: Moderate) -> Iterable[_Question]:
    if step.prompt:
        yield _Question(frozenset(CATEGORIES), step.request.prompt)
    if step.images:
        for image in step.request.input_images:
            yield _image_question(image)


def _image_question(image: InputImage) -> _Question:
    if len(image.data) > MAX_IMAGE_BYTES:
        return _Question(IMAGE_CATEGORIES, None, "image_too_large")
    url = f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"
    return _Question(IMAGE_CATEGORIES, [{"type": "image_url", "image_url": {"url": url}}])


def _failed(question: _Question, error: str, calls: int) -> Part:
    return Part(expected=question.expected, scores={}, error=error, calls=calls)


def _read(question: _Question, answer: Any, calls: int) -> Part:
    """The scores that can be believed; a category without one is missing, whatever the reason."""
    part = replace(_failed(question, "malformed", calls), request_id=getattr(answer, "_request_id", None))
    try:
        (result,) = answer.results
        given = result.category_scores.model_dump(by_alias=True)
        applied = result.category_applied_input_types.model_dump(by_alias=True)
    except (AttributeError, TypeError, ValueError):
        return part
    scores = {
        c: float(given[c]) for c in question.expected if _believable(given.get(c)) and _applies(question, applied, c)
    }
    model = answer.model if isinstance(answer.model, str) else None
    return replace(
        part, scores=scores, model=model, error=None if len(scores) == len(question.expected) else "malformed"
    )


def _believable(score: object) -> bool:
    return isinstance(score, int | float) and not isinstance(score, bool) and isfinite(score) and 0 <= score <= 1


def _applies(question: _Question, applied: Mapping[str, Any], category: str) -> bool:
    """The answer itself says what it looked at; a 0 for something that it did not look at is no score."""
    kind = "text" if isinstance(question.input, str) else "image"
    return kind in (applied.get(category) or ())


def _word(error: APIError) -> str:
    words: tuple[tuple[type[APIError], Callable[[Any], str]], ...] = (
        (APITimeoutError, lambda e: "timeout"),
        (APIConnectionError, lambda e: "connection"),
        (APIStatusError, lambda e: "rate_limited" if e.status_code == 429 else f"status_{e.status_code}"),
    )
    return next((word(error) for kind, word in words if isinstance(error, kind)), "malformed")


def _worth_a_retry(error: APIError) -> bool:
    if isinstance(error, APIStatusError):
        return error.status_code in _RETRIED
    return isinstance(error, APIConnectionError) and not isinstance(error, APITimeoutError)


def _since(started: float) -> int:
    return round((time.monotonic() - started) * 1000)

"""`/v1/moderations` and `/v1/decisions`: scores and answers from the table of words.

Equal texts get equal scores, so that tests and the demo can rely on them.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from policyguard.request import CATEGORIES, IMAGE_CATEGORIES
from policyguard.sandbox.scores import REFUSAL, image_scores, scripted_answers, text_scores
from policyguard.sandbox.wire import ApiError, json_object

MODEL = "omni-moderation-2024-09-26"
_ALIASES = ("omni-moderation-latest", MODEL)
DECIDES = "gpt-6-luna"
FLAGGED_AT = 0.5
CONFIDENT = 0.9


async def moderations(request: Request, fault: str | None) -> Response:
    """A text, a list of texts (one result each), or a list of parts (one result, one image at most)."""
    values = await json_object(request)
    _check_model(values.get("model") or MODEL, _ALIASES)
    if fault == "nonsense":
        return JSONResponse({"id": "modr-1", "model": MODEL, "results": "none"})
    given = values.get("input")
    if isinstance(given, str):
        results = [_result(text_scores(given), {"text"})]
    elif isinstance(given, list) and given and all(isinstance(item, str) for item in given):
        results = [_result(text_scores(item), {"text"}) for item in given]
    elif isinstance(given, list) and given and all(isinstance(item, dict) for item in given):
        results = [_parts(given)]
    else:
        raise ApiError(400, "Invalid 'input'.", param="input")
    return JSONResponse(
        {"id": "modr-" + hashlib.sha256(repr(given).encode()).hexdigest()[:12], "model": MODEL, "results": results}
    )


def _parts(parts: list[dict[str, Any]]) -> dict[str, Any]:
    texts = [str(part.get("text", "")) for part in parts if part.get("type") == "text"]
    images = [part for part in parts if part.get("type") == "image_url"]
    if len(images) > 1:
        raise ApiError(
            400, f"Number of images ({len(images)}) exceeds maximum of 1", param="input", code="too_many_images"
        )
    kinds = ({"text"} if texts else set()) | ({"image"} if images else set())
    scores = dict.fromkeys(CATEGORIES, 0.0)
    for found in (*map(text_scores, texts), *(image_scores(_bytes(image)) for image in images)):
        scores = {category: max(scores[category], found[category]) for category in CATEGORIES}
    if not texts:  # for a picture alone the API says 0 where it looks at text only
        scores = {category: score if category in IMAGE_CATEGORIES else 0.0 for category, score in scores.items()}
    return _result(scores, kinds)


def _bytes(part: Mapping[str, Any]) -> bytes:
    """The picture of a data URL; of anything else its name."""
    url = part.get("image_url")
    text = str(url.get("url", "")) if isinstance(url, Mapping) else str(url)
    try:
        return base64.b64decode(text.partition(";base64,")[2], validate=True) or text.encode()
    except ValueError:
        return text.encode()


def _result(scores: Mapping[str, float], kinds: set[str]) -> dict[str, Any]:
    applied = {c: sorted(kinds & ({"text", "image"} if c in IMAGE_CATEGORIES else {"text"})) for c in CATEGORIES}
    categories = {category: score >= FLAGGED_AT for category, score in scores.items()}
    return {
        "flagged": any(categories.values()),
        "categories": categories,
        "category_scores": dict(scores),
        "category_applied_input_types": applied,
    }


async def decisions(request: Request, fault: str | None) -> Response:
    """Predicate, choice and score questions, answered from a hash: deterministic, made up, without a meaning.

    `[sandbox: real_person=0.9]` in the input answers the predicate of that name, `real_person=refusal` refuses it.
    """
    values = await json_object(request)
    _check_model(values.get("model"), (DECIDES,))
    if fault == "nonsense":
        return JSONResponse({"id": "dec-1", "object": "decision", "model": DECIDES, "answers": "none"})
    questions = values.get("questions")
    if not isinstance(questions, list) or not 1 <= len(questions) <= 400 or "input" not in values:
        raise ApiError(400, "Invalid 'questions'.", param="questions")
    text = repr(values["input"])
    scripted = scripted_answers(text)
    answers = [_answer(question, text, scripted) for question in questions]
    tokens = 8 + len(repr(values["input"])) // 4
    usage = {
        "input_tokens": tokens,
        "input_tokens_details": {"cache_write_tokens": 0, "cached_tokens": 0},
        "output_tokens": 0,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": tokens,
    }
    body = {"id": "dec-1", "object": "decision", "model": DECIDES, "answers": answers}
    return JSONResponse(body if fault == "no_usage" else body | {"usage": usage})


def _check_model(name: Any, known: tuple[str, ...]) -> None:
    if name not in known:
        raise ApiError(404, f"The model '{name}' does not exist.", code="model_not_found", param="model")


def _answer(question: Any, text: str, scripted: Mapping[str, str]) -> dict[str, Any]:
    if not isinstance(question, dict):
        raise ApiError(400, "Invalid 'questions'.", param="questions")
    share = int.from_bytes(hashlib.sha256(f"{question}{text}".encode()).digest()[:4]) / 2**32
    kind = question.get("type")
    named = {"type": kind, **({"name": question["name"]} if "name" in question else {})}
    script = scripted.get(str(question.get("name"))) if kind == "predicate" else None
    if script == REFUSAL:
        return {**named, "type": REFUSAL}
    if script is not None:
        return {**named, "probability": float(script)}
    if kind == "predicate":
        return {**named, "probability": round(share * 0.1, 4)}
    if kind == "choice":
        options = [option["value"] for option in _options(question, "choices", "value")]
        chosen = int(share * len(options))
        spread = [{"value": v, "probability": p} for v, p in zip(options, _spread(chosen, len(options)), strict=True)]
        return {**named, "choice": options[chosen], "confidence": CONFIDENT, "probabilities": spread}
    if kind == "score":
        levels = [level["label"] for level in _options(question, "levels", "label")]
        chosen = int(share * len(levels))
        shares = enumerate(zip(levels, _spread(chosen, len(levels)), strict=True))
        rows = [{"label": label, "value": value, "probability": p} for value, (label, p) in shares]
        return {**named, "score": float(chosen), "confidence": CONFIDENT, "probabilities": rows}
    raise ApiError(400, "A question is a predicate, a choice or a score.", param="questions")


def _options(question: Mapping[str, Any], name: str, key: str) -> list[dict[str, Any]]:
    options = question.get(name)
    if not isinstance(options, list) or not 2 <= len(options) <= 255:
        raise ApiError(400, f"'{name}' must be a list of 2 to 255.", param="questions")
    if not all(isinstance(option, dict) and key in option for option in options):
        raise ApiError(400, f"Each of '{name}' needs '{key}'.", param="questions")
    return options


def _spread(chosen: int, count: int) -> list[float]:
    """Most for the chosen one, the rest evenly."""
    rest = round((1 - CONFIDENT) / (count - 1), 4)
    return [CONFIDENT if index == chosen else rest for index in range(count)]

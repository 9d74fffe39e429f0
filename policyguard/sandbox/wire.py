"""OpenAI's error bodies and the checks that its API makes of a request for images.

A check belongs here only where the API has it, with the words of the API.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from policyguard import pricing
from policyguard.request import AUTO, MAX_IMAGES, MAX_PROMPT_CHARS
from policyguard.wire.parameters import KNOWN as PARAMETERS

KNOWN = frozenset(PARAMETERS)
FORMATS = ("png", "webp", "jpeg")
MAX_IDENTIFIER = 128


class ApiError(Exception):
    """An answer in OpenAI's own shape."""

    def __init__(
        self, status: int, message: str, *, type: str = "invalid_request_error", code: str | None = None, **more: Any
    ) -> None:
        super().__init__(message)
        self.status = status
        self.error = {"message": message, "type": type, "param": more.pop("param", None), "code": code, **more}

    def response(self, headers: Mapping[str, str]) -> JSONResponse:
        return JSONResponse({"error": self.error}, self.status, headers=dict(headers))


def bad(message: str, param: str, code: str = "invalid_value") -> ApiError:
    return ApiError(400, message, param=param, code=code)


def blocked(categories: list[str], *, stage: str = "input") -> ApiError:
    return ApiError(
        400,
        "Your request was rejected by the safety system.",
        type="image_generation_user_error",
        code="moderation_blocked",
        moderation_details={"moderation_stage": stage, "categories": categories},
    )


async def json_object(request: Request) -> dict[str, Any]:
    try:
        value = json.loads(await request.body())
        json.dumps(value, ensure_ascii=False).encode()  # half of a surrogate pair is no text
    except (ValueError, RecursionError):
        raise ApiError(400, "We could not parse the JSON body of your request.") from None
    if not isinstance(value, dict):
        raise ApiError(400, "We expected a JSON object.")
    return value


def check_images(values: Mapping[str, Any]) -> None:
    """Refuse what the API refuses. Values that are null must have been left out."""
    unknown = sorted(values.keys() - KNOWN)
    if unknown:
        raise bad(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    _check_prompt(values.get("prompt"))
    row = usable_model(values.get("model"))
    _check_drawn(values, row)
    _check_output(values)
    _check_numbers(values)
    if values.get("moderation", AUTO) not in (AUTO, "low"):
        raise bad("'moderation' must be 'auto' or 'low'.", "moderation")
    if "input_fidelity" in values and row.family != "legacy":
        message = f"The model '{row.id}' does not support the 'input_fidelity' parameter."
        raise bad(message, "input_fidelity", "invalid_input_fidelity_model")
    identifier = values.get("safety_identifier", "")
    if not isinstance(identifier, str) or len(identifier) > MAX_IDENTIFIER:
        raise bad(f"'safety_identifier' is a text of at most {MAX_IDENTIFIER} characters.", "safety_identifier")


def usable_model(name: Any) -> pricing.ModelPrice:
    """The price book's row; a 404 where the API would not know the model, or no longer."""
    row = pricing.price_book().models.get(name) if isinstance(name, str) else None
    if row is None or not row.usable:
        raise ApiError(404, f"The model '{name}' does not exist.", code="model_not_found", param="model")
    return row


def _check_prompt(prompt: Any) -> None:
    if prompt is None:
        raise bad("Missing required parameter: 'prompt'.", "prompt", "missing_required_parameter")
    if not isinstance(prompt, str) or not prompt:
        raise bad("'prompt' must be a text that is not empty.", "prompt")
    if len(prompt) > MAX_PROMPT_CHARS:
        raise bad(f"'prompt' has at most {MAX_PROMPT_CHARS} characters.", "prompt", "string_above_max_length")


def _check_drawn(values: Mapping[str, Any], row: pricing.ModelPrice) -> None:
    size, quality = values.get("size", AUTO), values.get("quality", AUTO)
    for name, value in (("size", size), ("quality", quality)):
        if not isinstance(value, str):
            raise bad(f"'{name}' must be a text.", name, "invalid_type")
    problem = pricing.size_problem(row.id, size)
    if problem:
        raise bad(f"Invalid size '{size}'. {problem[:1].upper()}{problem[1:]}.", "size")
    if quality != AUTO and quality not in row.qualities:
        raise bad(f"Invalid quality '{quality}'.", "quality")


def _check_output(values: Mapping[str, Any]) -> None:
    output_format, background = values.get("output_format", "png"), values.get("background", AUTO)
    if output_format in ("gif", "svg"):
        raise bad(
            f"The output format '{output_format}' needs preview access, which the sandbox has not.", "output_format"
        )
    if output_format not in FORMATS:
        raise bad(f"'output_format' must be one of {', '.join(FORMATS)}.", "output_format")
    if background not in (AUTO, "opaque", "transparent"):
        raise bad("'background' must be 'auto', 'opaque' or 'transparent'.", "background")
    if background == "transparent" and output_format == "jpeg":
        raise bad("A transparent background needs the output format png or webp.", "background")
    if values.get("output_compression", 100) != 100 and output_format == "png":
        raise bad("'output_compression' is for webp and jpeg.", "output_compression")


_RANGES = {"n": (1, MAX_IMAGES), "partial_images": (0, 3), "output_compression": (0, 100)}


def _check_numbers(values: Mapping[str, Any]) -> None:
    for name, (low, high) in _RANGES.items():
        value = values.get(name, low)
        if type(value) is not int or not low <= value <= high:
            raise bad(f"'{name}' must be a whole number from {low} to {high}.", name)
    if type(values.get("stream", False)) is not bool:
        raise bad("'stream' must be true or false.", "stream")

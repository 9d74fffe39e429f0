"""OpenAI's error bodies and the checks that its API makes of a request for images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from policyguard import pricing
from policyguard.request import AUTO, MAX_IMAGES, MAX_PROMPT_CHARS
from policyguard.wire.parameters import KNOWN as PARAMETERS

KNOWN = frozenset(PARAMETERS) | {"response_format", "image", "mask"}
FORMATS = ("png", "webp", "jpeg")


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


def blocked(categories: list[str]) -> ApiError:
    return ApiError(
        400,
        "Your request was rejected by the safety system.",
        type="image_generation_user_error",
        code="moderation_blocked",
        moderation_details={"moderation_stage": "input", "categories": categories},
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
    """Refuse what the API refuses."""
    unknown = sorted(values.keys() - KNOWN)
    if unknown:
        raise bad(f"Unknown parameter: '{unknown[0]}'.", unknown[0], "unknown_parameter")
    prompt, model = values.get("prompt"), values.get("model")
    if not isinstance(prompt, str) or not 1 <= len(prompt) <= MAX_PROMPT_CHARS:
        raise bad("Missing or too long: 'prompt'.", "prompt", "missing_required_parameter")
    row = pricing.price_book().models.get(model) if isinstance(model, str) else None
    if row is None or not row.usable:
        raise ApiError(404, f"The model '{model}' does not exist.", code="model_not_found", param="model")
    count = values.get("n", 1)
    if type(count) is not int or not 1 <= count <= MAX_IMAGES:
        raise bad("'n' must be from 1 to 10.", "n")
    size, quality = values.get("size") or AUTO, values.get("quality") or AUTO
    if not isinstance(size, str) or not isinstance(quality, str):
        raise bad("'size' and 'quality' must be texts.", "size", "invalid_type")
    problem = pricing.size_problem(row.id, size)
    if problem:
        raise bad(f"Invalid size '{size}'. {problem}.", "size")
    if quality != AUTO and quality not in row.qualities:
        raise bad(f"Invalid quality '{quality}'.", "quality")
    if values.get("moderation", AUTO) not in (AUTO, "low"):
        raise bad("'moderation' must be 'auto' or 'low'.", "moderation")
    if values.get("output_format", "png") not in FORMATS:
        raise bad("This output format is in preview.", "output_format")
    if values.get("background", AUTO) not in (AUTO, "opaque", "transparent"):
        raise bad("'background' must be 'auto', 'opaque' or 'transparent'.", "background")
    partial = values.get("partial_images", 0)
    if type(partial) is not int or not 0 <= partial <= 3:
        raise bad("'partial_images' must be from 0 to 3.", "partial_images")

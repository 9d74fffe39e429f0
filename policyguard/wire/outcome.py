"""An answer to an `Outcome`: token counts by kind, digests of the images, what an error says."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson

from policyguard.policy.model import Route
from policyguard.request import Failure, Outcome, Usage
from policyguard.wire.own import at

_WORD = re.compile(r"[A-Za-z0-9._:-]{1,100}", re.ASCII)


def read_outcome(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    *,
    latency_ms: int = 0,
    definite: bool = False,
    route: Route | None = None,
) -> Outcome:
    """What an answer means. `route` says where an app's own answer has usage and images; header names in lower case."""
    document = _document(body)
    error = document.get("error")
    error = error if status >= 400 and isinstance(error, dict) else {}
    custom = route is not None and route.shape == "custom"
    usage = usage_from(_first(document, route.usage) if route and custom else document.get("usage"))
    images = at(document, route.images or ()) if route and custom else at(document, ("data", "[]", "b64_json"))
    failed = Failure.ERROR if status >= 400 else None if usage else Failure.NO_USAGE
    return Outcome(
        status=status,
        usage=usage if status < 400 else None,
        failure=failed,
        definite=definite,
        error_code=plain_word(error.get("code")),
        moderation_stage=_stage(error.get("moderation_details")),
        request_id=plain_word(headers.get("x-request-id")),
        latency_ms=latency_ms,
        size=plain_word(document.get("size")),
        quality=plain_word(document.get("quality")),
        image_digests=digests(images) if status < 400 else (),
    )


def _document(body: bytes) -> dict[str, Any]:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return {}
    return value if isinstance(value, dict) else {}


def _first(document: Mapping[str, Any], path: tuple[str, ...] | None) -> Any:
    return next(at(document, path), None) if path else None


def _stage(details: object) -> str | None:
    return plain_word(details.get("moderation_stage")) if isinstance(details, Mapping) else None


def plain_word(value: object) -> str | None:
    """A code or an id as it may stand in the record. An app can answer anything there; no sentence fits in here."""
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def digests(images: Iterable[Any]) -> tuple[str, ...]:
    """Of the decoded images; what is no base64 has none."""
    return tuple(hashlib.sha256(data).hexdigest() for image in images if (data := _decoded(image)) is not None)


def _decoded(image: object) -> bytes | None:
    try:
        return base64.b64decode(image, validate=True) if isinstance(image, str) else None
    except ValueError:  # binascii.Error for a wrong alphabet, plain ValueError for what is not ASCII
        return None


# ---- usage ------------------------------------------------------------------------------------------------


def usage_from(value: Any) -> Usage | None:
    """Token counts from OpenAI's `usage`, as a mapping or as the SDK's object; None for anything else.

    Output without details is all image tokens, input without details all of the dearer kind, image tokens.
    """
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if not isinstance(value, Mapping):
        return None
    inputs, outputs = _count(value.get("input_tokens")), _count(value.get("output_tokens"))
    if inputs is None or not outputs:  # images without output tokens are not to be had
        return None
    split_in = _split(value.get("input_tokens_details"), inputs)
    split_out = _split(value.get("output_tokens_details"), outputs)
    return Usage(
        input_text_tokens=split_in[0],
        input_image_tokens=split_in[1],
        output_text_tokens=split_out[0],
        output_image_tokens=split_out[1],
    )


def _split(details: Any, total: int) -> tuple[int, int]:
    """Text and image tokens; what the details do not explain counts as image tokens."""
    if not isinstance(details, Mapping):
        return 0, total
    text = _count(details.get("text_tokens")) or 0
    image = _count(details.get("image_tokens")) or 0
    return text, max(image, total - text)


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None

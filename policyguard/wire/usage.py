"""Token counts out of OpenAI's `usage`, wherever it stands. What it does not say is never taken for nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyguard.request import Usage


def usage_from(value: Any) -> Usage | None:
    """Token counts from OpenAI's `usage`, as a mapping or as the SDK's object; None for anything else.

    Output without details is all image tokens, input without details all of the dearer kind, image tokens.
    """
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if not isinstance(value, Mapping):
        return None
    inputs, outputs = count_in(value.get("input_tokens")), count_in(value.get("output_tokens"))
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
    text = count_in(details.get("text_tokens")) or 0
    image = count_in(details.get("image_tokens")) or 0
    return text, max(image, total - text)


def count_in(value: object) -> int | None:
    """A number of tokens; None for what is none."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9 else None

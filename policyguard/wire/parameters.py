"""The API's parameters that policyguard knows: one table for JSON, forms and an app's own routes.

A parameter that is not in it is unknown, and the policy says what happens to it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import ImageRequest, InputImage, Operation

# Parameters of the API, and which of them are whole numbers or booleans in a form.
KNOWN = (
    "prompt",
    "model",
    "size",
    "quality",
    "n",
    "background",
    "output_format",
    "output_compression",
    "moderation",
    "input_fidelity",
    "partial_images",
    "stream",
    "user",
    "safety_identifier",
)
WHOLE_NUMBERS = frozenset({"n", "output_compression", "partial_images"})
BOOLEANS = frozenset({"stream"})
DECIDED = ("model", "size", "quality", "n")  # what the policy decides and the door writes back


def build(
    values: Mapping[str, Any],
    operation: Operation,
    images: tuple[InputImage, ...] = (),
    mask: InputImage | None = None,
) -> ImageRequest:
    """A request from parameters by name; a JSON null is absence, names that are not known go to `extra`."""
    if values.get("prompt") is None:
        raise InvalidRequest("`prompt` is missing", param="prompt")
    known: dict[str, Any] = {name: values[name] for name in KNOWN if values.get(name) is not None}
    extra = {name: value for name, value in values.items() if name not in KNOWN and value is not None}
    return ImageRequest(**known, operation=operation, images=images, mask=mask, extra=extra)


def decided(request: ImageRequest) -> dict[str, Any]:
    """What goes upstream whatever the client said. How many partial images a stream has is nobody's default."""
    return {name: value for name in (*DECIDED, "partial_images") if (value := getattr(request, name)) is not None}

"""The two ends of output for functions that return what the OpenAI SDK returns: `images=images, restore=restore`.

They stand here because `guard` does not import `openai`.
"""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from openai.types import Image, ImagesResponse


def images(result: Any) -> list[Any]:
    """The pictures of an `ImagesResponse`, as base64. One without it is none that can be looked at."""
    return [image.b64_json for image in result.data or ()]


def restore(approved: list[bytes]) -> ImagesResponse:
    """What the SDK would have returned. It was paid for when it was made, so it has no usage."""
    return ImagesResponse(created=0, data=[Image(b64_json=b64encode(data).decode()) for data in approved])

"""What a guarded function returns, as output: its pictures, in the form in which an answer is held for a review.

What is no picture is said to be none: it is never taken for one that was looked at.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterable
from typing import Any

import orjson

from policyguard.decision import Released
from policyguard.errors import InvalidRequest
from policyguard.request import Answer, InputImage, Output
from policyguard.wire.image_header import input_image
from policyguard.wire.output import MAX_OUTPUT_BYTES, images_of, picture

ImagesOf = Callable[[Any], Iterable[bytes | str]]
Restore = Callable[[list[bytes]], Any]


def output_of(result: Any, images: ImagesOf) -> Output:
    """What `images` finds in a result. Whatever it raises, nobody has looked at the pictures then."""
    try:
        found = [_image(item) for item in images(result)]
    except Exception:
        return Output(problem="unreadable")
    known = tuple(image for image in found if image is not None)
    answer = _answer(known) if sum(len(image.data) for image in known) <= MAX_OUTPUT_BYTES else None
    return Output(images=known, answer=answer, problem=None if len(known) == len(found) else "unreadable")


def restored(released: Released, restore: Restore) -> Any:
    """What the function would have returned, made of the approved pictures."""
    return restore([image.data for image in images_of(released.answer)])


def _image(item: bytes | str) -> InputImage | None:
    if isinstance(item, str):
        return picture(item)
    try:
        return input_image(bytes(item))
    except InvalidRequest:
        return None


def _answer(images: tuple[InputImage, ...]) -> Answer:
    """As OpenAI's API answers, so that every door can hand it out."""
    data = [{"b64_json": b64encode(image.data).decode()} for image in images]
    return Answer(status=200, content_type="application/json", body=orjson.dumps({"created": 0, "data": data}))

"""The two bodies of an edit: a form with files, or JSON with data URLs. Both give parameters and the images' sizes.

The sandbox fetches nothing: an image behind a web address or a file id has no size here.
"""

from __future__ import annotations

import base64
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request

from policyguard.errors import InvalidRequest
from policyguard.request import MAX_INPUT_IMAGES, Size
from policyguard.sandbox.wire import ApiError, bad, json_object
from policyguard.wire.image_header import input_image
from policyguard.wire.parameters import WHOLE_NUMBERS

Edit = tuple[dict[str, Any], tuple[Size | None, ...]]


async def read_edit(request: Request) -> Edit:
    """Parameters by name, and the size of each input image (the mask costs nothing and is not counted)."""
    is_json = request.headers.get("content-type", "").startswith("application/json")
    values, sizes = await (_json(request) if is_json else _form(request))
    if not 1 <= len(sizes) <= MAX_INPUT_IMAGES:
        raise bad("An edit takes 1 to 16 images.", "image", "invalid_value" if sizes else "missing_required_parameter")
    return values, sizes


async def _form(request: Request) -> Edit:
    values: dict[str, Any] = {}
    sizes: list[Size | None] = []
    async with request.form() as form:
        for name, value in form.multi_items():
            if not isinstance(value, UploadFile):
                values[name] = int(value) if name in WHOLE_NUMBERS and value.isdecimal() else value
            elif name in ("image", "image[]"):
                sizes.append(_size(await value.read()))
    return values, tuple(sizes)


async def _json(request: Request) -> Edit:
    values = await json_object(request)
    references = values.pop("images", [])
    values.pop("mask", None)
    if not isinstance(references, list):
        raise bad("'images' must be a list.", "images", "invalid_type")
    return values, tuple(_reference(reference) for reference in references)


def _reference(reference: Any) -> Size | None:
    keys = set(reference) & {"image_url", "file_id"} if isinstance(reference, dict) else set()
    if len(keys) != 1:
        raise bad("Each image has exactly one of 'image_url' and 'file_id'.", "images")
    url = str(reference.get("image_url", ""))
    if not url.startswith("data:"):
        return None
    try:
        return _size(base64.b64decode(url.partition(",")[2], validate=True))
    except ValueError:
        raise bad("The data URL of an image could not be read.", "images") from None


def _size(data: bytes) -> Size | None:
    try:
        return input_image(data).size
    except InvalidRequest:
        raise ApiError(400, "Invalid image file.", param="image", code="invalid_image_file") from None

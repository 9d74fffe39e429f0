"""The two bodies of an edit: a form with files, or JSON with data URLs. Both give the same value.

The sandbox fetches nothing: an image behind a web address or a file id has no size here.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request

from policyguard.errors import InvalidRequest
from policyguard.request import MAX_INPUT_IMAGES, Size
from policyguard.sandbox.wire import ApiError, bad, json_object
from policyguard.wire.image_header import input_image
from policyguard.wire.parameters import BOOLEANS, WHOLE_NUMBERS

_DIGITS = 9  # more are no number that the API takes, and a long one is slow to read


@dataclass(frozen=True, slots=True)
class EditForm:
    """Parameters by name, the size of each input image, and the names of the fields that held images or the mask.

    The mask costs nothing and is not counted.
    """

    values: dict[str, Any]
    sizes: tuple[Size | None, ...]
    files: tuple[str, ...]


async def read_edit(request: Request) -> EditForm:
    """Raises `ApiError` for a body that is neither, and for too few or too many images."""
    is_json = request.headers.get("content-type", "").startswith("application/json")
    edit = await (_json(request) if is_json else _form(request))
    if not 1 <= len(edit.sizes) <= MAX_INPUT_IMAGES:
        code = "invalid_value" if edit.sizes else "missing_required_parameter"
        raise bad("An edit takes 1 to 16 images.", "image", code)
    return edit


async def _form(request: Request) -> EditForm:
    values: dict[str, Any] = {}
    sizes: list[Size | None] = []
    files: list[str] = []
    try:
        async with request.form() as form:
            for name, value in form.multi_items():
                if not isinstance(value, UploadFile):
                    values[name] = _typed(name, value)
                    continue
                files.append(name)
                if name in ("image", "image[]", "markup"):
                    sizes.append(_size(await value.read()))
    except HTTPException:
        raise ApiError(400, "We could not parse the form of your request.") from None
    return EditForm(values, tuple(sizes), tuple(files))


def _typed(name: str, value: str) -> Any:
    if name in WHOLE_NUMBERS and value.isdecimal() and len(value) <= _DIGITS:
        return int(value)
    return value == "true" if name in BOOLEANS and value in ("true", "false") else value


async def _json(request: Request) -> EditForm:
    values = await json_object(request)
    files = tuple(name for name in ("images", "mask") if values.get(name) is not None)
    references = values.pop("images", [])
    values.pop("mask", None)
    if not isinstance(references, list):
        raise bad("'images' must be a list.", "images", "invalid_type")
    return EditForm(values, tuple(reference_size(reference) for reference in references), files)


def reference_size(reference: Any) -> Size | None:
    """The size of a picture by its data URL; None where it cannot be seen from here."""
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

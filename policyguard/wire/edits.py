"""`POST /v1/images/edits`: a multipart form with images, a mask, and parameters as fields."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import ImageRequest
from policyguard.wire.form import FormPart, parse_form, plain_part, write_form
from policyguard.wire.image_header import input_image
from policyguard.wire.parameters import BOOLEANS, KNOWN, WHOLE_NUMBERS, build, decided

_IMAGES = ("image", "image[]")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Edit:
    """A parsed form: the request, and the parts that are written back with what was decided."""

    request: ImageRequest
    parts: list[FormPart] = field(repr=False)
    boundary: bytes = field(repr=False)

    def write(self, request: ImageRequest, safety_identifier: str | None) -> tuple[bytes, str]:
        """Body and content type for the upstream. `moderation` is taken out: absent means auto."""
        forced = {name: str(value) for name, value in decided(request).items()}
        if safety_identifier is not None:
            forced["safety_identifier"] = safety_identifier
        dropped = {"moderation", "safety_identifier", *forced}
        kept = [part for part in self.parts if part.name not in dropped]
        return write_form([*kept, *(plain_part(name, value) for name, value in forced.items())], self.boundary)


def read_edit(body: bytes, content_type: str) -> Edit:
    """Raises `InvalidRequest`."""
    parts, boundary = parse_form(body, content_type)
    files = [part for part in parts if part.name in _IMAGES]
    masks = [part for part in parts if part.name == "mask"]
    fields = [part for part in parts if part.name not in (*_IMAGES, "mask")]
    if len(masks) > 1:
        raise InvalidRequest("`mask` is there twice", param="mask")
    if any(part.filename is not None for part in fields):
        raise InvalidRequest("a file that is neither `image` nor `mask`", param="image")
    if any(part.filename is None for part in (*files, *masks)):
        raise InvalidRequest("`image` and `mask` are files", param="image")
    images = tuple(input_image(part.data, part.filename or "") for part in files)
    mask = input_image(masks[0].data, masks[0].filename or "", "mask") if masks else None
    return Edit(build(_values(fields), "edit", images, mask), parts, boundary)


def _values(fields: list[FormPart]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in fields:
        if part.name in values:
            raise InvalidRequest("a form field is there twice", param=part.name if part.name in KNOWN else None)
        values[part.name] = _value(part)
    return values


def _value(part: FormPart) -> Any:
    text = part.text
    if part.name in WHOLE_NUMBERS:
        if not _WHOLE.fullmatch(text):
            raise InvalidRequest(f"`{part.name}` must be a whole number", param=part.name)
        return int(text)
    if part.name in BOOLEANS:
        if text not in ("true", "false"):
            raise InvalidRequest(f"`{part.name}` must be true or false", param=part.name)
        return text == "true"
    return text

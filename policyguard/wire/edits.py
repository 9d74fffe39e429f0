"""`POST /v1/images/edits`: a multipart form with images, a mask or a markup, and parameters as fields.

Reading and writing are together, because what goes upstream is the form that came, changed where it was decided.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import ImageRequest, InputImage
from policyguard.wire.form import FormPart, parse_form, write_form
from policyguard.wire.image_header import input_image, overlay_image
from policyguard.wire.parameters import BOOLEANS, KNOWN, WHOLE_NUMBERS, build, decided

_IMAGES = ("image", "image[]")
_OVER = ("mask", "markup")  # laid over the first image
_FILES = (*_IMAGES, *_OVER)
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Edit:
    """A parsed form: the request, and the parts that are written back with what was decided."""

    request: ImageRequest
    parts: list[FormPart] = field(repr=False)
    boundary: bytes = field(repr=False)

    def write(self, request: ImageRequest, safety_identifier: str | None) -> tuple[bytes, str]:
        """Body and content type for the upstream: the parts that were read, but for what is forced.

        `moderation` is taken out: absent means auto.
        """
        forced: dict[str, str | None] = {name: str(value) for name, value in decided(request).items()}
        forced |= {"moderation": None, "safety_identifier": safety_identifier}
        return write_form(self.parts, forced, self.boundary)


def read_edit(body: bytes, content_type: str) -> Edit:
    """Raises `InvalidRequest`."""
    given, boundary = parse_form(body, content_type)
    parts = [part for part in given if not _is_absent(part)]
    files = [part for part in parts if part.name in _IMAGES]
    fields = [part for part in parts if part.name not in _FILES]
    if any(part.filename is not None for part in fields):
        raise InvalidRequest("a file that is neither `image` nor `mask` nor `markup`", param="image")
    for part in parts:
        if part.name in _FILES and part.filename is None:
            raise InvalidRequest(f"`{part.name}` is a file, which needs a file name: `filename=`", param=part.name)
    images = tuple(input_image(part.data, part.filename or "") for part in files)
    over = {name: _over(parts, name, images) for name in _OVER}
    if all(over.values()):
        raise InvalidRequest("`markup` and `mask` do not go together", param="markup")
    request = replace(build(_values(fields), "edit", images, over["mask"]), markup=over["markup"])
    return Edit(request, parts, boundary)


def _is_absent(part: FormPart) -> bool:
    """Some clients write every optional field, and browsers every file that could be chosen; nothing of it goes on."""
    return not part.data and (part.filename == "" or (part.filename is None and part.name != "prompt"))


def _over(parts: list[FormPart], name: str, images: tuple[InputImage, ...]) -> InputImage | None:
    found = [part for part in parts if part.name == name]
    if len(found) > 1:
        raise InvalidRequest(f"`{name}` is there twice", param=name)
    return overlay_image(found[0].data, found[0].filename or "", name, images[0]) if found and images else None


def _values(fields: list[FormPart]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for part in fields:
        if part.name in values:
            raise InvalidRequest("a form field is there twice", param=part.name if part.name in KNOWN else None)
        base, bracket, _ = part.name.partition("[")
        if bracket and base in KNOWN:  # some read `prompt[]` as the prompt, too
            raise InvalidRequest(f"`{base}` is one value, written `{base}`", param=base)
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

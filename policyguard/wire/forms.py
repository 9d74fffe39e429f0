"""Every form of OpenAI's image API, by its path: which reader it has, and how large it may be. One for all doors."""

from __future__ import annotations

import re
from typing import Literal, TypeGuard
from urllib.parse import unquote_plus

from policyguard.errors import InvalidRequest
from policyguard.wire.edits import Edit, read_edit
from policyguard.wire.edits_json import JsonEdit, read_json_edit
from policyguard.wire.generations import Generation, is_json, read_generation
from policyguard.wire.parameters import KNOWN
from policyguard.wire.responses import NAMES, ToolCall, read_tool_call

WireForm = Literal["generations", "edits", "responses"]
Parsed = Generation | Edit | JsonEdit | ToolCall
MAX_BODY_BYTES = 64 * 1024 * 1024  # a request: sixteen images of four megabytes
MAX_JSON_BYTES = 1_000_000  # a prompt of 32,000 characters and everything beside it, but for pictures
_OF_THE_BODY = frozenset({*KNOWN, "image", "images", "mask", "markup"}) | NAMES
_FIELDS = re.compile("[&;]")
_PATH = re.compile(r"/(?:images/(generations|edits)|(responses))$")


def shape_of(path: str) -> WireForm | None:
    """The form that a path ends with, as it is spelt by OpenAI; None for every other path."""
    match = _PATH.search(path)
    shape = match and (match[1] or match[2])
    return shape if _is_shape(shape) else None


def _is_shape(text: str | None) -> TypeGuard[WireForm]:
    return text in ("generations", "edits", "responses")


def largest(shape: str, max_body_bytes: int = MAX_BODY_BYTES, max_json_bytes: int = MAX_JSON_BYTES) -> int:
    """How long a body of this form may be: only where pictures can be in it, it is more than text."""
    return max_body_bytes if shape in ("edits", "responses") else max_json_bytes


def read(shape: WireForm, body: bytes, content_type: str, max_json_bytes: int = MAX_JSON_BYTES) -> Parsed:
    """Raises `InvalidRequest`."""
    if shape == "generations":
        return read_generation(body, content_type)
    if shape == "responses":
        return read_tool_call(body, content_type, max_json_bytes)
    if is_json(content_type):
        return read_json_edit(body, content_type, max_json_bytes)
    return read_edit(body, content_type)


def check_query(query: bytes) -> None:
    """Raises `InvalidRequest` for a parameter in the address: it is read from the body, and by others from there, too.

    What else an address says (`api-version`) is none of ours.
    """
    for field in _FIELDS.split(query.decode("latin-1")):
        name = unquote_plus(field.partition("=")[0]).partition("[")[0].strip().casefold()
        if name in _OF_THE_BODY:
            raise InvalidRequest(f"`{name}` belongs in the body, not in the address", param=name)


def one_content_type(types: list[str], encodings: list[str]) -> str:
    """The content type of a request, from the values of its headers. Raises `InvalidRequest`."""
    if any(encoding.strip().lower() != "identity" for encoding in encodings):
        raise InvalidRequest("the body must not be compressed")
    if len(types) != 1:
        raise InvalidRequest("the request needs one content type")
    return types[0]

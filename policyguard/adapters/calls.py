"""What a call of OpenAI's API is: one for images, one that could make images unseen, or other traffic.

Paths are compared as the most lenient reader takes them. A spelling that only some readers take for an image route is
none that can be decided, so it counts as unseen. Bodies of other calls are looked at for a tool that makes images only.
"""

from __future__ import annotations

import json
import re
from enum import StrEnum
from typing import Any

from policyguard.adapters.routes import normal
from policyguard.errors import InvalidRequest
from policyguard.wire.generations import check_json_type


class Call(StrEnum):
    GENERATIONS = "generations"
    EDITS = "edits"
    UNSEEN = "unseen"  # may make images in a way that nothing here can decide
    RESPONSES = "responses"  # makes images where it has the tool for it
    OTHER = "other"
    READ = "read"  # makes nothing


_READS = frozenset({"GET", "HEAD", "OPTIONS"})
_IMAGES = re.compile(r"/images(?:/|$)")
_DECIDED = re.compile(r"/images/(generations|edits)$")
_DEPLOYMENT = "/deployments/"  # the path names the model: nothing in the body could be decided
_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
_TOOL = "image_generation"
# A body without any of these has no such tool, whatever its encoding; everything else is parsed.
_MARKS = (_TOOL.encode(), b"\\u", b"\0")
_STORED = b'"prompt"'


def call_of(method: str, path: str, headers: Any) -> Call:
    """`path` as it goes over the wire, without its query; `headers` can be asked for a name in lower case."""
    lenient = normal(path)
    if method in _READS and not any(name in headers for name in _OVERRIDES):
        return Call.READ
    if _IMAGES.search(lenient):
        match = _DECIDED.search(path)
        plain = match is not None and path.casefold() == lenient and _DEPLOYMENT not in lenient
        return Call(match[1]) if match and plain and method == "POST" else Call.UNSEEN
    if lenient.endswith("/batches"):
        return Call.UNSEEN
    return Call.RESPONSES if lenient.endswith("/responses") else Call.OTHER


def can_hold_tools(call: Call, content_type: str) -> bool:
    """Whether the body has to be looked at. A form holds files."""
    return call is Call.RESPONSES or (call is Call.OTHER and not content_type.lower().startswith("multipart/"))


def makes_images(call: Call, body: bytes, content_type: str, encoded: bool) -> bool:
    """Whether the body has a tool that makes images, or a stored prompt that can have one.

    Raises `InvalidRequest` for what cannot be looked at.
    """
    if encoded:
        raise InvalidRequest("the body must not be compressed")
    marks: tuple[bytes, ...] = _MARKS
    if call is Call.RESPONSES:
        check_json_type(content_type)
        marks = (*_MARKS, _STORED)
    if not any(mark in body for mark in marks):
        return False
    look = _Look()
    try:
        json.loads(body, object_pairs_hook=look)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is no JSON") from None
    return look.tool or (look.stored and call is Call.RESPONSES)


class _Look:
    """Sees every object of a body, and every one of its keys, also those that are there twice."""

    def __init__(self) -> None:
        self.tool = self.stored = False

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.tool = self.tool or ("type", _TOOL) in pairs
        self.stored = self.stored or any(name == "prompt" and isinstance(value, dict) for name, value in pairs)
        return dict(pairs)

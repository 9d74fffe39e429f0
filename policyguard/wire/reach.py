"""Whether a call of OpenAI's API could make images by a tool, and by what of its body.

Bodies that have no such tool are nobody's business here, so they are looked at, not read: whatever else they hold and
however it is written stays as it is.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.wire.generations import check_json_type
from policyguard.wire.responses import TOOL


class Reach(StrEnum):
    """`unseen`: what the request carries on can have such a tool, and nobody can look."""

    NONE = "none"
    TOOL = "tool"
    UNSEEN = "unseen"

    @property
    def message(self) -> str:
        return _MESSAGES[self]


_MESSAGES = {
    Reach.NONE: "nothing in the request makes an image",
    Reach.TOOL: "no surface claims this image route",
    Reach.UNSEEN: "what the request carries on can make images, and cannot be looked at",
}


# A body without any of these has no such tool, whatever its encoding; everything else is parsed.
_MARKS = (b"image_gen", b"\\u", b"\0")
_CARRIED = ("prompt", "previous_response_id", "conversation")
_RESULT = f"{TOOL}_call"  # of a tool that was called before
# Every object costs time and many times its length in memory, so that a body of nothing else would stall a process.
MAX_BRACKETS = 200_000
MAX_COMMAS = 2_000_000


def reach(body: bytes, content_type: str, *, encoded: bool, responses: bool) -> Reach:
    """`responses`: the call is one of the Responses API. Raises `InvalidRequest` for what cannot be looked at."""
    if encoded:
        raise InvalidRequest("the body must not be compressed")
    marks = list(_MARKS)
    if responses:
        check_json_type(content_type)
        marks += [f'"{name}"'.encode() for name in _CARRIED]
    if not any(mark in body for mark in marks):
        return Reach.NONE
    if body.count(b"{") + body.count(b"[") > MAX_BRACKETS or body.count(b",") > MAX_COMMAS:
        raise InvalidRequest("the body has too many parts to be looked at", status=413)
    look = _Look()
    try:
        json.loads(body, object_pairs_hook=look)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is no JSON") from None
    if look.tool:
        return Reach.TOOL
    return Reach.UNSEEN if responses and look.carried else Reach.NONE


class _Look:
    """Sees every object of a body, and every one of its keys, also those that are there twice."""

    def __init__(self) -> None:
        self.tool = self.carried = False

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.tool = self.tool or any(name == "type" and _is_tool(value) for name, value in pairs)
        # called from within outwards: what the last one, the body itself, says counts
        self.carried = any(_carries(name, value) for name, value in pairs)
        return dict(pairs)


def _is_tool(value: Any) -> bool:
    """The tool by its name, or by one that it may have tomorrow."""
    return isinstance(value, str) and value.startswith("image_gen") and value != _RESULT


def _carries(name: str, value: Any) -> bool:
    return name in _CARRIED and value is not None

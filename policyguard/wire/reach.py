"""Whether a call of OpenAI's API could make images by a tool, and by what of its body.

Bodies that have no such tool are nobody's business here, so they are looked at, not read: whatever else they hold and
however it is written stays as it is. A call of the Responses API passes only with what `carried` lists; any other body
passes unless it has the tool.
"""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Any, NamedTuple

from policyguard.errors import InvalidRequest
from policyguard.wire.carried import unseen
from policyguard.wire.generations import check_json_type
from policyguard.wire.responses import TOOL


class Reach(StrEnum):
    """`unseen`: what the request carries on can have such a tool, and nobody can look."""

    NONE = "none"
    TOOL = "tool"
    UNSEEN = "unseen"


class Reached(NamedTuple):
    """`message` says why, for whoever is refused."""

    reach: Reach
    message: str


_NONE = Reached(Reach.NONE, "nothing in the request makes an image")
DRAWS = Reached(Reach.TOOL, "no surface claims this image route")
# A body without any of these has no such tool, whatever its encoding; everything else is parsed.
_MARKS = (b"image_gen", b"\\u", b"\0")
_RESULT = f"{TOOL}_call"  # of a tool that was called before
# Every object costs time and many times its length in memory, so that a body of nothing else would stall a process.
MAX_BRACKETS = 200_000
MAX_COMMAS = 2_000_000


def reach(body: bytes, content_type: str, *, encoded: bool, responses: bool) -> Reached:
    """`responses`: the call is one of the Responses API. Raises `InvalidRequest` for what cannot be looked at."""
    if encoded:
        raise InvalidRequest("the body must not be compressed")
    if responses:
        check_json_type(content_type)
    elif not any(mark in body for mark in _MARKS):
        return _NONE
    if body.count(b"{") + body.count(b"[") > MAX_BRACKETS or body.count(b",") > MAX_COMMAS:
        raise InvalidRequest("the body has too many parts to be looked at", status=413)
    look = _KeySearch()
    try:
        document = json.loads(body, object_pairs_hook=look)
    except (ValueError, RecursionError):
        raise InvalidRequest("the body is no JSON") from None
    if look.tool:
        return DRAWS
    return _of_responses(document, look.twice) if responses else _NONE


def _of_responses(document: Any, twice: bool) -> Reached:
    if twice:  # which one counts is the reader's choice
        raise InvalidRequest("a key is there twice")
    why = unseen(document)
    return _NONE if why is None else Reached(Reach.UNSEEN, f"{why} can make images, and cannot be looked at")


class _KeySearch:
    """Sees every object of a body, and every one of its keys, also those that are there twice."""

    def __init__(self) -> None:
        self.tool = self.twice = False

    def __call__(self, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        self.tool = self.tool or any(name == "type" and _is_tool(value) for name, value in pairs)
        found = dict(pairs)
        self.twice = self.twice or len(found) < len(pairs)
        return found


def _is_tool(value: Any) -> bool:
    """The tool by its name, or by one that it may have tomorrow."""
    return isinstance(value, str) and value.startswith("image_gen") and value != _RESULT

"""What a call of OpenAI's API is: one for images, one that could make images unseen, or other traffic.

Paths are compared as the most lenient reader takes them. A spelling that only some readers take for an image route is
none that can be decided, so it counts as unseen. Bodies of other calls are looked at for a tool that makes images only.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Any

from policyguard.adapters.routes import OVERRIDES, READS, normal
from policyguard.wire.forms import shape_of


class Call(StrEnum):
    GENERATIONS = "generations"
    EDITS = "edits"
    UNSEEN = "unseen"  # may make images in a way that nothing here can decide
    RESPONSES = "responses"  # makes images where it has the tool for it
    OTHER = "other"
    READ = "read"  # makes nothing


_IMAGES = re.compile(r"/images(?:/|$)")
_DEPLOYMENT = "/deployments/"  # the path names the model: nothing in the body could be decided


def call_of(method: str, path: str, headers: Any) -> Call:
    """`path` as it goes over the wire, without its query; `headers` can be asked for a name in lower case."""
    lenient = normal(path)
    if method.upper() in READS and not any(name in headers for name in OVERRIDES):
        return Call.READ
    if _IMAGES.search(lenient):
        shape = shape_of(path)
        return Call(shape) if shape is not None and is_plain(method, path) else Call.UNSEEN
    if lenient.endswith("/batches"):
        return Call.UNSEEN
    return Call.RESPONSES if lenient.endswith("/responses") else Call.OTHER


def is_plain(method: str, path: str) -> bool:
    """Whether every reader takes the path alike, and the model from the body."""
    lenient = normal(path)
    return (
        method.upper() == "POST"
        and path.casefold() == lenient
        and _DEPLOYMENT not in lenient
        and shape_of(path) is not None
    )


def can_hold_tools(call: Call, content_type: str) -> bool:
    """Whether the body has to be looked at. A form holds files."""
    return call is Call.RESPONSES or (call is Call.OTHER and not content_type.lower().startswith("multipart/"))

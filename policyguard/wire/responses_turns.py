"""What earlier turns of a conversation left in `input`: pictures that the API drew, and what a model thought.

The API finds both by their ids, whatever else the items say, so that what goes on could be another picture than the one
that was looked at. Therefore neither goes on: a picture becomes an `input_image` that the client shows, and thoughts
are left out, sealed or not, which a client may do at any time. The items beside them lose their ids, because the API
asks for the thoughts that belong to an id.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.wire.data_urls import DataUrl
from policyguard.wire.image_header import media_type
from policyguard.wire.splice import GONE, Inside

DRAWN, THOUGHT = "image_generation_call", "reasoning"
# What a client does instead of pointing at what only OpenAI has.
SEND_ALL = "send the whole conversation in `input`, and each picture as an `input_image` with a data URL"


def turns(value: Any) -> dict[int, Any]:
    """The changes of an `input` by index: a `DataUrl` takes the place of a drawn item. Raises `InvalidRequest`."""
    items = value if isinstance(value, list) else []
    kinds = [item.get("type") if isinstance(item, Mapping) else None for item in items]
    if DRAWN not in kinds and THOUGHT not in kinds:
        return {}
    found = {index: _change(item, kind) for index, (item, kind) in enumerate(zip(items, kinds, strict=True))}
    return {index: change for index, change in found.items() if change is not None}


def _change(item: Any, kind: Any) -> Any:
    if kind == THOUGHT:
        return GONE
    if kind == DRAWN:
        if not isinstance(item.get("result"), DataUrl):
            missing = f"an `{DRAWN}` without its picture in `result` cannot be looked at"
            raise InvalidRequest(f"{missing}; {SEND_ALL}", param="input")
        return item["result"]
    return Inside(id=GONE) if isinstance(item, Mapping) and "id" in item else None


def changed(value: Any, changes: Mapping[int, Any]) -> Any:
    """`input` as it goes on, pictures as `DataUrl`."""
    if not changes:
        return value
    return [_changed(item, changes.get(index)) for index, item in enumerate(value) if changes.get(index) is not GONE]


def _changed(item: Any, change: Any) -> Any:
    if isinstance(change, DataUrl):
        return _shown(change)
    return item if change is None else {name: member for name, member in item.items() if name != "id"}


def written(changes: Mapping[int, Any]) -> Inside:
    """The changes as they are written into the body."""
    return Inside({i: _shown(_url(c)) if isinstance(c, DataUrl) else c for i, c in changes.items()})


def _shown(picture: DataUrl | str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": picture}]}


def _url(picture: DataUrl) -> str:
    return f"data:{media_type(picture.data)};base64,{base64.b64encode(picture.data).decode()}"

"""The events of an image stream, as OpenAI sends them, and how one can go wrong in the middle.

It follows the API as it was seen, oddities included; what we would like is not a reason.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from typing import Any

import anyio

from policyguard.sandbox.faults import seconds
from policyguard.sandbox.wire import blocked

_SHARED = ("background", "output_format", "quality", "size")


async def events(kind: str, body: Mapping[str, Any], partial_images: int, fault: str | None) -> AsyncIterator[bytes]:
    """For each image its partial ones and a completed event with its own share of the usage.

    A slow stream waits before its last event. With `error_event` there is an error in its place, with `unfinished`
    nothing.
    """
    data, usage = body["data"], body.get("usage")
    for number, image in enumerate(data):
        shared = {name: body[name] for name in _SHARED} | {"created_at": body["created"], **image}
        for index in range(partial_images):
            yield _event(f"{kind}.partial_image", {"partial_image_index": index, **shared})
        if number == len(data) - 1:
            await anyio.sleep(seconds(fault))
            if fault == "error_event":
                yield _event("error", {"error": blocked(["violence"], stage="output").error})
            if fault in ("error_event", "unfinished"):
                return
        last = {name: body[name] for name in ("safety_identifier",) if name in body}
        if usage is not None:
            last["usage"] = _share(usage, number, len(data))
        yield _event(f"{kind}.completed", {**shared, **last})


def _share(usage: Mapping[str, Any], number: int, images: int) -> dict[str, Any]:
    """The input counts once, with the first. Details of the output are only in answers that are no stream."""
    output, rest = divmod(usage["output_tokens"], images)
    output += rest if number == 0 else 0
    details = usage["input_tokens_details"] if number == 0 else {"text_tokens": 0, "image_tokens": 0}
    given = sum(details.values())
    return {
        "input_tokens": given,
        "input_tokens_details": details,
        "output_tokens": output,
        "total_tokens": given + output,
    }


def _event(name: str, data: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, **data})}\n\n".encode()

"""What an answer of the Responses API says: the images of its calls, and two usages, of the tool and the main model.

What cannot be read leaves the outcome unknown, and an unknown outcome is charged at its ceiling.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from policyguard.request import Usage
from policyguard.wire.usage import count_in, usage_from

_CALL = "image_generation_call"


def tool_said(
    document: Mapping[str, Any],
) -> tuple[Mapping[str, Any], Usage | None, Mapping[str, Any] | None, Iterable[Any]]:
    """The last call (for size and quality), the whole usage, an error of the response or of a call, and the images."""
    output = document.get("output")
    items = output if isinstance(output, list) else []
    calls = [item for item in items if isinstance(item, Mapping) and item.get("type") == _CALL]
    errors = (item.get("error") for item in (document, *calls))
    error = next((found for found in errors if isinstance(found, Mapping)), None)
    images = [call["result"] for call in calls if call.get("result") is not None]
    return calls[-1] if calls else {}, _usage(document, bool(calls)), error, images


def _usage(document: Mapping[str, Any], called: bool) -> Usage | None:
    """None where one of the two is missing. Where the tool was not called, it has no usage of its own."""
    main, tools = document.get("usage"), document.get("tool_usage")
    drawn = usage_from(tools.get("image_gen")) if isinstance(tools, Mapping) else None
    if not isinstance(main, Mapping) or (called and drawn is None):
        return None
    read, written = count_in(main.get("input_tokens")), count_in(main.get("output_tokens"))
    if read is None or not written:
        return None
    return replace(drawn or Usage(), main_input_tokens=read, main_output_tokens=written)

"""`/v1/responses`: a main model that always calls its image tool, as often as it may, and says a sentence.

The most costly upstream that keeps to what it was told: without `max_tool_calls` it makes several images. Without the
tool it only says its sentence. Parameters of the tool are checked as those of the images API.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import anyio

from policyguard.request import AUTO, Size
from policyguard.sandbox.edit_body import reference_size
from policyguard.sandbox.faults import seconds
from policyguard.sandbox.scores import output_script
from policyguard.sandbox.wire import ApiError, bad, blocked, check_images

UNBOUNDED = 3  # images where nothing says how many
_NOT_OF_IMAGES = frozenset({"type", "action", "input_image_mask"})
_SAYS = "Here it is."
# What an answer says again of its request, and what it says where the request does not.
_SAID_AGAIN: Mapping[str, Any] = {
    "background": False,
    "instructions": None,
    "max_output_tokens": None,
    "max_tool_calls": None,
    "metadata": {},
    "model": None,
    "parallel_tool_calls": True,
    "previous_response_id": None,
    "prompt_cache_key": None,
    "reasoning": {"effort": None, "summary": None},
    "safety_identifier": None,
    "temperature": 1.0,
    "text": {"format": {"type": "text"}},
    "tool_choice": AUTO,
    "tools": [],
    "top_logprobs": 0,
    "top_p": 1.0,
    "truncation": "disabled",
    "user": None,
}
_SHARED = ("background", "output_format", "quality", "size")


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """What was asked: `calls` images with `values`, which are those of the images API. No calls: no tool."""

    document: Mapping[str, Any] = field(repr=False)
    values: dict[str, Any]
    sizes: tuple[Size | None, ...]
    calls: int


def read_asked(document: dict[str, Any]) -> ToolCalls:
    """Raises `ApiError` for what the API refuses."""
    if not isinstance(document.get("model"), str):
        raise bad("Missing required parameter: 'model'.", "model", "missing_required_parameter")
    if not document.get("input"):
        raise bad("Missing required parameter: 'input'.", "input", "missing_required_parameter")
    tools = document.get("tools") or []
    found = [tool for tool in tools if isinstance(tool, dict) and tool.get("type") == "image_generation"]
    calls = document.get("max_tool_calls") or UNBOUNDED
    if not found or document.get("tool_choice") == "none":
        return ToolCalls(document, {}, (), 0)
    if type(calls) is not int or calls < 1:
        raise bad("'max_tool_calls' must be a whole number above 0.", "max_tool_calls")
    values = {name: value for name, value in found[0].items() if name not in _NOT_OF_IMAGES and value is not None}
    seed = json.dumps([document.get("instructions"), document["input"]])
    values |= {
        "prompt": hashlib.sha256(seed.encode()).hexdigest() + output_script(seed),
        "stream": bool(document.get("stream")),
    }
    check_images(values)
    return ToolCalls(document, values, tuple(_sizes(document["input"])), calls)


def _sizes(value: Any) -> Iterator[Size | None]:
    """Of every picture in the input, wherever it is."""
    if isinstance(value, list):
        for item in value:
            yield from _sizes(item)
    elif isinstance(value, dict):
        if value.get("type") == "input_image":
            yield reference_size({name: value[name] for name in ("image_url", "file_id") if name in value})
        elif value.get("type") == "image_generation_call":
            yield reference_size({"image_url": f"data:image/png;base64,{value.get('result')}"})
        else:
            yield from _sizes(list(value.values()))


def response_body(asked: ToolCalls, images: Mapping[str, Any] | None, created: int) -> dict[str, Any]:
    """The whole answer. `images` is that of the images API for all calls together; None: they were blocked."""
    document, calls = asked.document, asked.calls
    number = hashlib.sha256(json.dumps(document, sort_keys=True).encode()).hexdigest()[:24]
    output = [*_thought(document, number), *(_call(f"ig_{number}{index}", images, index) for index in range(calls))]
    text = {"type": "output_text", "text": _SAYS, "annotations": [], "logprobs": []}
    says = {"id": f"msg_{number}", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    return {
        **{name: default if (given := document.get(name)) is None else given for name, default in _SAID_AGAIN.items()},
        "id": f"resp_{number}",
        "object": "response",
        "created_at": created,
        "status": "completed",
        "completed_at": created,
        "error": None,
        "incomplete_details": None,
        "service_tier": "default",
        "output": [*output, says],
        "usage": _main_usage(asked),
        "tool_usage": {"image_gen": _drawn(images, calls), "web_search": {"num_requests": 0}},
    }


def _thought(document: Mapping[str, Any], number: str) -> list[dict[str, Any]]:
    """Before it draws, where it is told how to reason: without a summary, as long as nobody asks for one."""
    if not document.get("reasoning"):
        return []
    wanted = "reasoning.encrypted_content" in (document.get("include") or [])
    sealed = {"encrypted_content": f"gAAAA{number}"} if wanted else {}
    return [{"id": f"rs_{number}", "type": "reasoning", "summary": [], **sealed}]


def _call(id_: str, images: Mapping[str, Any] | None, index: int) -> dict[str, Any]:
    call: dict[str, Any] = {"id": id_, "type": "image_generation_call"}
    if images is None:
        return {**call, "status": "failed", "result": None, "error": blocked(["violence"]).error}
    shared = {name: images[name] for name in _SHARED}
    made = {"result": images["data"][index]["b64_json"], "revised_prompt": "A picture.", "action": "generate"}
    return {**call, "status": "completed", **made, **shared}


def _drawn(images: Mapping[str, Any] | None, calls: int) -> dict[str, Any]:
    """Every call reads the input anew."""
    none = {"text_tokens": 0, "image_tokens": 0}
    if not calls or images is None:
        return {"input_tokens": 0, "input_tokens_details": none, "output_tokens": 0, "total_tokens": 0}
    usage = images["usage"]
    details = {name: count * calls for name, count in usage["input_tokens_details"].items()}
    given = sum(details.values())
    return {
        "input_tokens": given,
        "input_tokens_details": details,
        "output_tokens": usage["output_tokens"],
        "output_tokens_details": usage["output_tokens_details"],
        "total_tokens": given + usage["output_tokens"],
    }


def _main_usage(asked: ToolCalls) -> dict[str, Any]:
    """It reads everything before each call and once more at the end, and the tool's description with it."""
    once = 400 + len(json.dumps(_texts(asked.document), ensure_ascii=False).encode()) // 4 + 765 * len(asked.sizes)
    read = once * (asked.calls + 1)
    written = min(asked.document.get("max_output_tokens") or 1_000, 12 + 60 * asked.calls)
    return {
        "input_tokens": read,
        "input_tokens_details": {"cached_tokens": 0, "cache_write_tokens": 0},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": read + written,
    }


def _texts(value: Any) -> Any:
    """Without pictures: those are counted by themselves."""
    if isinstance(value, Mapping):
        return {name: _texts(item) for name, item in value.items() if name not in ("image_url", "result")}
    return [_texts(item) for item in value] if isinstance(value, list) else value


async def response_events(body: Mapping[str, Any], partial_images: int, fault: str | None) -> AsyncIterator[bytes]:
    """The same answer as a stream. With `error_event` there is an error in place of its last event, with `unfinished`
    nothing."""
    begun = {**body, "status": "in_progress", "completed_at": None, "output": [], "usage": None}
    begun.pop("tool_usage", None)
    number = -1
    for number, (name, data) in enumerate(_events(body, begun, partial_images)):
        yield _event(name, number, data)
    await anyio.sleep(seconds(fault))
    if fault == "error_event":
        error = blocked(["violence"], stage="output").error
        yield _event("error", number + 1, {name: error[name] for name in ("message", "code", "param")})
    elif fault != "unfinished":
        yield _event("response.completed", number + 1, {"response": body})


def _events(body: Mapping[str, Any], begun: Mapping[str, Any], partial: int) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "response.created", {"response": begun}
    yield "response.in_progress", {"response": begun}
    for index, item in enumerate(body["output"]):
        place = {"output_index": index}
        yield "response.output_item.added", {**place, "item": {**item, "status": "in_progress", **_unmade(item)}}
        if item["type"] == "image_generation_call":
            yield from _drawing(item, place, partial)
        elif item["type"] == "message":
            yield from _saying(item, place)
        yield "response.output_item.done", {**place, "item": item}


def _saying(item: Mapping[str, Any], place: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    of, (part,) = {**place, "item_id": item["id"], "content_index": 0}, item["content"]
    yield "response.content_part.added", {**of, "part": {**part, "text": ""}}
    yield "response.output_text.delta", {**of, "delta": part["text"], "logprobs": []}
    yield "response.output_text.done", {**of, "text": part["text"], "logprobs": []}
    yield "response.content_part.done", {**of, "part": part}


def _unmade(item: Mapping[str, Any]) -> dict[str, Any]:
    unmade: Mapping[str, dict[str, Any]] = {"message": {"content": []}, "image_generation_call": {"result": None}}
    return unmade.get(item["type"], {})


def _drawing(item: Mapping[str, Any], place: Mapping[str, Any], partial: int) -> Iterator[tuple[str, dict[str, Any]]]:
    kind, of = "response.image_generation_call", {**place, "item_id": item["id"]}
    yield f"{kind}.in_progress", of
    yield f"{kind}.generating", of
    for index in range(partial if item["result"] else 0):
        shown = {"partial_image_index": index, "partial_image_b64": item["result"]}
        yield f"{kind}.partial_image", {**of, **shown, **{name: item[name] for name in _SHARED}}
    yield f"{kind}.completed", of


def _event(name: str, number: int, data: Mapping[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps({'type': name, 'sequence_number': number, **data})}\n\n".encode()


def batch_body(document: Mapping[str, Any], created: int) -> dict[str, Any]:
    """A batch that was taken. What its file holds is not looked at: for images it counts as some that were made."""
    endpoint = document.get("endpoint")
    if not isinstance(endpoint, str) or not isinstance(document.get("input_file_id"), str):
        raise ApiError(400, "'endpoint' and 'input_file_id' are needed.", param="endpoint")
    return {
        "id": "batch_1",
        "object": "batch",
        "endpoint": endpoint,
        "input_file_id": document["input_file_id"],
        "completion_window": document.get("completion_window", "24h"),
        "status": "validating",
        "created_at": created,
    }

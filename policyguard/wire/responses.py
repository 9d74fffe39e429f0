"""`POST /v1/responses` with the tool `image_generation`: a main model reads texts and pictures, and asks for images.

The tool's parameters are those of the images API; how often it may be called is how many images there can be. The main
model may say anything to the tool that it has read somewhere, so everything that it reads is the prompt, and what leads
to something that is not in the request is refused.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import (
    AUTO,
    MAX_IMAGES,
    MAX_INPUT_IMAGES,
    MAX_PROMPT_CHARS,
    ImageRequest,
    InputImage,
    MainModel,
    Operation,
    is_name,
)
from policyguard.wire.data_urls import MAX_TEXT_BYTES, DataUrl, Lifted, read_lifted
from policyguard.wire.generations import nulls, same
from policyguard.wire.image_header import input_image
from policyguard.wire.remote import image_of
from policyguard.wire.responses_text import TurnReading, picture
from policyguard.wire.responses_turns import SEND_ALL, changed, turns, written
from policyguard.wire.splice import GONE, Inside

TOOL = "image_generation"
_BESIDE = frozenset({"function", "custom"})  # tools that the client itself runs; all others are OpenAI's, or call out
_PLAIN_CHOICES = frozenset({"auto", "none", "required"})
# What carries on something that only OpenAI has, or goes on when nobody listens any more.
_UNSEEN = ("previous_response_id", "conversation", "prompt", "background_options", "context_management")
_READ = ("instructions", "input", "tools", "text")  # by the main model
_PASSED = frozenset(
    {"include", "metadata", "moderation", "parallel_tool_calls", "prompt_cache_key", "prompt_cache_retention"}
    | {"store", "stream_options", "temperature", "top_logprobs", "top_p", "truncation"}
)
_CHECKED = frozenset(
    {"background", "max_output_tokens", "max_tool_calls", "model", "reasoning", "safety_identifier", "service_tier"}
    | {"stream", "tool_choice", "user"}
)
NAMES = _CHECKED | {*_READ, *_UNSEEN}  # what decides something
_TIERS = (None, AUTO, "default", "flex")  # others are dearer than their row in prices.yaml
_DRAWN = ("model", "size", "quality", "background", "output_format", "output_compression", "moderation")
_TOOL_KNOWN = frozenset({*_DRAWN, "type", "action", "input_fidelity", "input_image_mask", "partial_images"})
_FORCED = ("max_tool_calls", "max_output_tokens", "safety_identifier")
_TOOL_FORCED = ("model", "size", "quality", "moderation", "partial_images")


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A parsed body: the request, where the tool stands in `tools`, what of `input` goes on otherwise than it came, and
    the text that goes on with what was decided."""

    request: ImageRequest
    document: Mapping[str, Any] = field(repr=False)
    lifted: Lifted
    at: int
    turns: Mapping[int, Any] = field(repr=False)

    def write(self, request: ImageRequest, safety_identifier: str | None) -> tuple[bytes, str]:
        """Body and content type for the upstream: every byte as it came, but for what is forced."""
        drawn = {name: getattr(request, name) for name in ("model", "size", "quality", "partial_images")}
        drawn["moderation"] = AUTO
        top = {"max_tool_calls": request.n, "max_output_tokens": request.max_output_tokens}
        changes = _changed(self.document, {**top, "safety_identifier": safety_identifier})
        if safety_identifier is None and "safety_identifier" in self.document:
            changes["safety_identifier"] = GONE
        if tool := _changed(self.document["tools"][self.at], drawn):
            changes["tools"] = Inside({self.at: tool})
        if self.turns:
            changes["input"] = written(self.turns)
        return self.lifted.write(changes)


def _changed(document: Mapping[str, Any], forced: Mapping[str, Any]) -> Inside:
    changes = {name: v for name, v in forced.items() if v is not None and not same(document.get(name), v)}
    return Inside(nulls(document) | changes)


def read_tool_call(body: bytes, content_type: str, max_text_bytes: int = MAX_TEXT_BYTES) -> ToolCall:
    """Raises `InvalidRequest`."""
    lifted, document = read_lifted(body, content_type, max_text_bytes, results=True)
    _check_seen(document)
    left = turns(document.get("input"))
    document["input"] = changed(document.get("input"), left)
    at = _tool_of(document.get("tools"))
    _check_choice(document.get("tool_choice"))
    tool = document["tools"][at]
    mask = _mask(tool.get("input_image_mask"))
    reading = _reading(document, at)
    if sum(isinstance(url, DataUrl) for url in reading.pictures) + (mask is not None) != len(lifted.urls):
        raise InvalidRequest("an image that is no `input_image`", param="input")
    return ToolCall(_request(document, tool, reading, mask), document, lifted, at, left)


# ---- what cannot be seen ----------------------------------------------------------------------------------


def _check_seen(document: Mapping[str, Any]) -> None:
    for name in _UNSEEN:
        if document.get(name) is not None:
            raise InvalidRequest(f"what `{name}` stands for cannot be looked at; {SEND_ALL}", param=name)
    if document.get("background") not in (None, False):
        raise InvalidRequest("`background` is not possible: nobody would see what was made", param="background")
    if document.get("service_tier") not in _TIERS:
        raise InvalidRequest("this `service_tier` has another price", param="service_tier")
    reasoning = document.get("reasoning") or {}
    plain = isinstance(reasoning, Mapping) and all(v is None or _is_word(v) for v in reasoning.values())
    if not plain:
        raise InvalidRequest("`reasoning` must be an object of plain words", param="reasoning")


def _is_word(value: Any) -> bool:
    return isinstance(value, str) and is_name(value)


def _tool_of(tools: Any) -> int:
    """Where the one tool stands. What other tools of OpenAI's bring in or cost cannot be seen."""
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise InvalidRequest("`tools` must be a list of objects", param="tools")
    kinds = [tool.get("type") for tool in tools]
    if any(kind != TOOL and (not isinstance(kind, str) or kind not in _BESIDE) for kind in kinds):
        raise InvalidRequest(f"beside `{TOOL}` only tools of type `function` or `custom` are possible", param="tools")
    if kinds.count(TOOL) != 1:
        raise InvalidRequest(f"`tools` must have exactly one `{TOOL}`", param="tools")
    return kinds.index(TOOL)


def _check_choice(choice: Any) -> None:
    """A choice names tools of `tools`: it brings none of its own."""
    if choice is None or (isinstance(choice, str) and choice in _PLAIN_CHOICES):
        return
    listed = isinstance(choice, Mapping) and choice.get("type") == "allowed_tools"
    chosen = choice.get("tools") if listed else [choice]
    if not isinstance(chosen, list) or not all(_is_choice(one) for one in chosen):
        raise InvalidRequest("`tool_choice` must name tools of `tools`", param="tool_choice")


def _is_choice(one: Any) -> bool:
    return (
        isinstance(one, Mapping)
        and one.keys() <= {"type", "name"}
        and all(_is_word(value) for value in one.values())
        and one.get("type") in (TOOL, *_BESIDE)
    )


# ---- what is asked ----------------------------------------------------------------------------------------


def _reading(document: Mapping[str, Any], at: int) -> TurnReading:
    reading = TurnReading()
    reading.anything(document.get("instructions"))
    reading.input(document.get("input"))
    reading.anything([tool for index, tool in enumerate(document["tools"]) if index != at])
    reading.anything(document.get("text"))
    return reading


def _mask(reference: Any) -> InputImage | None:
    if reference is None:
        return None
    if not isinstance(reference, Mapping) or len(reference) != 1:
        raise InvalidRequest("a mask has exactly one key, `image_url`", param="input_image_mask")
    url = picture(reference.get("image_url"), reference, "input_image_mask")
    if not isinstance(url, DataUrl):
        raise InvalidRequest("a mask must be a data URL, so that it can be looked at", param="input_image_mask")
    return input_image(url.data, param="input_image_mask")


def _request(
    document: Mapping[str, Any], tool: Mapping[str, Any], reading: TurnReading, mask: InputImage | None
) -> ImageRequest:
    if len(reading.pictures) > MAX_INPUT_IMAGES:
        raise InvalidRequest(f"at most {MAX_INPUT_IMAGES} input images are possible", param="input")
    images = tuple(image_of(url, "image_url") for url in reading.pictures)
    drawn = (*_DRAWN, "input_fidelity", "partial_images")
    asked: dict[str, Any] = {name: value for name in drawn if (value := tool.get(name)) is not None}
    for name in ("stream", "user", "safety_identifier", "max_output_tokens"):
        asked[name] = document.get(name)
    return ImageRequest(
        **asked,
        prompt=_prompt(reading),
        n=_count(document.get("max_tool_calls")),
        operation=_operation(tool.get("action"), images),
        images=images,
        mask=mask,
        main=_main(document, tool),
        extra=_extra(document, tool),
    )


def _prompt(reading: TurnReading) -> str:
    text = "\n".join(text for text in reading.texts if text)
    if not text.strip():
        raise InvalidRequest("`input` holds no text", param="input")
    if len(text) > MAX_PROMPT_CHARS:
        raise InvalidRequest(f"there are more than {MAX_PROMPT_CHARS:,} characters of text to look at", param="input")
    return text


def _count(calls: Any) -> int | None:
    if calls is not None and (type(calls) is not int or not 1 <= calls <= MAX_IMAGES):
        raise InvalidRequest(f"`max_tool_calls` must be a whole number from 1 to {MAX_IMAGES}", param="max_tool_calls")
    return calls


def _operation(action: Any, images: tuple[InputImage, ...]) -> Operation:
    if action not in (None, AUTO, "generate", "edit"):
        raise InvalidRequest("`action` must be generate, edit or auto", param="action")
    return "edit" if action == "edit" or (images and action != "generate") else "generate"


def _main(document: Mapping[str, Any], tool: Mapping[str, Any]) -> MainModel:
    name = document.get("model")
    if not _is_word(name):
        raise InvalidRequest("`model` must name the main model", param="model")
    given = {
        **{key: value for key, value in document.items() if key not in _FORCED},
        "tools": [_unforced(one) if one is tool else one for one in document["tools"]],
    }
    text = json.dumps(given, ensure_ascii=False, sort_keys=True, default=lambda picture: None).encode()
    return MainModel(str(name), len(text), f"sha256:{hashlib.sha256(text).hexdigest()}")


def _unforced(tool: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in tool.items() if name not in _TOOL_FORCED}


def _extra(document: Mapping[str, Any], tool: Mapping[str, Any]) -> dict[str, Any]:
    known = _CHECKED | _PASSED | {*_READ, *_UNSEEN}
    found = {name: value for name, value in document.items() if name not in known and value is not None}
    of_tool = {name: value for name, value in tool.items() if name not in _TOOL_KNOWN and value is not None}
    if found.keys() & of_tool.keys():
        raise InvalidRequest("a parameter that is not known is there twice")
    return {**found, **of_tool}

"""What a main model reads in a Responses request: every text and picture of it, or the reason why it cannot be seen.

Nothing is left out because of where it stands: a name that OpenAI's form does not have is text as well, and so is every
value but the few that only say what a thing is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.wire.data_urls import DataUrl
from policyguard.wire.responses_turns import SEND_ALL

# Items of `input`, and the parts that their content or output may have. All others refer to what only OpenAI has, or
# are read from places that cannot be seen from here.
_ITEMS = frozenset({"message", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"})
_PARTS = frozenset({"input_text", "output_text", "refusal", "input_image"})
# Names that lead to what is not in the request.
_UNSEEN = frozenset(
    {"file_id", "file_ids", "file_url", "file_data", "encrypted_content", "input_audio", "audio", "vector_store_ids"}
)
# Names of the form, and values of it that are no text.
_NAMES = frozenset(
    {"type", "role", "content", "text", "refusal", "status", "id", "call_id", "name", "arguments", "output", "input"}
    | {"detail", "image_url", "annotations", "logprobs", "phase", "caller", "namespace", "caller_id", "description"}
    | {"parameters", "properties", "required", "items", "additionalProperties", "enum", "strict", "format", "syntax"}
    | {"definition", "schema", "anyOf", "verbosity", "defer_loading", "allowed_callers"}
)
_WORDS: Mapping[str, frozenset[str]] = {
    "type": _ITEMS
    | _PARTS
    | {"function", "custom", "image_generation", "object", "string", "json_schema"}
    | {"number", "integer", "boolean", "array", "null", "text", "grammar", "direct", "json_object"},
    "role": frozenset({"user", "assistant", "system", "developer"}),
    "status": frozenset({"in_progress", "completed", "incomplete"}),
    "detail": frozenset({"low", "high", "auto", "original"}),
    "phase": frozenset({"commentary", "final_answer"}),
    "verbosity": frozenset({"low", "medium", "high"}),
    "syntax": frozenset({"lark", "regex"}),
}


@dataclass(slots=True)
class TurnReading:
    """Texts and pictures in the order in which they stand."""

    texts: list[str] = field(default_factory=list)
    pictures: list[DataUrl | str] = field(default_factory=list)

    def input(self, value: Any) -> None:
        """The `input` of a request. Raises `InvalidRequest` for what cannot be seen."""
        if isinstance(value, str):
            self.texts.append(value)
            return
        if not isinstance(value, list):
            raise InvalidRequest("`input` must be a text or a list", param="input")
        for item in value:
            self._item(item)

    def _item(self, item: Any) -> None:
        if not isinstance(item, Mapping):
            raise InvalidRequest("`input` holds something that is no item", param="input")
        kind = item.get("type") or "message"
        if not _is_one(kind, _ITEMS):
            what = "an `item_reference`" if kind == "item_reference" else "an item"
            raise InvalidRequest(f"`input` holds {what} that cannot be looked at; {SEND_ALL}", param="input")
        for name in _CONTENT:
            if isinstance(item.get(name), list):
                for part in item[name]:
                    self._part(part)
        self.anything({name: v for name, v in item.items() if not isinstance(v, list) or name not in _CONTENT})

    def _part(self, part: Any) -> None:
        if not isinstance(part, Mapping) or not _is_one(part.get("type"), _PARTS):
            raise InvalidRequest("`input` holds content that cannot be looked at; send text and images", param="input")
        if part["type"] == "input_image":
            self.pictures.append(picture(part.get("image_url"), part))
            part = {name: value for name, value in part.items() if name != "image_url"}
        self.anything(part)

    def anything(self, value: Any) -> None:
        """Every text within `value`. Raises `InvalidRequest` for what leads to something that is not there."""
        if isinstance(value, str):
            self.texts.append(value)
        elif isinstance(value, DataUrl):
            raise InvalidRequest("an image that is no `input_image`", param="input")
        elif isinstance(value, list):
            for item in value:
                self.anything(item)
        elif isinstance(value, Mapping):
            self._members(value)

    def _members(self, value: Mapping[str, Any]) -> None:
        for name, member in value.items():
            if name in _UNSEEN and member is not None:
                raise InvalidRequest(f"what `{name}` stands for cannot be looked at", param=name)
            if name not in _NAMES:
                self.texts.append(name)
            if not _is_one(member, _WORDS.get(name, _NO_WORDS)):
                self.anything(member)


def _is_one(value: Any, words: frozenset[str]) -> bool:
    return isinstance(value, str) and value in words


_CONTENT = ("content", "output")
_NO_WORDS: frozenset[str] = frozenset()


def picture(url: Any, reference: Mapping[str, Any], param: str = "image_url") -> DataUrl | str:
    """The picture of a reference to an image, or its address; every other one leads to what cannot be seen."""
    if reference.get("file_id") is not None:
        raise InvalidRequest("an image by `file_id` cannot be looked at; send it as a data URL", param=param)
    if not isinstance(url, DataUrl | str):
        raise InvalidRequest("`image_url` must be a data URL of a png, jpeg or webp in base64", param=param)
    return url

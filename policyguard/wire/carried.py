"""What a request of the Responses API without the image tool may carry: listed, because the next thing that can bring
the tool is not known yet.

A tool that makes images can be stored at OpenAI or elsewhere and be meant by an id or an address: in a stored prompt or
conversation, an item by reference, a server of tools. What is listed here holds no tools, or has them written out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from policyguard.request import is_name

# Parameters that bring nothing but themselves, by OpenAI's schema.
_PARAMETERS = frozenset(
    {"access_programs", "background", "background_options", "context_management", "image", "include"}
    | {"max_output_tokens", "max_tool_calls", "metadata", "model", "moderation", "parallel_tool_calls"}
    | {"prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "reasoning", "safety_identifier"}
    | {"service_tier", "store", "stream", "stream_options", "temperature", "text", "tool_choice", "top_logprobs"}
    | {"top_p", "truncation", "user"}
)
# Tools that make no images, of which each is what the request says. One by an address (`mcp`) is what is there.
_TOOLS = frozenset(
    {"function", "custom", "namespace", "tool_search", "programmatic_tool_calling", "file_search", "web_search"}
    | {"web_search_2025_08_26", "web_search_preview", "web_search_preview_2025_03_11", "code_interpreter", "computer"}
    | {"computer_use_preview", "shell", "local_shell", "apply_patch"}
)
_ITEMS = frozenset(
    {"message", "reasoning", "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output"}
    | {"file_search_call", "web_search_call", "code_interpreter_call", "computer_call", "computer_call_output"}
    | {"local_shell_call", "local_shell_call_output", "shell_call", "shell_call_output", "apply_patch_call"}
    | {"apply_patch_call_output", "program", "program_output", "configuration_update", "image_generation_call"}
    | {"tool_search_call", "tool_search_output", "additional_tools"}
)
# Of what can be referred to: messages, reasoning, calls and their outputs. An id says by its beginning what it is.
_REFERRED = ("msg_", "rs_", "fc_", "fco_", "ctc_", "ctco_", "ws_", "fs_", "ci_", "ig_")


def unseen(document: Any) -> str | None:
    """The first thing in a request whose tools cannot be seen, in words; None where there is none."""
    if not isinstance(document, Mapping):
        return "a body that is no object"
    return (
        _parameter(document)
        or _text("instructions", document.get("instructions"))
        or _tools(document.get("tools"))
        or _input(document.get("input"))
    )


def _parameter(document: Mapping[str, Any]) -> str | None:
    known = _PARAMETERS | {"input", "instructions", "tools"}
    names = (name for name, value in document.items() if value is not None and name not in known)
    return next((f"what {_word(name)} stands for" for name in names), None)


def _text(name: str, value: Any) -> str | None:
    return None if value is None or isinstance(value, str) else f"`{name}` that is no text"


def _tools(tools: Any) -> str | None:
    if tools is None:
        return None
    if not isinstance(tools, list):
        return "`tools` that is no list"
    return _first(map(_tool, tools))


def _tool(tool: Any) -> str | None:
    kind = tool.get("type") if isinstance(tool, Mapping) else None
    if not isinstance(kind, str) or kind not in _TOOLS:
        return f"a tool of type {_word(kind)}"
    return _tools(tool.get("tools"))  # of a namespace


def _input(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return None
    return _first(map(_item, value)) if isinstance(value, list) else "`input` that is neither text nor list"


def _item(item: Any) -> str | None:
    if not isinstance(item, Mapping):
        return "an item that is no object"
    kind = item.get("type") or ("message" if "role" in item else "item_reference")
    if kind == "item_reference":
        named = item.get("id")
        plain = isinstance(named, str) and named.startswith(_REFERRED)
        return None if plain else "an item by reference"
    if not isinstance(kind, str) or kind not in _ITEMS:
        return f"an item of type {_word(kind)}"
    return _tools(item.get("tools"))


def _first(found: Iterable[str | None]) -> str | None:
    return next(filter(None, found), None)


def _word(value: Any) -> str:
    """A name as it came, where it can be one: nothing of a prompt."""
    return f"`{value}`" if isinstance(value, str) and is_name(value) else "that is not known"

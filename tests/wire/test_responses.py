"""The body of `/v1/responses` with the image tool: everything the main model reads is seen, and only what is forced
changes."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any, get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tool_bodies import asked, data_url

from policyguard.errors import InvalidRequest
from policyguard.request import ImageRequest
from policyguard.wire.forms import Parsed, read, shape_of
from policyguard.wire.reach import Reach, reach


def parse(body: Any) -> Parsed:
    return read("responses", body if isinstance(body, bytes) else json.dumps(body).encode(), "application/json")


def request(body: Any) -> ImageRequest:
    return parse(body).request


def message(*content: Any, role: str = "user") -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def text(words: str) -> dict[str, Any]:
    return {"type": "input_text", "text": words}


BARE = data_url().partition(",")[2]


def drawn(**changes: Any) -> dict[str, Any]:
    """What the API drew in an earlier turn, as SDKs send it back."""
    made = {"id": "ig_1", "type": "image_generation_call", "status": "completed", "result": BARE}
    said = {"action": "generate", "quality": "low", "size": "1024x1024", "background": "opaque", "output_format": "png"}
    return {**made, **said, "revised_prompt": "A cat.", **changes}


# ---- what is read -----------------------------------------------------------------------------------------


def test_the_tools_parameters_are_those_of_the_images_api() -> None:
    tool = {"model": "gpt-image-2", "size": "1024x1024", "quality": "high", "moderation": "low", "partial_images": 2}
    found = request(asked({**tool, "output_format": "webp", "output_compression": 80}, max_tool_calls=3, stream=True))
    assert {name: getattr(found, name) for name in tool} == tool
    assert (found.n, found.stream, found.output_format, found.output_compression) == (3, True, "webp", 80)
    assert (found.prompt, found.operation, found.max_output_tokens) == ("a cat", "generate", None)


def test_the_prompt_is_all_that_the_main_model_reads_in_order() -> None:
    body = asked(
        instructions="Be kind.",
        input=[
            message(text("one"), text("two")),
            {"role": "assistant", "content": [{"type": "output_text", "text": "three", "annotations": []}]},
            {"type": "function_call", "call_id": "c1", "name": "look", "arguments": '{"at": "four"}'},
            {"type": "function_call_output", "call_id": "c1", "output": [text("five")]},
            {"role": "user", "content": "six"},
        ],
        tools=[
            {"type": "image_generation"},
            {"type": "function", "name": "look", "description": "seven", "parameters": {"properties": {"eight": {}}}},
        ],
        text={"format": {"type": "text"}},
    )
    said = ["Be kind.", "one", "two", "three", "c1", "look", '{"at": "four"}', "c1", "five", "six", "look", "seven"]
    assert sorted(request(body).prompt.split("\n")) == sorted([*said, "eight"])


def test_pictures_of_the_input_make_it_an_edit() -> None:
    picture = {"type": "input_image", "image_url": data_url(), "detail": "low"}
    tool = {"input_image_mask": {"image_url": data_url("white")}}
    found = request(asked(tool, input=[message(text("bluer"), picture)]))
    assert (found.operation, len(found.images), found.mask is not None) == ("edit", 1, True)
    assert request(asked({"action": "generate"}, input=[message(text("a"), picture)])).operation == "generate"


@pytest.mark.parametrize("wrap", [json.dumps, lambda body: json.dumps(body, indent=2).replace("/", "\\/")])
def test_what_was_drawn_before_is_a_picture_like_one_that_the_client_shows(wrap: Any) -> None:
    shown = {"type": "input_image", "image_url": data_url("white")}
    raw = wrap(asked(input=[message(text("a cat")), drawn(), message(shown, text("bluer")), drawn(id="ig_2")])).encode()
    found = parse(raw)
    first, second, third = found.request.images
    assert (first.data, first.media_type, str(first.size)) == (third.data, "image/png", "64x64")
    assert first.data != second.data
    assert (found.request.operation, found.request.prompt) == ("edit", "a cat\nbluer")
    assert BARE not in found.request.prompt


@pytest.mark.parametrize("left", [drawn(), {"type": "reasoning", "id": "rs_1", "summary": []}])
def test_nothing_goes_on_that_an_id_could_exchange_for_what_nobody_looked_at(left: dict[str, Any]) -> None:
    said = {
        "type": "message",
        "role": "assistant",
        "id": "msg_1",
        "content": [{"type": "output_text", "text": "Here."}],
    }
    called = {"type": "function_call", "id": "fc_1", "call_id": "c1", "name": "look", "arguments": "{}"}
    shown = {"type": "input_image", "image_url": data_url("white"), "detail": "low"}
    found = parse(asked(input=[left, said, called, drawn(id="ig_2"), message(shown, text("bluer")), left]))
    body, _ = found.write(replace(found.request, n=1, max_output_tokens=5), None)
    picture = {"type": "message", "role": "user", "content": [{"type": "input_image", "image_url": data_url()}]}
    again = [picture] if left["type"] == "image_generation_call" else []
    without = [{name: value for name, value in item.items() if name != "id"} for item in (said, called)]
    sent = json.loads(body)
    assert sent["input"] == [*again, *without, picture, message(shown, text("bluer")), *again]
    assert request(sent).main == found.request.main
    assert [image.digest for image in request(sent).images] == [image.digest for image in found.request.images]


def test_large_pictures_of_earlier_turns_are_no_text() -> None:
    big = base64.b64encode(base64.b64decode(BARE) + bytes(3_000_000)).decode()
    with pytest.raises(InvalidRequest) as caught:  # looked at, and refused for what it is: not as a long text
        parse(asked(input=[message(text("bluer")), drawn(result=big)]))
    assert (caught.value.status, caught.value.param) == (400, "image_url")


@pytest.mark.parametrize("sealed", [{}, {"encrypted_content": None}, {"encrypted_content": "gAAAA", "status": None}])
def test_what_a_model_thought_before_is_left_out(sealed: dict[str, Any]) -> None:
    thought = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": "one"}], **sealed}
    found = parse(asked(input=[message(text("a")), thought]))
    assert found.request.prompt == "a"
    assert json.loads(found.write(found.request, None)[0])["input"] == [message(text("a"))]


@pytest.mark.parametrize(
    "changes",
    [
        {"previous_response_id": "resp_1"},
        {"conversation": "conv_1"},
        {"input": [{"type": "item_reference", "id": "msg_1"}]},
        {"input": [{"type": "image_generation_call", "id": "ig_1"}]},
    ],
)
def test_what_only_openai_has_is_refused_with_the_way(changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(asked(**changes))
    way = "send the whole conversation in `input`, and each picture as an `input_image` with a data URL"
    assert caught.value.message.endswith(f"; {way}")


def test_a_picture_elsewhere_is_one_whose_host_the_policy_must_name() -> None:
    address = "https://images.example.com/a.png"
    picture = {"type": "input_image", "image_url": address}
    (found,) = request(asked(input=[message(text("bluer"), picture)])).images
    assert (found.url, found.host, found.data) == (address, "images.example.com", b"")


def test_who_said_what_is_part_of_what_an_approval_is_bound_to() -> None:
    as_user, as_developer = (asked(input=[message(text("a"), role=role)]) for role in ("user", "developer"))
    first, second = request(as_user).main, request(as_developer).main
    assert first is not None
    assert second is not None
    assert first.digest != second.digest


def test_what_is_forced_changes_nothing_of_the_main_model() -> None:
    parsed = parse(asked())
    decided = replace(parsed.request, model="gpt-image-2", size="1024x1024", quality="low", n=2, max_output_tokens=9)
    body, _ = parsed.write(decided, "sid")
    assert request(body).main == parsed.request.main


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt"),
        ({"background": True}, "background"),
        ({"background_options": {"completion_window": "8h"}}, "background_options"),
        ({"context_management": [{"type": "compaction"}]}, "context_management"),
        ({"service_tier": "priority"}, "service_tier"),
        ({"reasoning": {"effort": ["a"]}}, "reasoning"),
        ({"model": None}, "model"),
        ({"model": {"id": "gpt-6"}}, "model"),
        ({"max_tool_calls": 0}, "max_tool_calls"),
        ({"max_tool_calls": 11}, "max_tool_calls"),
        ({"max_tool_calls": True}, "max_tool_calls"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"input": None}, "input"),
        ({"input": " "}, "input"),
        ({"input": "a" * 32_001}, "input"),
        ({"input": ["a cat"]}, "input"),
        ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input"),
        ({"input": [{"type": "reasoning", "id": "rs_1", "summary": []}]}, "input"),
        ({"input": [{"type": "reasoning", "summary": [{"type": "input_image", "image_url": data_url()}]}]}, "input"),
        ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input"),
        ({"input": [{"type": "image_generation_call", "id": "ig_1"}]}, "input"),
        ({"input": [{"type": "image_generation_call", "id": "ig_1", "result": None, "status": "failed"}]}, "input"),
        ({"input": [drawn(result="")]}, "input"),
        ({"input": [drawn(result="R0lGODlhAQABAAAAACw=")]}, "input"),
        ({"input": [drawn(result="iVBORw0KGgo")]}, "images"),
        ({"input": [message(text("a")), drawn(result="iVBORw0KGgoAAAA=")]}, "image_url"),
        ({"input": [drawn()]}, "input"),
        ({"input": [drawn(image_url=data_url())]}, "input"),
        ({"input": [{"type": "function_call_output", "call_id": "c", "result": BARE}]}, "input"),
        ({"metadata": {"result": BARE}}, "input"),
        ({"input": [{"type": "additional_tools", "role": "developer", "tools": []}]}, "input"),
        ({"input": [{"type": "mcp_call", "output": "a"}]}, "input"),
        ({"input": [{"type": ["message"], "content": "a"}]}, "input"),
        ({"input": [message({"type": "input_file", "file_url": "https://a.test/x.pdf"})]}, "input"),
        ({"input": [message({"type": "input_audio", "input_audio": {}})]}, "input"),
        ({"input": [message({"type": "input_image", "file_id": "file_1"})]}, "image_url"),
        ({"input": [message({"type": "input_image", "image_url": "http://a.test/x.png"})]}, "image_url"),
        ({"input": [message({**text("a"), "file_id": "file_1"})]}, "file_id"),
        ({"input": [message({"type": "input_text", "text": data_url()})]}, "input"),
        (
            {"input": [{"type": "message", "role": "user", "content": "a", "encrypted_content": "x"}]},
            "encrypted_content",
        ),
        ({"tools": [{"type": "image_generation"}, {"type": "image_generation"}]}, "tools"),
        ({"tools": [{"type": "image_generation"}, {"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "image_generation"}, {"type": "mcp", "server_label": "x"}]}, "tools"),
        ({"tools": [{"type": "namespace", "tools": [{"type": "image_generation"}]}]}, "tools"),
        ({"tools": [{"type": "image_generation_2"}]}, "tools"),
        ({"tools": {"type": "image_generation"}}, "tools"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto", "tools": [{"type": "mcp"}]}}, "tool_choice"),
        ({"tool_choice": {"type": "image_generation", "size": "auto"}}, "tool_choice"),
        ({"tool_choice": ["image_generation"]}, "tool_choice"),
        ({"tool_choice": {"type": "allowed_tools", "mode": "auto"}}, "tool_choice"),
    ],
)
def test_what_cannot_be_seen_or_bounded_is_refused(changes: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(asked(**changes))
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("tool", "param"),
    [
        ({"action": "repaint"}, "action"),
        ({"action": "edit"}, "image"),
        ({"size": "huge"}, "size"),
        ({"partial_images": 4}, "partial_images"),
        ({"input_image_mask": {"file_id": "file_1"}}, "input_image_mask"),
        ({"input_image_mask": {"image_url": "https://a.test/x.png"}}, "input_image_mask"),
        ({"input_image_mask": {"image_url": "x", "file_id": "y"}}, "input_image_mask"),
    ],
)
def test_a_tool_that_is_not_plain_is_refused(tool: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(asked(tool))
    assert caught.value.param == param


@pytest.mark.parametrize(
    "choice",
    [
        "auto",
        "none",
        "required",
        {"type": "image_generation"},
        {"type": "function", "name": "look"},
        {"type": "allowed_tools", "mode": "required", "tools": [{"type": "image_generation"}]},
    ],
)
def test_a_choice_that_names_its_tools_passes(choice: Any) -> None:
    assert request(asked(tool_choice=choice)).prompt == "a cat"


def test_what_is_not_known_is_left_to_the_policy() -> None:
    found = request(asked({"frame_count": 2, "n": 3}, image={"context_compression": "auto"}))
    assert dict(found.extra) == {"frame_count": 2, "n": 3, "image": {"context_compression": "auto"}}


# ---- canaries ---------------------------------------------------------------------------------------------

CANARY = "kanarienvogel"
WHOLE = asked(
    instructions="Be kind.",
    input=[
        {**message(text("one")), "type": "message", "status": "completed", "id": "msg_1"},
        {"role": "assistant", "content": [{"type": "output_text", "text": "two", "annotations": [{"type": "x"}]}]},
        {"type": "function_call", "call_id": "c1", "name": "look", "arguments": "{}", "status": "completed"},
        {
            "type": "function_call_output",
            "call_id": "c1",
            "output": [text("five"), {"type": "refusal", "refusal": "no"}],
        },
        {"type": "custom_tool_call", "call_id": "c2", "name": "ask", "input": "six"},
        {"type": "custom_tool_call_output", "call_id": "c2", "output": "seven"},
    ],
    tools=[
        {"type": "image_generation", "model": "gpt-image-2", "size": "1024x1024", "quality": "low", "action": "auto"},
        {
            "type": "function",
            "name": "look",
            "description": "looks",
            "parameters": {
                "type": "object",
                "properties": {"at": {"type": "string", "enum": ["a"]}},
                "required": ["at"],
            },
        },
        {"type": "custom", "name": "ask", "format": {"type": "grammar", "syntax": "lark", "definition": "start: x"}},
    ],
    text={"format": {"type": "json_schema", "name": "n", "schema": {"type": "object"}}, "verbosity": "low"},
    tool_choice={"type": "allowed_tools", "mode": "auto", "tools": [{"type": "function", "name": "look"}]},
    reasoning={"effort": "low"},
)


def _leaves(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if isinstance(value, dict | list):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in items:
            yield from _leaves(item, (*path, key))
    elif isinstance(value, str):
        yield path


def _set(value: Any, path: tuple[Any, ...], leaf: str) -> Any:
    if not path:
        return leaf
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _set(value[path[0]], path[1:], leaf)
    return copy


# What is a value of the request and no text: it goes to the policy by itself, or is one plain word of a setting.
_VALUES = {("model",), ("reasoning", "effort"), *((("tools", 0, name)) for name in ("model", "quality"))}


@pytest.mark.parametrize("path", list(_leaves(WHOLE)), ids=lambda path: ".".join(map(str, path)))
def test_no_text_escapes_the_eye_wherever_it_stands(path: tuple[Any, ...]) -> None:
    try:
        found = request(_set(WHOLE, path, CANARY))
    except InvalidRequest:
        return
    plain_choice = path[0] == "tool_choice"  # the name of a tool, one word
    assert CANARY in found.prompt or path in _VALUES or plain_choice


@given(
    st.sampled_from([path for path in _leaves(WHOLE) if path[0] == "input"]),
    st.recursive(
        st.just(CANARY),
        lambda inner: st.one_of(
            st.lists(inner, min_size=1, max_size=2),
            st.dictionaries(st.sampled_from(["type", "text", "x", "content", "name", "output"]), inner, min_size=1),
        ),
        max_leaves=4,
    ),
)
def test_no_shape_hides_a_text(path: tuple[Any, ...], hidden: Any) -> None:
    try:
        found = request(_set(WHOLE, path, hidden))
    except InvalidRequest:
        return
    assert CANARY in found.prompt


def test_a_name_that_the_form_has_not_is_text() -> None:
    found = request(asked(input=[{**message(text("a")), CANARY: 1}]))
    assert CANARY in found.prompt


# ---- what goes on -----------------------------------------------------------------------------------------


def test_every_byte_stays_but_what_is_forced() -> None:
    raw = (
        b'{ "model":"gpt-6-luna",\n "input" : "caf\\u00e9 \xc3\xa9", "temperature": 1.0,"max_tool_calls":4,'
        b'"tools" :[ {"type":"function","name":"f"} , { "type" : "image_generation", "moderation":"low" }  ] }'
    )
    parsed = parse(raw)
    decided = replace(parsed.request, model="gpt-image-2", size="1024x1024", quality="low", n=2, max_output_tokens=500)
    body, kind = parsed.write(decided, "sid")
    assert (body, kind) == (
        b'{ "model":"gpt-6-luna",\n "input" : "caf\\u00e9 \xc3\xa9", "temperature": 1.0,"max_tool_calls":2,'
        b'"tools" :[ {"type":"function","name":"f"} , { "type" : "image_generation", "moderation":"auto" '
        b',"model":"gpt-image-2","size":"1024x1024","quality":"low"}  ] '
        b',"max_output_tokens":500,"safety_identifier":"sid"}',
        "application/json",
    )


def test_pictures_go_on_as_they_came() -> None:
    picture = {"type": "input_image", "image_url": data_url()}
    raw = json.dumps(asked(input=[message(picture, text("a"))])).encode()
    parsed = parse(raw)
    body, _ = parsed.write(replace(parsed.request, n=1, max_output_tokens=5), None)
    sent = json.loads(body)
    assert sent["input"][0]["content"][0] == picture
    assert (sent["max_tool_calls"], sent["max_output_tokens"]) == (1, 5)


def test_what_is_as_it_was_decided_goes_on_untouched() -> None:
    tool = {"model": "gpt-image-2", "size": "1024x1024", "quality": "low", "moderation": "auto"}
    raw = json.dumps(asked(tool, max_tool_calls=1, max_output_tokens=5)).encode()
    parsed = parse(raw)
    assert parsed.write(parsed.request, None)[0] is parsed.lifted.original  # type: ignore[union-attr]


def test_a_clients_identifier_never_goes_on() -> None:
    parsed = parse(asked(safety_identifier="me"))
    assert "safety_identifier" not in json.loads(parsed.write(replace(parsed.request, n=1), None)[0])


# ---- what can make images ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"input": "image_generation"}, Reach.NONE),
        ({"input": "a", "tools": [{"type": "web_search"}]}, Reach.NONE),
        ({"input": [{"type": "image_generation_call", "id": "ig_1"}]}, Reach.NONE),
        ({"input": "a", "metadata": {"prompt": "x", "conversation": "y"}}, Reach.NONE),
        ({"input": "a", "previous_response_id": None}, Reach.NONE),
        ({"input": "a", "previous_response_id": "resp_1"}, Reach.UNSEEN),
        ({"input": "a", "conversation": {"id": "conv_1"}}, Reach.UNSEEN),
        ({"prompt": {"id": "pmpt_1"}}, Reach.UNSEEN),
        (asked(), Reach.TOOL),
        ({"tools": [{"type": "image_generation_next"}]}, Reach.TOOL),
        ({"tool_choice": {"type": "allowed_tools", "tools": [{"type": "image_generation"}]}}, Reach.TOOL),
        ({"input": [{"type": "additional_tools", "tools": [{"type": "image_generation"}]}]}, Reach.TOOL),
    ],
)
def test_what_can_make_images_is_told_from_what_cannot(body: Any, found: Reach) -> None:
    raw = json.dumps(body).encode()
    assert reach(raw, "application/json", encoded=False, responses=True).reach is found


# What plain clients send without the tool, of their own accord: agents, searches, turns of a conversation.
HONEST: list[dict[str, Any]] = [
    {"model": "m", "input": "hello", "instructions": "be kind", "temperature": 0.2, "store": True, "stream": True},
    {"model": "m", "input": [{"role": "user", "content": [{"type": "input_text", "text": "prompt, conversation"}]}]},
    {"model": "m", "input": "x", "tools": [{"type": "function", "name": "f", "parameters": {"type": "object"}}]},
    {"model": "m", "input": "x", "tools": [{"type": "file_search", "vector_store_ids": ["vs_1"]}]},
    {"model": "m", "input": "x", "tools": [{"type": "code_interpreter", "container": {"type": "auto"}}]},
    {"model": "m", "input": "x", "tools": [{"type": "namespace", "name": "n", "tools": [{"type": "custom"}]}]},
    {"model": "m", "input": "x", "text": {"format": {"type": "json_schema", "name": "n", "schema": {"prompt": {}}}}},
    {"model": "m", "input": "x", "background": True, "background_options": {"completion_window": "2h"}},
    {"model": "m", "input": [{"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "x"}]},
    {"model": "m", "input": [{"type": "function_call", "call_id": "c", "name": "f", "arguments": "{}"}]},
    {"model": "m", "input": [{"type": "function_call_output", "call_id": "c", "output": "{}"}]},
    {"model": "m", "input": [{"type": "item_reference", "id": "msg_1"}, {"type": "item_reference", "id": "rs_1"}]},
    {"model": "m", "input": [{"type": "additional_tools", "role": "developer", "tools": [{"type": "web_search"}]}]},
    {"model": "m", "input": "x", "conversation": None, "prompt": None, "previous_response_id": None},
]


@pytest.mark.parametrize("body", HONEST)
def test_text_for_text_is_none_of_our_business(body: Any) -> None:
    assert reach(json.dumps(body).encode(), "application/json", encoded=False, responses=True).reach is Reach.NONE


CARRIERS: list[tuple[dict[str, Any], str]] = [
    ({"previous_response_id": "resp_1"}, "`previous_response_id`"),
    ({"conversation": "conv_1"}, "`conversation`"),
    ({"prompt": {"id": "pmpt_1"}}, "`prompt`"),
    ({"next_months_prompt": {"id": "x"}}, "`next_months_prompt`"),
    ({"Tools": []}, "`Tools`"),
    ({"paint it red, please": 1}, "that is not known"),
    ({"multi_agent": {"enabled": True}}, "`multi_agent`"),
    ({"tools": [{"type": "mcp", "server_label": "x", "server_url": "https://tools.example.com"}]}, "type `mcp`"),
    ({"tools": [{"type": "mcp", "connector_id": "connector_dropbox"}]}, "type `mcp`"),
    ({"tools": [{"type": "draw"}]}, "type `draw`"),
    ({"tools": [{"id": "tool_1"}]}, "that is not known"),
    ({"tools": {"id": "tools_1"}}, "`tools`"),
    ({"tools": [{"type": "namespace", "tools": [{"type": "mcp"}]}]}, "type `mcp`"),
    ({"input": [{"type": "item_reference", "id": "tso_1"}]}, "an item by reference"),
    ({"input": [{"id": "at_1"}]}, "an item by reference"),
    ({"input": [{"type": "item_reference"}]}, "an item by reference"),
    ({"input": [{"type": "additional_tools", "tools": [{"type": "mcp"}]}]}, "type `mcp`"),
    ({"input": [{"type": "tool_search_output", "tools": "stored"}]}, "`tools`"),
    ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "type `compaction`"),
    ({"input": [{"type": "mcp_approval_response", "approve": True}]}, "type `mcp_approval_response`"),
    ({"input": {"id": "input_1"}}, "`input`"),
    ({"instructions": [{"type": "item_reference", "id": "tso_1"}]}, "`instructions`"),
]


@pytest.mark.parametrize(("carrier", "named"), CARRIERS)
def test_what_can_bring_tools_that_nobody_sees_is_unseen_and_named(carrier: dict[str, Any], named: str) -> None:
    raw = json.dumps({"model": "m", "input": "a", **carrier}).encode()
    found = reach(raw, "application/json", encoded=False, responses=True)
    assert (found.reach, named in found.message) == (Reach.UNSEEN, True)


def test_a_key_that_is_there_twice_hides_nothing() -> None:
    raw = b'{"model": "m", "input": [{"type": "item_reference", "id": "tso_1"}], "input": "a"}'
    with pytest.raises(InvalidRequest, match="a key is there twice"):
        reach(raw, "application/json", encoded=False, responses=True)


@pytest.mark.parametrize("raw", [b"", b"input=a", b"{'input': 1}"])
def test_a_body_that_is_no_json_does_not_pass_as_one_without_the_tool(raw: bytes) -> None:
    with pytest.raises(InvalidRequest, match="the body is no JSON"):
        reach(raw, "application/json", encoded=False, responses=True)


@pytest.mark.parametrize("raw", [b"[]", b"1", b"null"])
def test_a_body_that_is_no_object_is_unseen(raw: bytes) -> None:
    assert reach(raw, "application/json", encoded=False, responses=True).reach is Reach.UNSEEN


def test_the_list_has_every_parameter_tool_and_item_of_openais_schema_or_leaves_it_out_on_purpose() -> None:
    """What a new SDK brings has to be looked at by a person first."""
    from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming as Create
    from openai.types.responses.response_input_item_param import ResponseInputItemParam as Item
    from openai.types.responses.tool_param import ToolParam

    unknown = set()
    for name in get_type_hints(Create):
        found = reach(json.dumps({name: name}).encode(), "application/json", encoded=False, responses=True)
        unknown |= {name} if found.reach is Reach.UNSEEN and f"`{name}` stands" in found.message else set()
    assert unknown == {"conversation", "previous_response_id", "prompt"}
    assert _unlisted("tools", ToolParam) == {"mcp"}
    assert _unlisted("input", Item) == {"compaction", "compaction_trigger", "item_reference"} | {
        "mcp_list_tools",
        "mcp_approval_request",
        "mcp_approval_response",
        "mcp_call",
    }


def _unlisted(part: str, union: Any) -> set[str]:
    kinds = {kind for one in get_args(union) for kind in _words(get_type_hints(one).get("type"))}
    assert len(kinds) > 10
    bodies = {kind: json.dumps({part: [{"type": kind}]}).encode() for kind in kinds - {"image_generation"}}
    found = {k: reach(raw, "application/json", encoded=False, responses=True).reach for k, raw in bodies.items()}
    return {kind for kind, reached in found.items() if reached is Reach.UNSEEN}


def _words(hint: Any) -> set[str]:
    """The words of a `Literal`, however it is wrapped."""
    return {word for arg in get_args(hint) for word in ([arg] if isinstance(arg, str) else _words(arg))}


@pytest.mark.parametrize("unit", [b"{},", b'{"a": [1]},', b"[],", b"1,"])
def test_a_body_of_very_many_parts_is_not_read_at_all(unit: bytes) -> None:
    raw = b'{"model": "image_gen", "input": [' + unit * 3_000_000 + b"1]}"
    with pytest.raises(InvalidRequest, match="too many parts") as refused:
        reach(raw, "application/json", encoded=False, responses=True)
    assert refused.value.status == 413


def test_a_long_text_is_looked_at() -> None:
    raw = json.dumps({"input": "image_gen, " * 200_000}).encode()
    assert reach(raw, "application/json", encoded=False, responses=True).reach is Reach.NONE


@pytest.mark.parametrize(
    ("path", "shape"),
    [
        ("/v1/images/generations", "generations"),
        ("/v1/images/edits", "edits"),
        ("/v1/responses", "responses"),
        ("/v1/responses/resp_1", None),
        ("/v1/images/variations", None),
        ("/v1/batches", None),
    ],
)
def test_a_path_tells_the_form(path: str, shape: str | None) -> None:
    assert shape_of(path) == shape

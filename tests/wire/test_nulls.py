"""A JSON null is absence, in every form that is JSON; what goes on has none of them, so that it is valid upstream."""

from __future__ import annotations

import base64
import io
import json
from dataclasses import replace
from typing import Any

import pytest
from PIL import Image

from policyguard.decision import Place
from policyguard.policy.model import Route
from policyguard.wire.edits_json import read_json_edit
from policyguard.wire.generations import read_generation
from policyguard.wire.own import read_own
from policyguard.wire.parameters import KNOWN
from policyguard.wire.responses import read_tool_call

JSON = "application/json"
NULLS = {name: None for name in (*KNOWN, "style", "response_format", "anything") if name != "prompt"}
DECIDED = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1}


def url() -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def written(parsed: Any, identifier: str | None = None) -> Any:
    assert not parsed.request.extra
    assert parsed.request.size is parsed.request.n is parsed.request.stream is None or not parsed.request.stream
    return json.loads(parsed.write(replace(parsed.request, **DECIDED), identifier)[0])


@pytest.mark.parametrize("identifier", [None, "pg_1"])
def test_in_a_generation(identifier: str | None) -> None:
    plain, nulls = {"prompt": "a cat"}, {**NULLS, "prompt": "a cat"}
    expected = written(read_generation(json.dumps(plain).encode(), JSON), identifier)
    assert written(read_generation(json.dumps(nulls).encode(), JSON), identifier) == expected
    assert None not in expected.values()


@pytest.mark.parametrize("identifier", [None, "pg_1"])
def test_in_an_edit(identifier: str | None) -> None:
    plain = {"prompt": "a cat", "images": [{"image_url": url()}]}
    nulls = {"mask": None, **NULLS, **plain}
    expected = written(read_json_edit(json.dumps(plain).encode(), JSON), identifier)
    assert written(read_json_edit(json.dumps(nulls).encode(), JSON), identifier) == expected


TOP = (
    "instructions background max_tool_calls max_output_tokens metadata parallel_tool_calls previous_response_id prompt"
    " conversation reasoning safety_identifier service_tier store stream stream_options temperature text tool_choice"
    " top_p truncation user anything include"
).split()
TOOL = (
    "model size quality background output_format output_compression moderation action input_fidelity input_image_mask"
    " partial_images anything"
).split()


def test_in_a_call_of_the_image_tool() -> None:
    plain = {"model": "gpt-6-luna", "input": "a cat", "tools": [{"type": "image_generation"}]}
    nulls = {
        **dict.fromkeys(TOP),
        **plain,
        "tools": [{"type": "image_generation", **{name: None for name in TOOL if name != "anything"}}],
    }
    expected = written(read_tool_call(json.dumps(plain).encode(), JSON))
    assert written(read_tool_call(json.dumps(nulls).encode(), JSON)) == expected
    assert None not in expected["tools"][0].values()


def test_in_a_call_a_null_that_is_not_known_is_absent_at_either_place() -> None:
    for place in ("top", "tool"):
        body: dict[str, Any] = {"model": "gpt-6-luna", "input": "a cat", "tools": [{"type": "image_generation"}]}
        (body if place == "top" else body["tools"][0])["anything"] = None
        assert "anything" not in json.dumps(written(read_tool_call(json.dumps(body).encode(), JSON)))


def test_on_an_own_route_declared_fields_are_absent_and_the_rest_is_the_apps() -> None:
    route = Route(
        method="POST",
        path="/draw",
        shape="custom",
        place=Place("avatars.yaml", 1),
        fields={"prompt": ("text",), "size": ("format",)},
    )
    body = json.dumps({"text": "a cat", "format": None, "mine": None}).encode()
    own = read_own(body, JSON, route)
    assert (own.request.size, own.request.extra) == (None, {})
    sent = json.loads(own.write(replace(own.request, size="1024x1024"), None)[0])
    assert sent == {"text": "a cat", "format": "1024x1024", "mine": None}

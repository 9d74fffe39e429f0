"""What the sandbox answers on `/v1/responses` satisfies OpenAI's own schema, as the SDK's models have it, strictly."""

from __future__ import annotations

import json
from typing import Any, get_args

import httpx2
import pytest
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import BaseModel

TOOL = {"type": "image_generation", "model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low"}
FUNCTION = {"type": "function", "name": "f", "parameters": {"type": "object", "properties": {}}, "strict": True}
ASKED = {"model": "gpt-6-luna", "input": "a fox", "tools": [TOOL], "max_tool_calls": 2}
# The SDK's models let absent what may be null; OpenAI's schema requires it to be there.
REQUIRED = frozenset(
    {"error", "incomplete_details", "instructions", "metadata", "temperature", "top_p", "tools", "tool_choice"}
    | {"id", "object", "created_at", "model", "output", "parallel_tool_calls"}
)
EVENTS: dict[str, type[BaseModel]] = {
    get_args(one.model_fields["type"].annotation)[0]: one for one in get_args(get_args(ResponseStreamEvent)[0])
}
BODIES = [
    ASKED,
    {**ASKED, "tools": [], "max_tool_calls": None},
    {**ASKED, "tools": [FUNCTION, TOOL], "tool_choice": {"type": "image_generation"}},
    {**ASKED, "temperature": 0.3, "top_p": 0.5, "metadata": {"a": "b"}, "parallel_tool_calls": False, "store": False},
    {**ASKED, "temperature": None, "instructions": "be brief", "max_output_tokens": 500, "user": "u1"},
    {**ASKED, "input": "[sandbox: block] a fox"},
]


def known(value: Any) -> None:
    """Nothing stands in an answer that OpenAI's models have no field for."""
    if isinstance(value, BaseModel):
        assert not value.model_extra, (type(value).__name__, value.model_extra)
        for name in type(value).model_fields:
            known(getattr(value, name))
    elif isinstance(value, list):
        for item in value:
            known(item)


def check_response(document: dict[str, Any]) -> None:
    assert document.keys() >= REQUIRED
    known(Response.model_validate_json(json.dumps(document), strict=True))


@pytest.mark.parametrize("body", BODIES)
def test_a_response_is_one_by_the_schema(http: httpx2.Client, body: dict[str, Any]) -> None:
    answer = http.post("/v1/responses", json=body)
    assert answer.status_code == 200
    check_response(answer.json())


def test_a_response_says_again_what_was_asked(http: httpx2.Client) -> None:
    asked = BODIES[3]
    answer = http.post("/v1/responses", json=asked).json()
    for name in ("temperature", "top_p", "metadata", "parallel_tool_calls", "tools", "max_tool_calls"):
        assert answer[name] == asked[name]


@pytest.mark.parametrize("fault", [None, "error_event"])
@pytest.mark.parametrize("body", BODIES)
def test_every_event_is_one_by_the_schema_and_they_are_numbered_in_order(
    http: httpx2.Client, body: dict[str, Any], fault: str | None
) -> None:
    tools = [{**tool, "partial_images": 1} if tool is TOOL else tool for tool in body["tools"]]
    headers = {"x-sandbox-fault": fault} if fault else {}
    text = http.post("/v1/responses", json={**body, "tools": tools, "stream": True}, headers=headers).text
    events = [json.loads(line.removeprefix("data: ")) for line in text.splitlines() if line.startswith("data: ")]
    assert [event["sequence_number"] for event in events] == list(range(len(events)))
    assert events[-1]["type"] == ("error" if fault else "response.completed")
    for event in events:
        known(EVENTS[event["type"]].model_validate_json(json.dumps(event), strict=True))
        if "response" in event:
            assert event["response"].keys() >= REQUIRED

"""What an answer of the Responses API is billed as: the images that its tool made, and the main model beside them."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

import pytest

from policyguard.request import Failure, Outcome, Usage
from policyguard.wire.outcome import OutcomeReader

IMAGE = base64.b64encode(bytes(9_000)).decode()
DIGEST = hashlib.sha256(bytes(9_000)).hexdigest()
DRAWN = {
    "input_tokens": 30,
    "input_tokens_details": {"text_tokens": 20, "image_tokens": 10},
    "output_tokens": 392,
    "total_tokens": 422,
}
CALL = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": IMAGE, "size": "1024x1024"}
SAYS = {"type": "message", "role": "assistant", "content": []}
MAIN = {"input_tokens": 900, "output_tokens": 70, "total_tokens": 970}
BOTH = Usage(
    input_text_tokens=20,
    input_image_tokens=10,
    output_image_tokens=392,
    main_input_tokens=900,
    main_output_tokens=70,
)


def answer(**changes: Any) -> dict[str, Any]:
    body = {"object": "response", "output": [CALL, SAYS], "usage": MAIN, "tool_usage": {"image_gen": DRAWN}, **changes}
    return {"status": "completed", "error": None, **body}


def outcome(document: Any, *, chunk: int = 7) -> Outcome:
    reader = OutcomeReader(200, {}, main=True)
    raw = json.dumps(document).encode()
    for at in range(0, len(raw), chunk):
        reader.feed(raw[at : at + chunk])
    return reader.outcome()


def streamed(*events: dict[str, Any], failure: Failure | None = None) -> Outcome:
    reader = OutcomeReader(200, {"content-type": "text/event-stream"}, main=True, images=2)
    for event in events:
        reader.feed(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n".encode())
    return reader.outcome(failure=failure)


def test_both_usages_count() -> None:
    found = outcome(answer())
    assert (found.usage, found.failure, found.size) == (BOTH, None, "1024x1024")
    assert found.image_digests == (DIGEST,)


def test_an_answer_in_words_alone_is_billed_as_words() -> None:
    none = {**DRAWN, "input_tokens": 0, "input_tokens_details": {}, "output_tokens": 0}
    for tools in (None, {"image_gen": none}):
        found = outcome(answer(output=[SAYS], tool_usage=tools))
        assert found.usage == Usage(main_input_tokens=900, main_output_tokens=70)


@pytest.mark.parametrize(
    "changes",
    [
        {"tool_usage": None},
        {"tool_usage": {}},
        {"tool_usage": {"image_gen": {**DRAWN, "output_tokens": 0}}},
        {"usage": None},
        {"usage": {"input_tokens": 3}},
        {"output": [{**CALL, "status": "failed", "result": None}], "tool_usage": None},
    ],
)
def test_a_usage_that_is_missing_or_half_is_none(changes: dict[str, Any]) -> None:
    found = outcome(answer(**changes))
    assert (found.usage, found.failure) == (None, Failure.NO_USAGE)


def test_a_call_that_was_blocked_says_so() -> None:
    details = {"moderation_stage": "output", "categories": ["violence"]}
    error = {"code": "moderation_blocked", "message": "no", "moderation_details": details}
    found = outcome(answer(output=[{**CALL, "status": "failed", "result": None, "error": error}], tool_usage=None))
    assert (found.error_code, found.moderation_stage, found.usage) == ("moderation_blocked", "output", None)


@pytest.mark.parametrize("kind", ["response.completed", "response.incomplete", "response.failed"])
def test_the_last_event_of_a_stream_says_it_all(kind: str) -> None:
    begun = {"type": "response.created", "response": answer(usage=None, tool_usage=None, output=[])}
    partial = {"type": "response.image_generation_call.partial_image", "partial_image_b64": IMAGE}
    found = streamed(begun, partial, {"type": kind, "response": answer()})
    assert (found.usage, found.image_digests) == (BOTH, (DIGEST,))


def test_a_stream_that_ends_before_its_last_event_has_no_usage() -> None:
    found = streamed({"type": "response.output_item.done", "item": CALL}, failure=Failure.CUT)
    assert (found.usage, found.failure) == (None, Failure.CUT)


def test_an_error_event_is_an_error() -> None:
    found = streamed({"type": "error", "code": "server_error", "message": "no"})
    assert (found.usage, found.failure, found.error_code) == (None, Failure.ERROR, "server_error")

"""Pictures of an answer: found wherever they stand, and a problem where one cannot be read."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from policyguard.wire.output import IMAGES_API, RESPONSES_API, Kept, PicturePlace, images_of, pictures_in, read_output

JSON, EVENTS = "application/json", "text/event-stream"


def picture(kind: str = "PNG", colour: str = "teal") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), colour).save(buffer, kind)
    return buffer.getvalue()


def text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def body(document: Any) -> bytes:
    return json.dumps(document).encode()


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP"])
def test_the_pictures_of_the_images_api_are_found(kind: str) -> None:
    one, two = picture(kind), picture(kind, "red")
    output = read_output(200, JSON, body({"data": [{"b64_json": text(one)}, {"b64_json": text(two)}]}))
    assert ([image.data for image in output.images], output.problem) == ([one, two], None)


@pytest.mark.parametrize(
    "document",
    [
        {"pictures": {"deep": [[{"er": "@"}]]}},
        {"output": [{"type": "image_generation_call", "result": "@"}]},
        {"html": "data:image/png;base64,@"},
        {"@": 1, "x": "@"},
    ],
)
def test_a_picture_is_found_wherever_it_stands(document: Any) -> None:
    data = picture()
    written = json.dumps(document).replace("@", text(data)).encode()
    assert [image.data for image in read_output(200, JSON, written, RESPONSES_API).images] == [data]


@pytest.mark.parametrize(
    "document",
    [
        {"data": [{"b64_json": "aGVsbG8="}]},
        {"data": [{"b64_json": None}]},
        {"data": [{"b64_json": text(picture()) + "!"}]},
        {"data": [{"b64_json": text(picture("GIF"))}]},
        {"data": [{"b64_json": text(picture())}], "more": text(picture("GIF"))},
        {"data": [{"b64_json": text(picture()[:40])}]},
        {"data": [{"b64_json": "https://images.test/1.png"}]},
    ],
)
def test_what_nobody_could_look_at_is_a_problem(document: Any) -> None:
    assert read_output(200, JSON, body(document)).problem == "unreadable"


def test_without_an_image_an_answer_says_that_it_should_have_one() -> None:
    found = [read_output(200, JSON, body({"data": []}), place) for place in (IMAGES_API, RESPONSES_API)]
    assert [(output.images, output.problem, output.required) for output in found] == [
        ((), None, True),
        ((), None, False),
    ]


@pytest.mark.parametrize("status", [400, 404, 500])
def test_an_error_needs_no_image(status: int) -> None:
    output = read_output(status, "text/html", b"<html>no</html>")
    assert (output.images, output.problem, output.required) == ((), None, False)


def test_a_compressed_answer_and_one_that_is_too_large_are_problems() -> None:
    assert read_output(200, JSON, b"x", encoded=True).problem == "compressed"
    assert read_output(200, JSON, None) == read_output(200, EVENTS, None)
    assert (read_output(200, JSON, None).problem, read_output(200, JSON, None).answer) == ("too_large", None)


def test_more_pictures_than_can_be_scored_are_a_problem() -> None:
    many = [{"b64_json": text(picture(colour=f"#0000{number:02x}"))} for number in range(17)]
    output = read_output(200, JSON, body({"data": many}))
    assert (len(output.images), output.problem) == (16, "too_many_images")


def test_an_own_route_has_its_pictures_at_its_own_place() -> None:
    place, data = PicturePlace(body=("made", "[]", "content")), picture()
    assert read_output(200, JSON, body({"made": [{"content": text(data)}]}), place).problem is None
    assert read_output(200, JSON, body({"made": [{"content": "no"}]}), place).problem == "unreadable"


# ---- streams ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_a_stream_is_released_without_its_partial_pictures(end: str) -> None:
    partial = event("image_generation.partial_image", b64_json=text(picture(colour="red")))
    unnamed = f"data: {json.dumps({'type': 'image_edit.partial_image', 'b64_json': 'eA=='})}\n\n".encode()
    last = event("image_generation.completed", b64_json=text(picture()))
    stream = b": hello\n\n" + partial + unnamed + last + b"data: [DONE]\n\n"
    output = read_output(200, EVENTS, stream.replace(b"\n", end.encode()))
    assert [image.data for image in output.images] == [picture()]
    assert output.answer is not None
    kept = (b": hello\n\n" + last + b"data: [DONE]\n\n").replace(b"\n", end.encode())
    assert (output.answer.body, output.problem) == (kept, None)


def test_in_shadow_a_stream_keeps_them() -> None:
    stream = event("image_generation.partial_image", b64_json="eA==") + event("image_generation.completed")
    output = read_output(200, EVENTS, stream, partials=True)
    assert output.answer is not None
    assert output.answer.body == stream


def test_an_event_that_nobody_can_read_is_not_released() -> None:
    last = event("image_generation.completed", b64_json=text(picture()))
    output = read_output(200, EVENTS, b"data: {broken\n\n" + last)
    assert output.answer is not None
    assert output.answer.body == last


def test_the_pictures_of_a_stored_answer_are_found_again() -> None:
    output = read_output(200, JSON, body({"data": [{"b64_json": text(picture())}]}))
    assert output.answer is not None
    assert images_of(output.answer) == output.images


# ---- whatever comes ---------------------------------------------------------------------------------------

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=10,
)


@given(st.binary(max_size=200), st.sampled_from([JSON, EVENTS, "", "image/png"]))
def test_no_bytes_break_it(data: bytes, kind: str) -> None:
    read_output(200, kind, data)


@given(_JSON, st.integers(0, 3))
def test_a_picture_does_not_hide_in_any_document(document: Any, depth: int) -> None:
    hidden: Any = text(picture())
    for _ in range(depth):
        hidden = [document, {"x": hidden}]
    assert text(picture()) in list(pictures_in([document, hidden]))


def test_a_copy_is_kept_up_to_its_bound_and_not_at_all_beyond_it() -> None:
    kept = Kept(4)
    kept.feed(b"ab")
    kept.feed(b"cd")
    assert kept.body == b"abcd"
    kept.feed(b"e")
    assert kept.body is None


def test_each_picture_that_should_be_there_has_to_be_one() -> None:
    one = {"b64_json": text(picture())}
    for other in ({"url": "https://images.example.com/1.png"}, {"b64_json": None}, {}, "text"):
        output = read_output(200, JSON, body({"data": [one, other]}))
        assert (len(output.images), output.problem) == (1, "unreadable")


def test_each_completed_event_has_a_picture_whatever_says_that_it_is_one() -> None:
    good = event("image_generation.completed", b64_json=text(picture()))
    named = b'event: image_generation.completed\ndata: {"b64_json": "nothing"}\n\n'
    for other in (event("image_generation.completed", url="https://images.example.com/1.png"), named):
        assert read_output(200, EVENTS, good + other).problem == "unreadable"


@pytest.mark.parametrize("result", ["no base64", "/wo" + "A" * 99, 1, {"url": "https://images.example.com/1.png"}])
def test_what_a_tool_call_gave_is_a_picture_that_can_be_looked_at(result: Any) -> None:
    call = {"type": "image_generation_call", "result": result}
    streamed = event("response.output_item.done", item=call)
    assert read_output(200, JSON, body({"output": [call]}), RESPONSES_API).problem == "unreadable"
    assert read_output(200, EVENTS, streamed, RESPONSES_API).problem == "unreadable"


def test_a_tool_call_that_is_not_done_has_no_picture_yet() -> None:
    begun = event("response.output_item.added", item={"type": "image_generation_call", "result": None})
    assert read_output(200, EVENTS, begun, RESPONSES_API).problem is None


@pytest.mark.parametrize(("kind", "raw"), [("image/png", picture()), ("text/html", b"<img src=/1.png>")])
def test_an_answer_of_the_responses_api_that_is_no_json_is_a_problem_unless_it_is_an_error(
    kind: str, raw: bytes
) -> None:
    found = [read_output(status, kind, raw, RESPONSES_API).problem for status in (200, 502)]
    assert found == ["unreadable", None]

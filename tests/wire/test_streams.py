"""Streams and large answers, cut into pieces anywhere: what they used, which images, and what is kept of them."""

from __future__ import annotations

import base64
import hashlib
import json
import tracemalloc
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyguard.policy.model import Place, Route
from policyguard.request import Failure, Outcome, Usage
from policyguard.wire.outcome import OutcomeReader, read_outcome
from policyguard.wire.skeleton import MAX_KEPT, Skeleton

SSE = {"content-type": "text/event-stream; charset=utf-8", "x-request-id": "req_1"}
USAGE = {"input_tokens": 10, "input_tokens_details": {"text_tokens": 10, "image_tokens": 0}, "output_tokens": 196}
IMAGE = bytes(range(256)) * 40
ERROR = {"error": {"code": "moderation_blocked", "moderation_details": {"moderation_stage": "output"}}}


def event(kind: str, image: bytes = IMAGE, end: str = "\n", **more: Any) -> bytes:
    data = {"type": kind, "b64_json": base64.b64encode(image).decode(), "size": "1024x1024", "quality": "low", **more}
    return f"event: {kind}{end}data: {json.dumps(data)}{end}{end}".encode()


def partial(end: str = "\n") -> bytes:
    return event("image_generation.partial_image", b"partial" * 2000, end, partial_image_index=0)


def completed(end: str = "\n", kind: str = "image_generation", **more: Any) -> bytes:
    return event(f"{kind}.completed", IMAGE, end, **{"usage": USAGE, **more})


def outcome(stream: bytes, *, images: int = 1, step: int | None = None, failure: Failure | None = None) -> Outcome:
    reader = OutcomeReader(200, SSE, images=images)
    width = step or len(stream) or 1
    for at in range(0, len(stream), width):
        reader.feed(stream[at : at + width])
    return reader.outcome(failure=failure)


SETTLED = Outcome(
    status=200,
    usage=Usage(input_text_tokens=10, output_image_tokens=196),
    request_id="req_1",
    size="1024x1024",
    quality="low",
    image_digests=(hashlib.sha256(IMAGE).hexdigest(),),
)


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("step", [None, 1, 2, 3, 7, 1000, 4096])
def test_a_stream_is_settled_by_its_completed_event_wherever_it_is_cut_into_pieces(end: str, step: int | None) -> None:
    stream = b": hello" + end.encode() * 2 + partial(end) * 2 + completed(end)
    assert outcome(stream, step=step) == SETTLED


@given(st.lists(st.integers(0, 60_000), max_size=6).map(sorted))
def test_pieces_of_any_length_say_the_same(cuts: list[int]) -> None:
    stream = partial("\r\n") + completed("\r\n") + b"data: [DONE]\r\n\r\n"
    reader = OutcomeReader(200, SSE)
    for start, end in zip([0, *cuts], [*cuts, len(stream)], strict=True):
        reader.feed(stream[start:end])
    assert reader.outcome() == SETTLED


@pytest.mark.parametrize("order", [("usage", "b64_json", "type"), ("b64_json", "type", "usage")])
def test_the_order_of_an_events_keys_does_not_matter(order: tuple[str, ...]) -> None:
    values = {"usage": USAGE, "b64_json": base64.b64encode(IMAGE).decode(), "type": "image_edit.completed"}
    data = json.dumps({"size": "1024x1024", "quality": "low", **{name: values[name] for name in order}})
    assert outcome(f"data:{data}\n\n".encode(), step=999) == SETTLED


def test_an_event_over_several_lines_and_one_without_an_empty_line_behind_it_count() -> None:
    several = b'data: {"type": "image_edit.completed",\ndata: "usage": {"input_tokens": 1, "output_tokens": 2}}'
    assert outcome(several).usage == Usage(input_image_tokens=1, output_image_tokens=2)


def test_several_images_are_the_sum_of_their_completed_events() -> None:
    both = outcome(partial() + completed() + completed(), images=2)
    assert both.usage == Usage(input_text_tokens=20, output_image_tokens=392)
    assert len(both.image_digests) == 2


@pytest.mark.parametrize(
    ("stream", "images", "failure", "said"),
    [
        (b"", 1, None, Failure.NO_USAGE),
        (partial(), 1, None, Failure.NO_USAGE),
        (partial(), 1, Failure.CANCELLED, Failure.CANCELLED),
        (partial() + completed()[:-60], 1, Failure.CUT, Failure.CUT),
        (completed(), 2, None, Failure.NO_USAGE),
        (completed(usage=None), 1, None, Failure.NO_USAGE),
        (completed() + completed(usage=None), 1, None, Failure.NO_USAGE),
        (completed(usage={"input_tokens": 1, "output_tokens": 0}), 1, None, Failure.NO_USAGE),
        (completed().replace(b".completed", b".completely"), 1, None, Failure.NO_USAGE),
        (b"data: [DONE]\n\ndata: {\n\ndata\n\n: data: {}\n\n", 1, None, Failure.NO_USAGE),
        (partial() + f"event: error\ndata: {json.dumps(ERROR)}\n\n".encode(), 1, None, Failure.ERROR),
        (b'data: {"type": "error", "code": "x", "message": "m"}\n\n', 1, None, Failure.ERROR),
    ],
)
def test_what_did_not_complete_has_no_usage(stream: bytes, images: int, failure: Failure | None, said: Failure) -> None:
    ended = outcome(stream, images=images, failure=failure)
    assert (ended.usage, ended.failure) == (None, said)


def test_an_error_event_says_its_code_and_stage() -> None:
    ended = outcome(partial() + f"data: {json.dumps(ERROR)}\n\n".encode())
    assert (ended.error_code, ended.moderation_stage, ended.image_digests) == ("moderation_blocked", "output", ())


def test_usage_that_was_seen_before_the_client_left_or_an_error_came_counts() -> None:
    assert outcome(completed(), failure=Failure.CANCELLED) == SETTLED
    assert outcome(completed() + f"data: {json.dumps(ERROR)}\n\n".encode()).usage == SETTLED.usage


def test_a_large_event_is_never_kept() -> None:
    stream = partial() + event("image_generation.completed", IMAGE * 600, usage=USAGE)
    chunks = [stream[at : at + 65_536] for at in range(0, len(stream), 65_536)]
    assert len(stream) > 8_000_000
    reader = OutcomeReader(200, SSE)
    tracemalloc.start()
    for chunk in chunks:
        reader.feed(chunk)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reader.outcome().usage == SETTLED.usage
    assert peak < 1_000_000


def test_a_large_plain_answer_is_never_kept_either() -> None:
    image = IMAGE * 600
    document = {"data": [{"b64_json": base64.b64encode(image).decode()}] * 2, "usage": USAGE, "size": "1024x1024"}
    body = json.dumps(document).encode()
    tracemalloc.start()
    ended = read_outcome(200, {}, body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (ended.usage, ended.image_digests) == (SETTLED.usage, (hashlib.sha256(image).hexdigest(),) * 2)
    assert peak < 3_000_000


def test_an_own_routes_large_images_have_digests_too() -> None:
    route = Route(
        method="POST", path="/a", shape="custom", place=Place("a", 1), usage=("used",), images=("made", "[]", "png")
    )
    body = json.dumps({"made": [{"png": base64.b64encode(IMAGE).decode()}, {"png": "eA=="}], "used": USAGE}).encode()
    digests = (hashlib.sha256(IMAGE).hexdigest(), hashlib.sha256(b"x").hexdigest())
    assert read_outcome(200, {}, body, route=route).image_digests == digests


def test_an_answer_that_is_not_complete_has_no_usage_even_where_it_reads_as_complete() -> None:
    reader = OutcomeReader(200, {})
    reader.feed(json.dumps({"usage": USAGE}).encode())
    assert reader.outcome(failure=Failure.CUT).failure is Failure.CUT


LONG = st.integers(4090, 9000).map(lambda length: "A" * length)
TEXTS = st.text(max_size=6) | st.sampled_from(['\\"', "\\\\", '"', "\\" * 9, "é" * 3000, '\\"' * 3000]) | LONG
DOCUMENTS = st.dictionaries(
    TEXTS.filter(lambda text: len(json.dumps(text)) < 4000 and "é" not in text),
    TEXTS | st.lists(TEXTS, max_size=3),
    max_size=4,
)


@given(DOCUMENTS, st.integers(1, 5000), st.booleans())
def test_all_but_long_texts_of_a_document_stays_whatever_its_pieces(document: Any, step: int, ascii: bool) -> None:
    raw = json.dumps(document, ensure_ascii=ascii).encode()
    skeleton = Skeleton()
    for at in range(0, len(raw), step):
        skeleton.feed(raw[at : at + step])
    read = skeleton.document()
    assert list(read) == list(document)
    for name, value in document.items():
        pairs = zip(read[name], value, strict=True) if isinstance(value, list) else [(read[name], value)]
        for seen, written in pairs:
            long = len(json.dumps(written, ensure_ascii=ascii).encode()) - 2 > 4096
            assert (seen != written) if long else (seen == written)


@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_of_a_stream_or_an_answer_raise(noise: bytes, step: int) -> None:
    for headers in (SSE, {}):
        reader = OutcomeReader(200, headers)
        for at in range(0, len(noise), step):
            reader.feed(noise[at : at + step])
        assert reader.outcome().usage is None


def test_a_document_beyond_the_bound_says_nothing_and_the_next_event_is_read_again() -> None:
    stream = b'data: {"x": [' + b"1," * MAX_KEPT + b"1]}\n\n" + completed()
    assert outcome(stream, step=65_536) == SETTLED

"""Events are found as the HTML standard says, however the stream is cut: against a small reader written from it."""

from __future__ import annotations

import base64
import json
import re
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from policyguard.wire.events import MARK, EventReader, EventScan
from policyguard.wire.output import Events, read_output


def by_the_standard(stream: bytes) -> list[tuple[str, str]]:
    """Name and data of each event (9.2.6, "Interpreting an event stream"), the last one without an empty line, too."""
    text = stream.decode("utf-8", errors="replace").removeprefix("\ufeff")
    found, name, data = [], "", ""
    for line in [*re.split("\r\n|\n|\r", text), ""]:
        field, _, value = line.partition(":")
        if not line:
            found += [(name, data.removesuffix("\n"))] if data else []
            name = data = ""
        elif field == "data":
            data += value.removeprefix(" ") + "\n"
        elif field == "event":
            name = value.removeprefix(" ")
    return found


class Seen(EventScan):
    """What the one scanner finds, in pieces."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, str]] = []
        self._data = b""

    def on_data(self, piece: bytes) -> None:
        self._data += piece

    def on_data_end(self) -> None:
        self._data += b"\n"

    def on_event(self) -> None:
        if self._data:
            data = self._data.removesuffix(b"\n").decode("utf-8", errors="replace")
            self.found.append((self.name.decode("utf-8", errors="replace"), data))
        self._data = b""


WORDS = [
    b"data",
    b"event",
    b"id",
    b"retry",
    b":",
    b": ",
    b"  ",
    b"\n",
    b"\r",
    b"\r\n",
    b"\n\n",
    b"a",
    b"{}",
    MARK,
    MARK[:2],
]
STREAMS = st.lists(
    st.sampled_from([*WORDS, b"data: x\n", b"event: n.completed\r", b": c\n", b"\x00", "é".encode()])
).map(b"".join)


@given(STREAMS, st.integers(1, 9))
@example(MARK + b"data: x\n\n", 1)
@example(MARK + MARK + b"data: x\n\n", 2)
@example(b"data: x\r\rdata\rdata: y\r\r", 3)
@example(b"event: a\nevent: b\ndata: x\n\n", 4)
@example(b"event: a\nevent\ndata: x\n\n", 4)
@example(b"data:  x\n", 5)
def test_every_stream_in_pieces_says_what_the_standard_says(stream: bytes, step: int) -> None:
    seen = Seen()
    for at in range(0, len(stream), step):
        seen.feed(stream[at : at + step])
    seen.end()
    assert seen.found == by_the_standard(stream)


@given(STREAMS)
def test_the_inspector_finds_the_same_events_and_keeps_their_bytes(stream: bytes) -> None:
    events = Events(stream).found
    said = [
        (event.name.decode(errors="replace"), event.data.decode(errors="replace")) for event in events if event.data
    ]
    assert said == [(name, data) for name, data in by_the_standard(stream) if data]
    assert b"".join(event.raw for event in events) == stream.removeprefix(MARK)


@given(STREAMS)
def test_what_is_released_of_a_stream_has_no_event_that_it_had_not(stream: bytes) -> None:
    """Leaving events out moves others, also to the start."""
    answer = read_output(200, "text/event-stream", stream).answer
    assert answer is not None
    assert set(by_the_standard(answer.body)) <= set(by_the_standard(stream))


# ---- a mark at the start ----------------------------------------------------------------------------------


def completed(**more: Any) -> bytes:
    picture = base64.b64encode(b"no picture at all" * 9).decode()
    return (
        b"data: " + json.dumps({"type": "image_generation.completed", "b64_json": picture, **more}).encode() + b"\n\n"
    )


@pytest.mark.parametrize("step", [1, 2, 3, 100_000])
def test_a_byte_order_mark_at_the_start_hides_no_event_from_the_outcome(step: int) -> None:
    stream, reader = MARK + completed(usage={"output_tokens": 196}), EventReader()
    for at in range(0, len(stream), step):
        reader.feed(stream[at : at + step])
    assert [event["usage"] for event in reader.completed] == [{"output_tokens": 196}]


def test_a_byte_order_mark_at_the_start_hides_no_picture_from_inspection() -> None:
    output = read_output(200, "text/event-stream", MARK + completed())
    assert output.problem == "unreadable"  # it was looked at, and is none


def test_an_event_that_a_mark_hides_is_not_uncovered_when_the_one_before_is_left_out() -> None:
    partial = b'data: {"type": "image_generation.partial_image"}\n\n'
    answer = read_output(200, "text/event-stream", partial + MARK + completed()).answer
    assert answer is not None
    assert by_the_standard(answer.body) == []


class Counted(EventReader):
    """Counts the lines that are read."""

    read = 0

    def line(self, piece: bytes) -> None:
        self.read += 1
        super().line(piece)


@pytest.mark.parametrize("ends", [b"\n", b"\r\n", b"\r", b"\n\r"])
def test_ends_of_lines_without_anything_between_them_cost_nothing(ends: bytes) -> None:
    reader = Counted()
    for _ in range(1_000):
        reader.feed(ends * 10_000)
    reader.feed(completed(usage={"output_tokens": 196}))
    assert reader.read < 5_000


def test_a_stream_of_very_many_lines_is_read_no_further() -> None:
    reader = Counted()
    for _ in range(300):
        reader.feed(b":\n" * 10_000)
    assert reader.read <= 1_000_000


@given(st.lists(st.sampled_from([b"\n", b"\r", b"\r\n", b"data: {}", b"event: a", b": c", b"x"]), max_size=30))
def test_what_is_left_out_changes_nothing(pieces: list[bytes]) -> None:
    """The same events, however many ends of lines stand between them."""
    plain, crowded = Told(), Told()
    stream = b"".join(pieces)
    plain.feed(stream)
    plain.end()
    crowded.feed(re.sub(rb"[\r\n]+", lambda run: run[0] + b"\n" * 50 * (len(run[0].splitlines()) > 1), stream))
    crowded.end()
    assert crowded.seen == plain.seen


class Told(EventReader):
    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[bytes, object]] = []

    def on_event(self) -> None:
        document = dict(self._data.document())
        if document or self.name:
            self.seen.append((self.name, document))
        super().on_event()

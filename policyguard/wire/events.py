"""Server-sent events, found as the HTML standard says (section 9.2.6), so that nothing is read in a client alone.

`EventScan` is the one reader of lines. On it stands what an image stream means while it passes by: how many images were
completed, and their usage. Lines and events may end anywhere between two pieces. Of an event no more is kept than
`Skeleton` keeps.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from policyguard.request import MAX_IMAGES
from policyguard.wire.skeleton import Skeleton

MARK = b"\xef\xbb\xbf"  # a byte order mark; one at the start of a stream is skipped, any other belongs to its line
_COMPLETED = frozenset({"image_generation.completed", "image_edit.completed"})
_READ = ("usage", "size", "quality", "b64_json")
# The last event of a stream of the Responses API holds all that a body would have held.
_ENDED = frozenset({"response.completed", "response.incomplete", "response.failed"})
_DENSE = 16  # bytes for each line end; in an honest stream a line has more
_EMPTY_LINES = re.compile(rb"[\r\n]{6,}")  # three ends of lines at least: what is after two of them says nothing
_MAX_LINES = 1_000_000  # of one stream; a long text in small pieces has some hundred thousand
_MAX_FIELD = 64  # a field's name
_MAX_NAME = 100  # an event's name


class EventScan:
    """Finds lines, fields and events. `name` is that of the event which is being read.

    Whoever reads them says what to do with a piece of data, at the end of its line, and at the end of an event.
    """

    def __init__(self) -> None:
        self.name = b""
        self._start: bytes | None = b""  # what has come, while it can still be the mark
        self._field = b""  # the begun line's field, without its colon until that has come
        self._in_value = self._at_value = False  # within a value; before its first byte
        self._after_cr = False
        self._blank = True  # nothing of this line has come

    def feed(self, chunk: bytes) -> None:
        if self._start is not None:
            chunk = self._start + chunk
            if len(chunk) < len(MARK) and MARK.startswith(chunk):
                self._start = chunk
                return
            self._start, chunk = None, chunk.removeprefix(MARK)
        for line in chunk.splitlines(keepends=True):
            self.line(line)

    def end(self) -> None:
        """The last event counts without an empty line behind it, as some clients take it: what was said was said."""
        if self._start:  # no more than a beginning of the mark
            self.line(self._start)
        self._start = None
        if not self._blank:
            self._end_line()
        self._end_event()

    def on_data(self, piece: bytes) -> None:
        raise NotImplementedError

    def on_data_end(self) -> None:
        raise NotImplementedError

    def on_event(self) -> None:
        raise NotImplementedError

    # ---- lines ------------------------------------------------------------------------------------------------

    def line(self, piece: bytes) -> None:
        """A line, or what has come of it."""
        if self._after_cr and piece == b"\n":  # the other half of a line's end
            self._after_cr = False
            return
        self._after_cr = piece.endswith(b"\r")
        ended = piece[-1:] in (b"\n", b"\r")
        text = piece.rstrip(b"\r\n") if ended else piece
        if text:
            self._blank = False
            self._text(text)
        if ended:
            self._end_line()

    def _text(self, text: bytes) -> None:
        if not self._in_value:
            name, colon, text = text.partition(b":")
            self._field = (self._field + name)[:_MAX_FIELD]
            if not colon:
                return
            self._in_value = self._at_value = True
        if self._at_value and text:
            self._at_value = False
            text = text.removeprefix(b" ")
            if self._field == b"event":  # the last one counts
                self.name = b""
        if self._field == b"data":
            self.on_data(text)
        elif self._field == b"event":
            self.name = (self.name + text)[:_MAX_NAME]

    def _end_line(self) -> None:
        if self._blank:
            self._end_event()
        elif self._field == b"data":
            self.on_data_end()
        elif self._field == b"event" and (self._at_value or not self._in_value):
            self.name = b""  # without a value
        self._field, self._in_value, self._at_value, self._blank = b"", False, False, True

    def _end_event(self) -> None:
        self.on_event()
        self.name = b""


class EventReader(EventScan):
    """What a stream has said so far. `completed` are the documents of its completed events, `error` of an error,
    `response` what a stream of the Responses API ended with."""

    def __init__(self) -> None:
        super().__init__()
        self.completed: list[Mapping[str, Any]] = []
        self.error: Mapping[str, Any] | None = None
        self.response: Mapping[str, Any] = {}
        self._data = Skeleton()
        self._lines = 0

    def feed(self, chunk: bytes) -> None:
        """What comes after very many lines is not read any more: such a stream has no usage."""
        lines = chunk.count(b"\n") + chunk.count(b"\r")
        if lines > len(chunk) // _DENSE:
            chunk = _EMPTY_LINES.sub(b"\n\n", chunk)
        self._lines += lines
        if self._lines <= _MAX_LINES:
            super().feed(chunk)

    def on_data(self, piece: bytes) -> None:
        self._data.digests = not self.name.endswith(b".partial_image")
        self._data.feed(piece)

    def on_data_end(self) -> None:
        self._data.feed(b"\n")

    def on_event(self) -> None:
        event = self._data.document()
        self._data.reset()
        error = event.get("error")
        if isinstance(error, Mapping) or event.get("type") == "error":
            self.error = error if isinstance(error, Mapping) else event
        elif event.get("type") in _ENDED and isinstance(event.get("response"), Mapping):
            self.response = event["response"]
        elif event.get("type") in _COMPLETED and len(self.completed) < MAX_IMAGES:
            self.completed.append({name: event[name] for name in _READ if name in event})

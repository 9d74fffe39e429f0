"""Server-sent events of an image stream, read while they pass by: how many images were completed, and their usage.

Lines and events may end anywhere between two pieces. Of an event no more is kept than `Skeleton` keeps.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policyguard.request import MAX_IMAGES
from policyguard.wire.skeleton import Skeleton

_COMPLETED = frozenset({"image_generation.completed", "image_edit.completed"})
_READ = ("usage", "size", "quality", "b64_json")
# The last event of a stream of the Responses API holds all that a body would have held.
_ENDED = frozenset({"response.completed", "response.incomplete", "response.failed"})
_MAX_FIELD = 64  # a field's name
_MAX_NAME = 100  # an event's name


class EventReader:
    """What a stream has said so far. `completed` are the documents of its completed events, `error` of an error,
    `response` what a stream of the Responses API ended with."""

    def __init__(self) -> None:
        self.completed: list[Mapping[str, Any]] = []
        self.error: Mapping[str, Any] | None = None
        self.response: Mapping[str, Any] = {}
        self._data = Skeleton()
        self._field = b""  # the begun line's field, without its colon until that has come
        self._name = b""  # the event's
        self._in_value = False
        self._after_cr = False
        self._blank = True  # nothing of this line has come

    def feed(self, chunk: bytes) -> None:
        for line in chunk.splitlines(keepends=True):
            self._line(line)

    def end(self) -> None:
        """The last event counts without an empty line behind it: what was said was said."""
        self._dispatch()

    # ---- lines ------------------------------------------------------------------------------------------------

    def _line(self, piece: bytes) -> None:
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
            self._in_value = True
        if self._field == b"data":
            self._data.feed(text)
        elif self._field == b"event":
            self._name = (self._name + text)[:_MAX_NAME]

    def _end_line(self) -> None:
        if self._blank:
            self._dispatch()
        elif self._field == b"data":
            self._data.feed(b"\n")
        elif self._field == b"event":
            self._data.digests = not self._name.endswith(b".partial_image")
        self._field, self._in_value, self._blank = b"", False, True

    # ---- events -----------------------------------------------------------------------------------------------

    def _dispatch(self) -> None:
        event = self._data.document()
        self._data.reset()
        self._name = b""
        error = event.get("error")
        if isinstance(error, Mapping) or event.get("type") == "error":
            self.error = error if isinstance(error, Mapping) else event
        elif event.get("type") in _ENDED and isinstance(event.get("response"), Mapping):
            self.response = event["response"]
        elif event.get("type") in _COMPLETED and len(self.completed) < MAX_IMAGES:
            self.completed.append({name: event[name] for name in _READ if name in event})

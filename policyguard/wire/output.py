"""The pictures of an answer, whatever form it has: a JSON body, or the events of a stream.

Every text that holds a picture counts, wherever it stands, so that none passes beside the place where one is expected.
What stands at that place and is no picture that can be read is a problem: nobody could look at it.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import orjson

from policyguard.errors import InvalidRequest
from policyguard.request import MAX_INPUT_IMAGES, Answer, InputImage, Output
from policyguard.wire.events import MARK, EventScan
from policyguard.wire.image_header import input_image
from policyguard.wire.own import at

MAX_OUTPUT_BYTES = 64 * 1024 * 1024  # of one answer that is kept while it is looked at
BODY_IMAGES = ("data", "[]", "b64_json")  # where OpenAI's images API has them
EVENT_IMAGES = ("b64_json",)  # of a completed event
_CALL = "image_generation_call"  # what the Responses API calls an image that its tool made
_LEAST = 64  # characters; no picture is shorter
_STARTS = ("iVBORw0KGgo", "/9j/", "UklGR", "R0lGOD", "Qk0", "SUkq", "TU0AK", "AAAA", "PHN2Zy", "PD94bWwg")
_WEB = "data:"


class PicturePlace(NamedTuple):
    """Where an answer has its pictures. `required` false: it may have none, like one of the Responses API."""

    body: tuple[str, ...] = BODY_IMAGES
    event: tuple[str, ...] = EVENT_IMAGES
    required: bool = True


IMAGES_API = PicturePlace()
RESPONSES_API = PicturePlace(
    body=(), event=(), required=False
)  # where they stand in it varies, and it may answer in words


class Kept:
    """A copy of an answer, as large as may be: `body` is None beyond that."""

    def __init__(self, most: int = MAX_OUTPUT_BYTES) -> None:
        self._chunks: list[bytes] | None = []
        self._room = most

    def feed(self, chunk: bytes) -> None:
        self._room -= len(chunk)
        if self._room < 0:
            self._chunks = None
        if self._chunks is not None:
            self._chunks.append(chunk)

    @property
    def body(self) -> bytes | None:
        return None if self._chunks is None else b"".join(self._chunks)


def read_output(
    status: int,
    content_type: str,
    body: bytes | None,
    place: PicturePlace = IMAGES_API,
    *,
    encoded: bool = False,
    partials: bool = False,
) -> Output:
    """What an answer holds. `body` is None where it is larger than may be kept; `encoded`: it is compressed.

    An error answer has no images, and need not have any. Partial images of a stream are left out of the answer, because
    nobody looks at them, unless `partials`.
    """
    answered = status < 400
    required = place.required and answered
    if body is None:
        return Output(problem="too_large", required=required)
    answer = Answer(status=status, content_type=content_type, body=body)
    if encoded:
        return Output(answer=answer, problem="compressed", required=required)
    kind = content_type.partition(";")[0].strip().lower()
    if kind == "text/event-stream":
        texts, unread = _of_events(body, place)
        answer = answer if partials else _without_partials(answer)
    else:
        texts, unread = _of_body(body, place)
    images, unreadable = _pictures(texts)
    problem = "unreadable" if unreadable or (unread and answered) else None
    if len(images) > MAX_INPUT_IMAGES:
        images, problem = images[:MAX_INPUT_IMAGES], "too_many_images"
    return Output(images=images, answer=answer, problem=problem, required=required)


def _without_partials(answer: Answer) -> Answer:
    kept = b"".join(event.raw for event in Events(answer.body).found if not _is_partial(event))
    if kept.startswith(MARK):  # it stood within the stream, where it hides its line; at the start it would not
        kept = b"\n" + kept
    return Answer(status=answer.status, content_type=answer.content_type, body=kept)


def pictures_in(document: Any) -> Iterator[str]:
    """Every text of a JSON value that holds a picture, as base64."""
    return (value for value in _values(document) if isinstance(value, str) and _holds_picture(value))


def _values(document: Any) -> Iterator[Any]:
    """A JSON value with all that is in it."""
    left = [document]
    while left:
        value = left.pop()
        yield value
        if isinstance(value, dict):
            left += value.values()
        elif isinstance(value, list):
            left += value


def _holds_picture(text: str) -> bool:
    if text[:5].lower() == _WEB:
        return text[:11].lower() == "data:image/"
    return len(text) >= _LEAST and text.lstrip().startswith(_STARTS)


# ---- bodies and events ------------------------------------------------------------------------------------

_PicturesFound = tuple[list[str], bool]  # texts, and whether something could not be read


def _of_body(body: bytes, place: PicturePlace) -> _PicturesFound:
    document = _json(body)
    if document is None:
        return [], True
    return _of_document(document, place.body)


def _of_document(document: Any, path: tuple[str, ...]) -> _PicturesFound:
    expected = [*_expected(document, path), *_results(document)]
    texts = [value for value in expected if isinstance(value, str)]
    return [*texts, *pictures_in(document)], len(texts) < len(expected)


def _expected(document: Any, path: tuple[str, ...]) -> Iterator[Any]:
    """What stands at `path` in each element of its last list; None for one that has nothing there."""
    if path:
        end = max((place + 1 for place, key in enumerate(path) if key == "[]"), default=0)
        for element in at(document, path[:end]):
            yield next(at(element, path[end:]), None)


def _results(document: Any) -> Iterator[Any]:
    """What calls of the tool `image_generation` gave, wherever they stand; one that is not done has given nothing."""
    for value in _values(document):
        if isinstance(value, dict) and value.get("type") == _CALL and value.get("result") is not None:
            yield value["result"]


def _of_events(body: bytes, place: PicturePlace) -> _PicturesFound:
    """Partial pictures are not released, so they are not looked at either."""
    texts: list[str] = []
    unread = False
    for event in Events(body).found:
        document = None if _is_partial(event) else event.document
        if document is None:
            continue
        found, wrong = _of_document(document, place.event if _is_completed(event, document) else ())
        texts += found
        unread = unread or wrong
    return texts, unread


def _is_completed(event: StreamEvent, document: Mapping[str, Any]) -> bool:
    return event.name.endswith(b".completed") or str(document.get("type", "")).endswith(".completed")


def _json(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


class StreamEvent(NamedTuple):
    """`raw` are its lines with the empty one behind it, as they came."""

    name: bytes
    data: bytes
    raw: bytes

    @property
    def document(self) -> dict[str, Any] | None:
        document = _json(self.data)
        return document if isinstance(document, dict) else None


class Events(EventScan):
    """Every event of a stream that is there as a whole."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.found: list[StreamEvent] = []
        self._lines: list[bytes] = []
        self._data: list[bytes] = []
        self.feed(body)
        self.end()

    def line(self, piece: bytes) -> None:
        self._lines.append(piece)
        super().line(piece)

    def on_data(self, piece: bytes) -> None:
        self._data.append(piece)

    def on_data_end(self) -> None:
        self._data.append(b"\n")

    def on_event(self) -> None:
        if self._lines:
            data = b"".join(self._data).removesuffix(b"\n")
            self.found.append(StreamEvent(self.name, data, b"".join(self._lines)))
        self._lines, self._data = [], []


def _is_partial(event: StreamEvent) -> bool:
    """A part of a picture, or what cannot be read at all: `[DONE]` and comments pass."""
    if event.name.endswith(b".partial_image"):
        return True
    if event.data.strip() in (b"", b"[DONE]"):
        return False
    document = event.document
    return document is None or str(document.get("type", "")).endswith(".partial_image")


# ---- pictures ---------------------------------------------------------------------------------------------


def _pictures(texts: list[str]) -> tuple[tuple[InputImage, ...], bool]:
    """The pictures, each once, and whether one of the texts is none that can be looked at."""
    found: dict[bytes, InputImage] = {}
    unreadable = False
    for text in dict.fromkeys(texts):
        image = picture(text)
        if image is None:
            unreadable = True
        else:
            found.setdefault(image.data, image)
    return tuple(found.values()), unreadable


def picture(text: str) -> InputImage | None:
    """A picture as base64 or as a data URL; None for what no moderator could look at."""
    encoded = text.partition(",")[2] if text[:5].lower() == _WEB else text
    try:
        return input_image(b64decode("".join(encoded.split()), validate=True))
    except (ValueError, InvalidRequest):
        return None


def images_of(answer: Answer) -> tuple[InputImage, ...]:
    """The pictures of an answer that was kept."""
    return read_output(answer.status, answer.content_type, answer.body, PicturePlace(required=False)).images

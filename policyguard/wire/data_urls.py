"""Pictures within JSON, as `data:` URLs of many megabytes, taken out of the text before it is read; where that is asked
for also the bare base64 of a `result`, as the Responses API writes what it drew.

What is left is short, whatever the pictures weigh: each stands in it as `NaN`, which is no JSON and so cannot come from
a client unnoticed. The original stays as it is, for the parts of it that go on.
"""

from __future__ import annotations

import binascii
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from heapq import merge
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import MAX_INPUT_IMAGES
from policyguard.wire.generations import check_json_type
from policyguard.wire.json_body import parse_object
from policyguard.wire.splice import Changes, joined, splice

MAX_TEXT_BYTES = 1_000_000  # everything but the pictures
MAX_URLS = MAX_INPUT_IMAGES + 1  # and a mask
MAX_URL_CHARS = 20_971_520  # the API's own bound
_OPENS = b'"data:image'
_HEAD = re.compile(rb'"data:image\\?/(?:png|jpe?g|webp);base64,', re.IGNORECASE)
_MARK = b"NaN"
# The value of a `result` that begins like a png, a jpeg or a webp. Written otherwise it stays a text: no picture.
_RESULT = re.compile(rb'"result"\s*:\s*(")(?=iVBORw0KGgo|\\?/9j\\?/|UklGR)')


@dataclass(frozen=True, slots=True)
class DataUrl:
    """One picture: where its text with both quotes is in the original, and its bytes."""

    start: int
    end: int
    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class Lifted:
    """The short text, the pictures in its order, and the way back to the original."""

    original: bytes = field(repr=False)
    text: bytes = field(repr=False)
    urls: tuple[DataUrl, ...]

    def write(self, changes: Changes, known: Collection[Any] = ()) -> tuple[bytes, str]:
        """Body and content type with `changes`, which are those of `splice`, and every other byte as it came."""
        if not changes:
            return self.original, "application/json"
        return joined(self.original, self.spread(splice(self.text, changes, known))), "application/json"

    def spread(self, pieces: Iterable[slice | bytes]) -> list[slice | bytes]:
        """Pieces of the short text as pieces of the original. None of them may begin or end within a mark."""
        ends: list[int] = []
        moved = [0]
        for url in self.urls:
            moved.append(moved[-1] + url.end - url.start - len(_MARK))
            ends.append(url.end - moved[-1])

        def place(at: int) -> int:
            return at + moved[bisect_right(ends, at)]

        return [slice(place(p.start), place(p.stop)) if isinstance(p, slice) else p for p in pieces]


def read_lifted(
    body: bytes, content_type: str, max_text_bytes: int, *, results: bool = False
) -> tuple[Lifted, dict[str, Any]]:
    """A JSON body without its pictures, and what it says with each of them as a `DataUrl`. Raises `InvalidRequest`."""
    check_json_type(content_type)
    lifted = lift(body, results=results)
    if len(lifted.text) > max_text_bytes:
        raise InvalidRequest(f"the body without its images is larger than {max_text_bytes:,} bytes", status=413)
    return lifted, parse_object(lifted.text, lifted.urls)


def lift(body: bytes, *, results: bool = False) -> Lifted:
    """`results`: pictures in bare base64, too. Raises `InvalidRequest` for a picture that cannot be decoded.

    A quote that a backslash escapes is within a text, so nothing begins there. Every other one begins a text where the
    quotes before it come in pairs; else it ends one, and what follows is no JSON.
    """
    pieces: list[memoryview | bytes] = []
    urls: list[DataUrl] = []
    view, kept = memoryview(body), 0
    for start in merge(_data_urls(body), _results(body) if results else ()):
        end = body.find(b'"', start + 1) + 1
        if not end:
            break  # the text does not end: no JSON
        if len(urls) == MAX_URLS:
            raise InvalidRequest(f"at most {MAX_INPUT_IMAGES} input images are possible", param="images")
        if _unpaired(body[kept:start]):
            raise InvalidRequest("the body is no JSON")
        urls.append(DataUrl(start, end, _decoded(body, start, end)))
        pieces += [view[kept:start], _MARK]
        kept = end
    if not urls:
        return Lifted(body, body, ())
    return Lifted(body, b"".join([*pieces, view[kept:]]), tuple(urls))


def _data_urls(body: bytes) -> Iterator[int]:
    """Where the texts begin that are a picture's URL. None begins within another: a picture has no quotes."""
    at = body.find(_OPENS)
    while at >= 0:
        if at < 1 or body[at - 1] != 0x5C:
            yield at
        at = body.find(_OPENS, at + 1)


def _results(body: bytes) -> Iterator[int]:
    """The same of what the Responses API drew before."""
    return (found.start(1) for found in _RESULT.finditer(body))


def _unpaired(piece: bytes) -> bool:
    return piece.replace(rb"\\", b"").replace(rb"\"", b"").count(b'"') % 2 == 1


def _decoded(body: bytes, start: int, end: int) -> bytes:
    if end - start - 2 > MAX_URL_CHARS:
        raise InvalidRequest(f"an image is longer than {MAX_URL_CHARS:,} characters", param="images", status=413)
    begins = start + 1
    if body.startswith(_OPENS, start):
        head = _HEAD.match(body, start, end)
        if head is None:
            raise InvalidRequest("an image must be base64 of png, jpeg or webp", param="images")
        begins = head.end()
    if body.find(b"\\", begins, end) >= 0:  # some write `/` as `\/`
        text = body[begins:end].replace(rb"\/", b"/")
        return _base64(text, 0, len(text) - 1)
    return _base64(body, begins, end - 1)


def _base64(text: bytes, start: int, end: int) -> bytes:
    """Whole groups of four, and padding at the very end only: what some readers skip, others do not."""
    padding = text.find(b"=", start, end)
    if (end - start) % 4 == 0 and (padding < 0 or padding >= end - 2):
        with suppress(ValueError):
            return binascii.a2b_base64(memoryview(text)[start:end], strict_mode=True)
    raise InvalidRequest("an image is no base64", param="images")

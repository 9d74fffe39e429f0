"""Cheap requests that want much of a server: what each kind sends, and what it may be told."""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from PIL import Image

LINE_ENDS = "nothing but line ends"  # the upstream answers this prompt with a stream of these
MARKS = "̈́"  # a mark that decomposes into two
HEALTH = "/healthz"
Answered = frozenset[int]


@dataclass(frozen=True, slots=True)
class Attack:
    """`whole` is a request that is written out and answered with one of `statuses`.

    `open` stays unfinished, `deaf` asks and reads nothing; both are held until all of them are there. `stranger` has
    no key.
    """

    path: str
    body: Callable[[], bytes] = bytes
    content_type: str = "application/json"
    manner: Literal["whole", "open", "deaf"] = "whole"
    method: str = "POST"
    statuses: Answered = frozenset({400})
    stranger: bool = False
    headers: str = ""

    def request(self, host: str, prefix: str, credentials: str) -> bytes:
        """Its bytes, for an API that stands at `prefix`."""
        body = self.body()
        path = self.path if self.path == HEALTH else prefix + self.path
        length = len(body) * 2 if self.manner == "open" else len(body)
        known = "" if self.stranger else credentials
        head = f"{self.method} {path} HTTP/1.1\r\nhost: {host}\r\n{known}{self.headers}"
        if body:
            head += f"content-type: {self.content_type}\r\ncontent-length: {length}\r\n"
        close = "connection: close\r\n" if self.manner == "whole" else ""
        return (head + close + "\r\n").encode() + body


def _asked(**values: object) -> bytes:
    return json.dumps({"prompt": "a cat", **values}).encode()


def _marks() -> bytes:
    return json.dumps({"prompt": "a" + MARKS * 32_000}, ensure_ascii=False).encode()


def _form(picture: bytes) -> bytes:
    part = '--X\r\nContent-Disposition: form-data; name="{}"{}\r\n\r\n'
    image = part.format("image", '; filename="a"\r\nContent-Type: image/png').encode() + picture
    return part.format("prompt", "").encode() + b"a cat\r\n" + image + b"\r\n--X--\r\n"


def _small(form: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30)).save(buffer, form)
    return buffer.getvalue()


@cache
def _jpeg_of_many_segments() -> bytes:
    data, segment = _small("JPEG"), b"Exif\0\0MM\0*\0\0\0\x08" + bytes(65_000)
    block = b"\xff\xe1" + struct.pack(">H", len(segment) + 2) + segment
    return _form(data[:2] + block * 80 + data[2:])


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


@cache
def _png_of_many_chunks() -> bytes:
    data = _small("PNG")
    return _form(data[:33] + _chunk(b"tEXt", b"a\0b") * 200_000 + data[33:])


@cache
def _png_of_zipped_texts() -> bytes:
    data = _small("PNG")
    text = _chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(4_000_000), 9))
    return _form(data[:33] + text * 100 + data[33:])


@cache
def _form_of_many_parts() -> bytes:
    return b'--X\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n' * 50_000 + b"--X--\r\n"


@cache
def _unclaimed() -> bytes:
    return json.dumps({"model": "gpt-6-luna", "input": "[" * 4_000_000}).encode()


@cache
def _deep() -> bytes:
    return b'{"prompt": ' + b"[" * 500_000


GENERATIONS, EDITS, RESPONSES = "/images/generations", "/images/edits", "/responses"
FORM = "multipart/form-data; boundary=X"
ATTACKS: dict[str, Attack] = {
    "combining marks in a prompt": Attack(GENERATIONS, _marks),
    "combining marks of strangers": Attack(GENERATIONS, _marks, stranger=True, statuses=frozenset({401, 403})),
    "combining marks in a path": Attack(
        "/" + "%CD%84" * 5_000, stranger=True, statuses=frozenset({400, 401, 403, 404, 414})
    ),
    "a model of 900 kB": Attack(GENERATIONS, lambda: _asked(model="m" * 900_000)),
    "a size of 900 kB": Attack(GENERATIONS, lambda: _asked(size="1" * 900_000)),
    "JSON half a million deep": Attack(GENERATIONS, _deep),
    "60,000 unknown parameters": Attack(GENERATIONS, lambda: _asked(**{f"p{n}": n for n in range(60_000)})),
    "a JPEG of 80 EXIF segments": Attack(EDITS, _jpeg_of_many_segments, FORM, statuses=frozenset({400, 413})),
    "a PNG of 200,000 chunks": Attack(EDITS, _png_of_many_chunks, FORM),
    "a PNG of 400 MB of zipped texts": Attack(EDITS, _png_of_zipped_texts, FORM, statuses=frozenset({200, 400})),
    "a form of 50,000 parts": Attack(EDITS, _form_of_many_parts, FORM),
    "uploads that do not end": Attack(EDITS, lambda: _form(bytes(100_000)), FORM, "open"),
    "bodies of one byte": Attack(GENERATIONS, lambda: b"{", manner="open"),
    "clients that read nothing": Attack(HEALTH, manner="deaf", method="GET"),
    "a stream of line ends": Attack(
        GENERATIONS, lambda: _asked(prompt=LINE_ENDS, stream=True), statuses=frozenset({200, 502, 503})
    ),
    "a Responses body of 4 MB": Attack(RESPONSES, _unclaimed, statuses=frozenset({200, 400, 403, 404, 413})),
}

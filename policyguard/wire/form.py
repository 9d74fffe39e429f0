"""Multipart forms as an ordered list of parts, each with its own bytes, and back to bytes.

Parsing is python-multipart's; limits and the refusal of what is ambiguous are here. Where a part begins and ends is
found a second time: two readers that differ are no form. What goes on is always a form that is written here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.multipart import MultipartParser

from policyguard.errors import InvalidRequest
from policyguard.wire.form_head import Head, read_head

MAX_PARTS = 200
MAX_HEADER_BYTES = 8_192
MAX_FIELD_BYTES = 200_000  # a prompt of 32,000 characters at most
_CONTENT_TYPE = re.compile(
    r"multipart/form-data[ \t]*;[ \t]*boundary="
    r"(?:([A-Za-z0-9'+_.-]{1,128})|\"([A-Za-z0-9'()+_,./:=?-]{1,128})\")",
    re.IGNORECASE | re.ASCII,
)
_TOKEN = re.compile(r"[A-Za-z0-9'+_.-]+")
_END = re.compile(rb"--(?:\r\n){0,2}")


@dataclass(slots=True)
class FormPart:
    """One part. Without a file name it is a field."""

    head: Head
    data: bytes = field(repr=False)

    @property
    def name(self) -> str:
        return self.head.name

    @property
    def filename(self) -> str | None:
        return self.head.filename

    @property
    def text(self) -> str:
        """A field's text. Raises `InvalidRequest` for what is no UTF-8."""
        try:
            return self.data.decode("ascii" if self.head.ascii else "utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest("a form field is no UTF-8 text") from None


def parse_form(body: bytes, content_type: str) -> tuple[list[FormPart], bytes]:
    """The parts in order, and the boundary. Raises `InvalidRequest`."""
    match = _CONTENT_TYPE.fullmatch(content_type.strip(" \t"))
    if match is None:
        raise InvalidRequest("the content type of a form must be `multipart/form-data; boundary=...` and nothing else")
    boundary = (match[1] or match[2]).encode()
    reader = _FormReader()
    parser = MultipartParser(boundary, reader.callbacks())
    try:
        parser.write(body)
        parser.finalize()
    except InvalidRequest:
        raise
    except Exception:
        raise InvalidRequest("the form cannot be read") from None
    if not reader.ended:
        raise InvalidRequest("the form is cut off")
    _check_lines(reader.parts, body, b"--" + boundary)
    return reader.parts, boundary


def _check_lines(parts: list[FormPart], body: bytes, line: bytes) -> None:
    """The boundary stands before each part and at the end, each time as a line, and nowhere else.

    Many readers look for it anywhere. Raises `InvalidRequest`.
    """
    if body.count(line) != len(parts) + 1:
        raise InvalidRequest("the form holds its boundary where no part begins or ends")
    at = 2 if body.startswith(b"\r\n") else 0
    for part in parts:
        head = line + b"\r\n"
        end = body.find(line, at + len(line))
        if not body.startswith(head, at) or not _is_behind_headers(body, at + len(head), end, part.data):
            raise InvalidRequest("the form cannot be read")
        at = end
    if not body.startswith(line, at) or not _END.fullmatch(body, at + len(line)):  # nothing comes after the last line
        raise InvalidRequest("the form cannot be read")


def _is_behind_headers(body: bytes, at: int, end: int, data: bytes) -> bool:
    """Whether a part, from its first header to the next line, has this data, and a line end behind it."""
    behind = body.find(b"\r\n\r\n", at, end) + 4
    after = behind + len(data)
    return behind >= 4 and after + 2 == end and body.startswith(data, behind) and body.startswith(b"\r\n", after)


def write_form(parts: Iterable[FormPart], forced: Mapping[str, str | None], boundary: bytes) -> tuple[bytes, str]:
    """A form of the parts, and its content type.

    Of the fields in `forced`, those with None are left out, the others are put where they stood, or at the end.
    """
    left = dict(forced)
    written: list[FormPart] = []
    for part in parts:
        if part.name not in forced:
            written.append(part)
        elif (value := left.pop(part.name, None)) is not None:
            written.append(_field(part.name, value))
    written += [_field(name, value) for name, value in left.items() if value is not None]
    pieces = [(part.head.write(), part.data) for part in written]
    boundary = _free(boundary, pieces)
    lines = [piece for head, data in pieces for piece in (b"--", boundary, b"\r\n", head, data, b"\r\n")]
    return b"".join([*lines, b"--", boundary, b"--\r\n"]), _content_type(boundary.decode())


def _field(name: str, value: str) -> FormPart:
    return FormPart(Head(name), value.encode())


def _free(boundary: bytes, pieces: list[tuple[bytes, bytes]]) -> bytes:
    """The client's boundary, longer where what is written here holds it: what it did not hold, it does not now."""
    while any(b"--" + boundary in piece for pair in pieces for piece in pair):
        boundary += b"0"
    return boundary


def _content_type(boundary: str) -> str:
    quote = "" if _TOKEN.fullmatch(boundary) else '"'
    return f"multipart/form-data; boundary={quote}{boundary}{quote}"


class _FormReader:
    """Collects what the parser calls back."""

    def __init__(self) -> None:
        self.parts: list[FormPart] = []
        self.ended = False
        self._head: Head | None = None
        self._chunks: list[bytes] = []
        self._name, self._value = b"", b""
        self._headers: list[tuple[bytes, bytes]] = []

    def callbacks(self) -> Any:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_name,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        if len(self.parts) >= MAX_PARTS:
            raise InvalidRequest(f"the form has more than {MAX_PARTS} parts")
        self._head, self._chunks, self._headers = None, [], []

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._name += data[start:end]
        self._check_header()

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._check_header()

    def _check_header(self) -> None:
        if len(self._name) + len(self._value) > MAX_HEADER_BYTES:
            raise InvalidRequest("a form header is too long")

    def _header_end(self) -> None:
        self._headers.append((self._name.lower(), self._value.strip(b" \t")))
        self._name, self._value = b"", b""

    def _headers_finished(self) -> None:
        self._head = read_head(self._headers)

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _part_end(self) -> None:
        if self._head is None:
            raise InvalidRequest("the form cannot be read")
        part = FormPart(self._head, b"".join(self._chunks))
        if part.filename is None and len(part.data) > MAX_FIELD_BYTES:
            raise InvalidRequest(f"a form field is longer than {MAX_FIELD_BYTES:,} bytes")
        self.parts.append(part)

    def _end(self) -> None:
        self.ended = True

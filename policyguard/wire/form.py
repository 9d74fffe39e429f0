"""Multipart forms as an ordered list of parts, each with its own bytes, and back to bytes.

Parsing is python-multipart's; limits and the refusal of what is ambiguous are here. Where a part begins and ends is
found a second time, so that parts can be left as they came: two readers that differ are no form.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from python_multipart.multipart import MultipartParser, parse_options_header

from policyguard.errors import InvalidRequest

MAX_PARTS = 200
MAX_HEADER_BYTES = 8_192
# Names are read as everybody reads them, or not at all: no second name, no encoded one, no escape in quotes. A file's
# own name decides nothing, so it may be there in both of its spellings.
_DISPOSITION = re.compile(
    rb'form-data; *name=(?:"([A-Za-z0-9_\[\]-]{1,100})"|([A-Za-z0-9_-]{1,100}))'
    rb'(?:; *filename=(?:"([^"\\\r\n]*)"|([A-Za-z0-9._-]{1,200})))?'
    rb"(; *filename\*=[A-Za-z0-9-]{1,20}'[A-Za-z-]{0,20}'[A-Za-z0-9%!#$&+.^_`|~-]{1,1000})?;?",
    re.IGNORECASE,
)
_HEADER_NAME = re.compile(rb"[a-z0-9-]{1,100}")
_HEADER_VALUE = re.compile(rb"[\x20-\x7e\x80-\xff\t]*")
_BOUNDARY = re.compile(rb"[A-Za-z0-9'()+_,./:=?-]{1,70}")
_TYPE = re.compile(rb"[\x20-\x7e]{1,200}")
_TEXT = re.compile(rb'text/plain *(?:; *charset="?(?:utf-?8|us-ascii)"? *)?', re.IGNORECASE)
MAX_FIELD_BYTES = 200_000  # a prompt of 32,000 characters at most


@dataclass(slots=True)
class FormPart:
    """One part. `raw_filename` and `content_type` are as they came; `raw_filename` None is a plain field.

    `place` is where it stands in the body, with the line before it and without the line end behind it.
    """

    name: str = ""
    raw_filename: bytes | None = None
    content_type: bytes | None = None
    data: bytes = field(default=b"", repr=False)
    place: slice = field(default_factory=lambda: slice(0, 0), repr=False)

    @property
    def filename(self) -> str | None:
        return None if self.raw_filename is None else self.raw_filename.decode("utf-8", "replace")

    @property
    def plain_text(self) -> str | None:
        """A field's text; None for a file."""
        return None if self.raw_filename is not None else self.text

    @property
    def text(self) -> str:
        """A field's text. Raises `InvalidRequest` for what is no UTF-8."""
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError:
            raise InvalidRequest("a form field is no UTF-8 text") from None


def parse_form(body: bytes, content_type: str) -> tuple[list[FormPart], bytes]:
    """The parts in order, and the boundary. Raises `InvalidRequest`."""
    kind, options = parse_options_header(content_type.encode("latin-1", "replace"))
    boundary = options.get(b"boundary", b"")
    if kind.lower() != b"multipart/form-data" or not _BOUNDARY.fullmatch(boundary):
        raise InvalidRequest("the content type must be multipart/form-data with a boundary")
    reader = _Reader()
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
    _place(reader.parts, body, b"--" + boundary)
    return reader.parts, boundary


def _place(parts: list[FormPart], body: bytes, line: bytes) -> None:
    """Where each part stands. Raises `InvalidRequest` where the lines between the parts say something else."""
    at = 2 if body.startswith(b"\r\n") else 0
    for part in parts:
        end = body.find(b"\r\n" + line, at)
        head = len(line) + 2
        plain = body[at : at + head] == line + b"\r\n" and end >= 0
        if not plain or not _is_behind_headers(body, at + head, end, part.data):
            raise InvalidRequest("the form cannot be read")
        part.place = slice(at, end)
        at = end + 2
    if body[at:].removesuffix(b"\r\n") != line + b"--":  # nothing comes after the last line
        raise InvalidRequest("the form cannot be read")


def _is_behind_headers(body: bytes, at: int, end: int, data: bytes) -> bool:
    behind = body.find(b"\r\n\r\n", at, end) + 4
    return behind >= 4 and end - behind == len(data) and body.startswith(data, behind)


def write_form(body: bytes, parts: list[FormPart], forced: Mapping[str, str | None], boundary: bytes) -> bytes:
    """`body` with the fields of `forced`: None is taken out, another value put where the old one stood or at the end.

    What is not changed keeps its bytes, headers and all.
    """
    view, left, changed = memoryview(body), dict(forced), False
    pieces: list[bytes | memoryview] = []
    for part in parts:
        if part.name not in forced:
            pieces += [view[part.place], b"\r\n"]
        elif part.name in left and left[part.name] == part.plain_text:
            pieces += [view[part.place], b"\r\n"]
            del left[part.name]
        else:
            changed = True
            pieces += _field(part.name, left.pop(part.name, None), boundary)
    added = [piece for name, value in left.items() for piece in _field(name, value, boundary)]
    if not changed and not added:
        return body
    return b"".join([*pieces, *added, b"--", boundary, b"--\r\n"])


def _field(name: str, value: str | None, boundary: bytes) -> list[bytes]:
    if value is None:
        return []
    head = f'\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return [b"--", boundary, head.encode(), value.encode(), b"\r\n"]


def _check_meaning(part: FormPart) -> None:
    """A field in another character set is another text upstream, and a part of parts is several files."""
    type_ = part.content_type or b"text/plain"
    if part.name.lower() == "_charset_" or (part.raw_filename is None and not _TEXT.fullmatch(type_)):
        raise InvalidRequest("a form field is no UTF-8 text")
    if type_.lower().startswith((b"multipart/", b"message/")):
        raise InvalidRequest("a form part holds parts of its own")


class _Reader:
    """Collects what the parser calls back."""

    def __init__(self) -> None:
        self.parts: list[FormPart] = []
        self.ended = False
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
        self.parts.append(FormPart())
        self._chunks, self._headers = [], []

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
        self._headers.append((self._name.lower(), self._value.strip()))
        self._name, self._value = b"", b""

    def _headers_finished(self) -> None:
        headers = dict(self._headers)
        if len(headers) != len(self._headers):
            raise InvalidRequest("a form part has a header twice")
        if b"content-transfer-encoding" in headers:
            raise InvalidRequest("a form part is encoded, which is not possible here")
        match = _DISPOSITION.fullmatch(headers.get(b"content-disposition", b""))
        type_ = headers.get(b"content-type")
        if match is None or (type_ is not None and not _TYPE.fullmatch(type_)):
            raise InvalidRequest("a form part has no plain name")
        if not all(_HEADER_NAME.fullmatch(name) and _HEADER_VALUE.fullmatch(value) for name, value in self._headers):
            raise InvalidRequest("a form part has a header that is not plain")
        part = self.parts[-1]
        part.name, part.content_type = (match[1] or match[2]).decode(), type_
        part.raw_filename = match[3] if match[4] is None else match[4]
        if part.raw_filename is None and match[5] is not None:
            part.raw_filename = b""
        _check_meaning(part)

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _part_end(self) -> None:
        part = self.parts[-1]
        part.data = b"".join(self._chunks)
        if part.filename is None and len(part.data) > MAX_FIELD_BYTES:
            raise InvalidRequest(f"a form field is longer than {MAX_FIELD_BYTES:,} bytes")

    def _end(self) -> None:
        self.ended = True

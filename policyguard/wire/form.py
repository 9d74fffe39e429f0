"""Multipart forms as an ordered list of parts, kept byte for byte, and back to bytes.

Parsing is python-multipart's; limits and the refusal of what is ambiguous are here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any

from python_multipart.multipart import MultipartParser, parse_options_header

from policyguard.errors import InvalidRequest

MAX_PARTS = 200
MAX_HEADER_BYTES = 8_192
# Names are read as everybody reads them, or not at all: no second name, no encoded one, no quoting.
_DISPOSITION = re.compile(
    rb'form-data; *name="([A-Za-z0-9_\[\]-]{1,100})"(?:; *filename="([^"\\\r\n]*)")?;?', re.IGNORECASE
)
_BOUNDARY = re.compile(rb"[A-Za-z0-9'()+_,./:=?-]{1,70}")
_TYPE = re.compile(rb"[\x20-\x7e]{1,200}")
_TEXT = re.compile(rb'text/plain *(?:; *charset="?(?:utf-?8|us-ascii)"? *)?', re.IGNORECASE)
MAX_FIELD_BYTES = 200_000  # a prompt of 32,000 characters at most


@dataclass(slots=True)
class FormPart:
    """One part. `raw_filename` and `content_type` are as they came; `raw_filename` None is a plain field."""

    name: str = ""
    raw_filename: bytes | None = None
    content_type: bytes | None = None
    data: bytes = field(default=b"", repr=False)

    @property
    def filename(self) -> str | None:
        return None if self.raw_filename is None else self.raw_filename.decode("utf-8", "replace")

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
    return reader.parts, boundary


def write_form(parts: list[FormPart], boundary: bytes) -> tuple[bytes, str]:
    """Body and content type, with the boundary that came: it is in none of the parts that came with it.

    Headers are written anew from what was read, so that no other reader can find another name in them.
    """
    lines: list[bytes] = []
    for part in parts:
        filename = b"" if part.raw_filename is None else b'; filename="' + part.raw_filename + b'"'
        lines += [b"--" + boundary, b'Content-Disposition: form-data; name="' + part.name.encode() + b'"' + filename]
        if part.content_type is not None:
            lines.append(b"Content-Type: " + part.content_type)
        lines += [b"", part.data]
    lines += [b"--" + boundary + b"--", b""]
    return b"\r\n".join(lines), f'multipart/form-data; boundary="{boundary.decode("latin-1")}"'


def plain_part(name: str, value: str) -> FormPart:
    return FormPart(name, data=value.encode())


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
        part = self.parts[-1]
        part.name, part.raw_filename, part.content_type = match[1].decode(), match[2], type_
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

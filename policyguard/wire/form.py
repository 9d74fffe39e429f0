"""Multipart forms as an ordered list of parts, kept byte for byte, and back to bytes.

Parsing is python-multipart's; limits and the refusal of what is ambiguous are here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from python_multipart.multipart import MultipartParser, parse_options_header

from policyguard.errors import InvalidRequest

MAX_PARTS = 200
MAX_HEADER_BYTES = 8_192
MAX_FIELD_BYTES = 200_000  # a prompt of 32,000 characters at most


@dataclass(slots=True)
class FormPart:
    """One part. `headers` are the raw lines without the end, `filename` None for a plain field."""

    name: str = ""
    filename: str | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    data: bytes = field(default=b"", repr=False)

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
    if kind.lower() != b"multipart/form-data" or not 1 <= len(boundary) <= 200:
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
    """Body and content type, with the boundary that came: it is in none of the parts that came with it."""
    lines: list[bytes] = []
    for part in parts:
        lines.append(b"--" + boundary)
        lines += [name + b": " + value for name, value in part.headers]
        lines += [b"", part.data]
    lines += [b"--" + boundary + b"--", b""]
    return b"\r\n".join(lines), f'multipart/form-data; boundary="{boundary.decode("latin-1")}"'


def plain_part(name: str, value: str) -> FormPart:
    header = (b"Content-Disposition", f'form-data; name="{name}"'.encode())
    return FormPart(name, None, [header], value.encode())


class _Reader:
    """Collects what the parser calls back."""

    def __init__(self) -> None:
        self.parts: list[FormPart] = []
        self.ended = False
        self._chunks: list[bytes] = []
        self._name, self._value = b"", b""

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
        self._chunks = []

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
        self.parts[-1].headers.append((self._name, self._value))
        self._name, self._value = b"", b""

    def _headers_finished(self) -> None:
        part = self.parts[-1]
        found = [value for name, value in part.headers if name.lower() == b"content-disposition"]
        if len(found) != 1:
            raise InvalidRequest("a form part needs one content disposition")
        if any(name.lower() == b"content-transfer-encoding" for name, _ in part.headers):
            raise InvalidRequest("a form part is encoded, which is not possible here")
        kind, options = parse_options_header(found[0])
        if kind.lower() != b"form-data" or b"name" not in options or b"filename*" in found[0].lower():
            raise InvalidRequest("a form part has no plain name")
        part.name = options[b"name"].decode("utf-8", "replace")
        filename = options.get(b"filename")
        part.filename = None if filename is None else filename.decode("utf-8", "replace")

    def _data(self, data: bytes, start: int, end: int) -> None:
        self._chunks.append(data[start:end])

    def _part_end(self) -> None:
        part = self.parts[-1]
        part.data = b"".join(self._chunks)
        if part.filename is None and len(part.data) > MAX_FIELD_BYTES:
            raise InvalidRequest(f"a form field is longer than {MAX_FIELD_BYTES:,} bytes")

    def _end(self) -> None:
        self.ended = True

"""A JSON document without its long texts, built while it passes by in pieces of any size.

An image of six megabytes leaves a digest, everything else stays: so `usage` is read wherever it stands, in bounded
memory, and nothing is parsed as a whole.
"""

from __future__ import annotations

import binascii
import hashlib
from typing import Any

import orjson

MAX_TEXT = 4_096  # a longer text is an image, or nothing that is read here
MAX_KEPT = 1_000_000  # of everything else; beyond it nothing is known of a document
_STEP = 256 * 1024
_QUOTE, _BACKSLASH = b'"', 0x5C
DIGEST = "\ue000sha256:"  # begins what stands for a long text that was base64


class Skeleton:
    """One document. `feed` what comes of it, then ask for the `document`; `reset` begins the next one.

    `digests` false: nobody wants to know what the long texts were.
    """

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self.digests = True
        self._small: bytearray | None = bytearray()  # all of it, as long as no text in it can be long
        self._kept = bytearray()
        self._text: _QuotedText | None = None  # the text that is open
        self._lost = False

    def feed(self, piece: bytes) -> None:
        if self._small is not None:
            if len(self._small) + len(piece) <= MAX_TEXT:
                self._small += piece
                return
            before, self._small = bytes(self._small), None
            self._read(before)
        self._read(piece)

    def _read(self, piece: bytes) -> None:
        at = 0
        while at < len(piece) and not self._lost:
            at = self._outside(piece, at) if self._text is None else self._inside(self._text, piece, at)

    def document(self) -> dict[str, Any]:
        """The object, long texts replaced; empty for what is no JSON object, cut off, or too large."""
        if self._lost or self._text is not None:
            return {}
        try:
            value = orjson.loads(self._kept if self._small is None else self._small)
        except orjson.JSONDecodeError:
            return {}
        return value if isinstance(value, dict) else {}

    def _outside(self, piece: bytes, at: int) -> int:
        quote = piece.find(_QUOTE, at)
        end = len(piece) if quote < 0 else quote
        self._keep(piece[at:end])
        if quote < 0:
            return end
        self._text = _QuotedText(self.digests)
        return quote + 1

    def _inside(self, text: _QuotedText, piece: bytes, at: int) -> int:
        end = text.end(piece, at)
        text.feed(piece, at, len(piece) if end < 0 else end)
        if end < 0:
            return len(piece)
        self._keep(_QUOTE + text.value() + _QUOTE)
        self._text = None
        return end + 1

    def _keep(self, data: bytes) -> None:
        self._kept += data
        if len(self._kept) > MAX_KEPT:
            self.reset()
            self._lost = True


class _QuotedText:
    """A text between quotes, as it is escaped: kept while it is short, decoded and hashed once it is long."""

    def __init__(self, digests: bool) -> None:
        self._digests = digests
        self._short = bytearray()
        self._long: _Decoding | None = None
        self._escaped = False  # the next byte belongs to a backslash before it

    def end(self, piece: bytes, at: int) -> int:
        """Where the closing quote is; -1 where it is still to come."""
        start = at + self._escaped
        quote = piece.find(_QUOTE, start)
        while quote >= 0 and _odd_backslashes(piece, start, quote):
            quote = piece.find(_QUOTE, quote + 1)
        self._escaped = quote < 0 and _odd_backslashes(piece, start, len(piece))
        return quote

    def feed(self, piece: bytes, at: int, end: int) -> None:
        if self._long is None:
            room = MAX_TEXT - len(self._short)
            if end - at <= room:
                self._short += piece[at:end]
                return
            self._long = _Decoding(self._digests)
            self._long.feed(bytes(self._short))
        for step in range(at, end, _STEP):
            self._long.feed(piece[step : min(end, step + _STEP)])

    def value(self) -> bytes:
        if self._long is None:
            return bytes(self._short)
        digest = self._long.digest()
        return f"{DIGEST}{digest}".encode() if digest else b""


def _odd_backslashes(piece: bytes, start: int, end: int) -> bool:
    at = end
    while at > start and piece[at - 1] == _BACKSLASH:
        at -= 1
    return (end - at) % 2 == 1


class _Decoding:
    """The digest of what base64 holds, four characters at a time."""

    def __init__(self, wanted: bool) -> None:
        self._hash = hashlib.sha256()
        self._rest = b""
        self._padded = False  # nothing comes after that
        self._valid = wanted

    def feed(self, piece: bytes) -> None:
        if not self._valid or not piece:
            return
        data = self._rest + piece if self._rest else piece
        whole = len(data) - len(data) % 4
        self._rest = data[whole:]
        try:
            decoded = binascii.a2b_base64(memoryview(data)[:whole], strict_mode=True)
        except ValueError:
            decoded, self._valid = b"", False
        self._valid = self._valid and not self._padded
        self._padded = data[whole - 1 : whole] == b"="
        self._hash.update(decoded)

    def digest(self) -> str | None:
        return self._hash.hexdigest() if self._valid and not self._rest else None

"""The size of a PNG, JPEG or WebP from its first bytes, without decoding anything.

What cannot be read is refused; so is what would take too many pixels to decode, whoever decodes it.
"""

from __future__ import annotations

from collections.abc import Callable

from policyguard.errors import InvalidRequest
from policyguard.request import InputImage, Size

MAX_PIXELS = 100_000_000
MAX_EDGE = 16_384
_JPEG_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
_JPEG_SEGMENTS = 4096
_JPEG_BARE = frozenset({0x01, *range(0xD0, 0xD8)})


def input_image(data: bytes, filename: str = "", param: str = "image") -> InputImage:
    """The image with its media type and size, both from its bytes. Raises `InvalidRequest`."""
    for media_type, (starts, size_of) in _FORMATS.items():
        if starts(data):
            size = size_of(data)
            if size is None or 0 in size:
                break
            _check(size, param)
            return InputImage(data, media_type, filename, size)
    raise InvalidRequest(f"`{param}` is no readable png, jpeg or webp", param=param)


def _check(size: Size, param: str) -> None:
    if size.pixels > MAX_PIXELS or size.edge > MAX_EDGE:
        raise InvalidRequest(f"`{param}` has too many pixels", param=param)


def _png(data: bytes) -> Size | None:
    if len(data) < 33 or data[12:16] != b"IHDR" or b"IEND" not in data[-16:]:
        return None
    return Size(int.from_bytes(data[16:20]), int.from_bytes(data[20:24]))


def _jpeg(data: bytes) -> Size | None:
    """Walk the segments to the first frame, which must come to an end; not so far that it could stall anybody."""
    at = 2
    for _ in range(_JPEG_SEGMENTS):
        if at + 9 >= len(data):
            return None
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
        elif marker in _JPEG_BARE:
            at += 2
        elif marker in _JPEG_FRAMES:
            if data.rfind(b"\xff\xd9") < at:
                return None
            return Size(int.from_bytes(data[at + 7 : at + 9]), int.from_bytes(data[at + 5 : at + 7]))
        else:
            at += 2 + max(2, int.from_bytes(data[at + 2 : at + 4]))
    return None


def _webp(data: bytes) -> Size | None:
    if len(data) < 30 or int.from_bytes(data[4:8], "little") + 8 > len(data) + 1:
        return None
    kind = data[12:16]
    if kind == b"VP8X":
        return Size(int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1)
    if kind == b"VP8L" and data[20] == 0x2F:
        bits = int.from_bytes(data[21:25], "little")
        return Size((bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1)
    if kind == b"VP8 " and data[23:26] == b"\x9d\x01\x2a":
        return Size(int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF)
    return None


_FORMATS: dict[str, tuple[Callable[[bytes], bool], Callable[[bytes], Size | None]]] = {
    "image/png": (lambda d: d.startswith(b"\x89PNG\r\n\x1a\n"), _png),
    "image/jpeg": (lambda d: d.startswith(b"\xff\xd8\xff"), _jpeg),
    "image/webp": (lambda d: d.startswith(b"RIFF") and d[8:12] == b"WEBP", _webp),
}

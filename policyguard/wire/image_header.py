"""What a picture is by its own bytes: type, size, one frame, whole. Pillow reads its headers; nothing is decoded.

Who decodes it later is the moderation endpoint and the API, never this process. What Pillow cannot read is refused, and
without Pillow everything is. The work on hostile bytes is bounded by how often Pillow may read, so no clock is needed.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from policyguard.errors import InvalidRequest
from policyguard.request import MAX_INPUT_PIXELS, InputImage, Size

if TYPE_CHECKING:
    from PIL.ImageFile import ImageFile

MAX_EDGE = 16_384
MAX_MASK_BYTES = 50_000_000  # the larger of the two numbers that OpenAI gives
_MORE_READS = 60_000  # for what comes after the header: one read for eight bytes would stall for minutes
_MAX_HEADER_BYTES = 17_000_000  # before the pixels; the largest colour profile that a JPEG can hold has 16.7 million
# Metadata of a JPEG whose pieces Pillow joins one by one (EXIF) or loops over (Photoshop), and how many there may be.
_MAX_PIECES = {b"Exif\0\0": 64, b"8BIM": 2_000}
_ALPHA = frozenset({"RGBA", "LA", "PA"})
MISSING = "pictures cannot be looked at here, so none is let through: `pip install 'policyguard[images]'`"


class _HeaderFormat(NamedTuple):
    """`reads` is how often its header may be read from: three times for a chunk of a PNG (each of which may be
    unpacked), four times for a segment of a JPEG. `header_bytes` is how much of it; None for the whole file."""

    media_type: str
    starts: Callable[[bytes], bool]
    reads: int
    header_bytes: int | None = _MAX_HEADER_BYTES


_PNG = _HeaderFormat("image/png", lambda d: d.startswith(b"\x89PNG\r\n\x1a\n"), 120)
_JPEG = _HeaderFormat("image/jpeg", lambda d: d.startswith(b"\xff\xd8\xff"), 1_200)
_WEBP = _HeaderFormat("image/webp", lambda d: d.startswith(b"RIFF") and d[8:12] == b"WEBP", 20, None)
FORMATS = (_PNG, _JPEG, _WEBP)


class _BrokenHeader(Exception):
    """It is no picture of its format, or not the whole of one."""


class _TooMuch(_BrokenHeader):
    """It has more metadata than any picture needs."""


class _Bounded(io.BytesIO):
    """Bytes that can be read from so many times, and so far, and no more."""

    left = 0
    end: int | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        self.left -= 1
        if self.left < 0:
            raise _BrokenHeader
        found = super().read(size)
        if self.end is not None and self.tell() > self.end:
            raise _TooMuch
        return found


def input_image(data: bytes, filename: str = "", param: str = "image") -> InputImage:
    """The image with its media type and size, both from its bytes. Raises `InvalidRequest`."""
    form, picture = _look(data, param)
    return InputImage(data, form.media_type, filename, Size(*picture.size))


def overlay_image(data: bytes, filename: str, param: str, below: InputImage) -> InputImage:
    """A mask or a markup: a PNG that can be seen through, as large as the first image. Raises `InvalidRequest`.

    A telephone's picture may lie on its side until it is shown, so a size on its side counts as the same.
    """
    form, picture = _look(data, param)
    size = Size(*picture.size)
    if form is not _PNG or not (picture.mode in _ALPHA or "transparency" in picture.info):
        raise InvalidRequest(f"`{param}` must be a png with an alpha channel", param=param)
    if len(data) > MAX_MASK_BYTES:
        raise InvalidRequest(f"`{param}` is larger than {MAX_MASK_BYTES:,} bytes", param=param, status=413)
    if below.size is not None and size not in (below.size, Size(below.size.height, below.size.width)):
        raise InvalidRequest(f"`{param}` must be as large as the first image", param=param)
    return InputImage(data, form.media_type, filename, size)


def media_type(data: bytes) -> str:
    """What the bytes say that they are; empty for none of the three."""
    form = _format(data)
    return form.media_type if form else ""


def _format(data: bytes) -> _HeaderFormat | None:
    return next((form for form in FORMATS if form.starts(data)), None)


def _look(data: bytes, param: str) -> tuple[_HeaderFormat, ImageFile]:
    form = _format(data)
    if form is None:
        raise InvalidRequest(f"`{param}` is no readable png, jpeg or webp", param=param)
    opener = _openers()[form.media_type]
    file = _Bounded(data)
    file.left, file.end = form.reads, form.header_bytes
    try:
        if form is _JPEG and any(data.count(piece, 0, file.end) > most for piece, most in _MAX_PIECES.items()):
            raise _TooMuch
        picture = opener(file)
        file.left, file.end = _MORE_READS, None
        _check(Size(*picture.size), param)
        _WHOLE[form](picture, file, data)
    except InvalidRequest:
        raise
    except _TooMuch as error:
        message = f"`{param}` has too much metadata before its pixels; remove it"
        raise InvalidRequest(message, param=param, status=413) from error
    except Exception as error:  # whatever the reader of a format says to bytes that are none of it
        if type(error).__name__ == "DecompressionBombError":  # Pillow's own bound, which its WebP reader asks first
            raise _too_many_pixels(param) from error
        raise InvalidRequest(f"`{param}` is no readable png, jpeg or webp", param=param) from error
    if getattr(picture, "n_frames", 1) > 1:
        raise InvalidRequest(f"`{param}` has more than one frame, and only the first would be looked at", param=param)
    return form, picture


def _check(size: Size, param: str) -> None:
    if size.pixels > MAX_INPUT_PIXELS or size.edge > MAX_EDGE:
        raise _too_many_pixels(param)


def _too_many_pixels(param: str) -> InvalidRequest:
    return InvalidRequest(f"`{param}` has too many pixels", param=param)


@cache
def _openers() -> dict[str, Callable[[io.BytesIO], ImageFile]]:
    """The readers of the three formats and no other; raises where there is no Pillow."""
    try:
        from PIL.JpegImagePlugin import JpegImageFile
        from PIL.PngImagePlugin import PngImageFile
        from PIL.WebPImagePlugin import WebPImageFile
    except ImportError as error:
        raise InvalidRequest(MISSING, param="image", status=503) from error

    class Jpeg(JpegImageFile):
        """The first picture of a file; what a telephone appends (a film, a depth map) is no frame of it."""

        def _read_dpi_from_exif(self) -> None:
            """Not needed, and a hostile EXIF block takes seconds and prints thousands of warnings."""

    return {"image/png": PngImageFile, "image/jpeg": Jpeg, "image/webp": WebPImageFile}


# ---- whole ------------------------------------------------------------------------------------------------


def _whole_png(picture: ImageFile, file: io.BytesIO, data: bytes) -> None:
    """Every checksum, to the last chunk; its own checksum is all that may follow."""
    picture.verify()
    if len(data) - file.tell() != 4:
        raise _BrokenHeader


def _whole_jpeg(picture: ImageFile, file: io.BytesIO, data: bytes) -> None:
    """The end comes after the frame. That of a thumbnail comes before."""
    if data.find(b"\xff\xd9", file.tell()) < 0:
        raise _BrokenHeader


def _whole_webp(picture: ImageFile, file: io.BytesIO, data: bytes) -> None:
    """As long as it says, give or take the byte that makes it even."""
    if not 0 <= len(data) - 8 - int.from_bytes(data[4:8], "little") <= 1:
        raise _BrokenHeader


_WHOLE: dict[_HeaderFormat, Callable[[ImageFile, io.BytesIO, bytes], None]] = {
    _PNG: _whole_png,
    _JPEG: _whole_jpeg,
    _WEBP: _whole_webp,
}

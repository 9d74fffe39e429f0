"""Hostile and cut JPEGs: the walk to the frame is bounded, and a picture without its end is refused."""

from __future__ import annotations

import io
import zlib

import pytest
from PIL import Image

from policyguard.errors import InvalidRequest
from policyguard.request import Size
from policyguard.wire.image_header import input_image

START = b"\xff\xd8\xff"


def jpeg(size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", size, "teal").save(buffer, "JPEG", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "segments",
    [b"\xff", b"\xd0\xff", b"\xe0\x00\x02\xff"],
    ids=["fill bytes", "markers without a length", "empty segments"],
)
def test_the_walk_to_the_frame_stops_after_a_fixed_number_of_segments(segments: bytes) -> None:
    """The frame is there, but behind more segments than any camera writes."""
    few, many = START + segments * 100, START + segments * 100_000
    assert input_image(few + jpeg()[3:]).size is not None
    with pytest.raises(InvalidRequest, match="no readable"):
        input_image(many + jpeg()[3:])


def test_a_profile_in_many_pieces_is_walked_over() -> None:
    profile = bytes(255 * 65_519)  # the most that a JPEG can hold
    assert input_image(jpeg((40, 30), icc_profile=profile)).size == Size(40, 30)


def test_fill_bytes_before_a_marker_are_allowed() -> None:
    picture = jpeg()
    assert input_image(picture[:2] + b"\xff" * 50 + picture[2:]).size == Size(40, 30)


@pytest.mark.parametrize("kept", [0.6, 0.9])
def test_a_picture_that_is_cut_off_is_refused(kept: float) -> None:
    picture = jpeg()
    with pytest.raises(InvalidRequest, match="no readable"):
        input_image(picture[: int(len(picture) * kept)])


def test_the_end_of_a_thumbnail_is_not_the_end_of_the_picture() -> None:
    thumbnail = jpeg((8, 8))
    segment = b"\xff\xe1" + (len(thumbnail) + 2).to_bytes(2) + thumbnail
    picture = jpeg()
    whole = picture[:2] + segment + picture[2:]
    assert input_image(whole).size == Size(40, 30)
    with pytest.raises(InvalidRequest, match="no readable"):
        input_image(whole[:-2])


def test_bytes_after_the_end_are_allowed() -> None:
    assert input_image(jpeg() + b"a film that a telephone adds").size == Size(40, 30)


def segments(marker: int, *payloads: bytes) -> bytes:
    """A picture with these segments before its frame."""
    picture = jpeg()
    added = [b"\xff%c%b%b" % (marker, (len(data) + 2).to_bytes(2), data) for data in payloads]
    return picture[:2] + b"".join(added) + picture[2:]


def chunk(kind: bytes, data: bytes) -> bytes:
    return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)


def png(*chunks: bytes) -> bytes:
    """A picture with these chunks before its pixels."""
    buffer = io.BytesIO()
    Image.new("RGB", (40, 30), "teal").save(buffer, "PNG")
    picture = buffer.getvalue()
    at = picture.index(b"IDAT") - 4
    return picture[:at] + b"".join(chunks) + picture[at:]


EXIF = b"Exif\0\0" + bytes(60_000)
RESOURCE = b"8BIM\x04\x04\0\0\0\0\0\0"
TOO_MUCH = {
    "exif in many segments": segments(0xE1, *[EXIF] * 65),
    "a large file of exif segments": segments(0xE1, *[EXIF] * 800),
    "many small resources": segments(0xED, *[b"Photoshop 3.0\0" + RESOURCE * 500] * 5),
    "one large text": png(chunk(b"tEXt", b"k\0" + bytes(17_000_000))),
}


@pytest.mark.parametrize("how", TOO_MUCH)
def test_metadata_that_costs_more_than_its_size_is_refused(how: str) -> None:
    with pytest.raises(InvalidRequest, match="too much metadata") as refused:
        input_image(TOO_MUCH[how])
    assert refused.value.status == 413


def test_many_packed_texts_are_refused_before_they_are_unpacked() -> None:
    packed = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))
    assert input_image(png(packed)).size == Size(40, 30)
    with pytest.raises(InvalidRequest, match="no readable"):
        input_image(png(*[packed] * 60))


def test_the_metadata_that_cameras_and_editors_write_passes() -> None:
    honest = [
        segments(0xE1, EXIF, *[b"http://ns.adobe.com/xmp/extension/\0" + bytes(65_000)] * 60),
        segments(0xED, *[b"Photoshop 3.0\0" + RESOURCE * 100] * 10),
        png(*[chunk(b"tEXt", b"k\0v")] * 25, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + bytes(900_000))),
    ]
    assert [input_image(picture).size for picture in honest] == [Size(40, 30)] * 3

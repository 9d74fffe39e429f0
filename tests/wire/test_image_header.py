"""Hostile and cut JPEGs: the walk to the frame is bounded, and a picture without its end is refused."""

from __future__ import annotations

import io

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

"""What passes for a picture: what its bytes are decides; one frame, whole, small enough before it is decoded."""

from __future__ import annotations

import contextlib
import io
import struct
import sys
import tracemalloc
import zlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from patience import cpu_s
from PIL import Image

from policyguard.errors import InvalidRequest
from policyguard.request import InputImage, Size
from policyguard.wire import image_header
from policyguard.wire.image_header import MISSING, input_image, overlay_image


def made(form: str, mode: str = "RGB", size: tuple[int, int] = (40, 30), **options: object) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size).save(buffer, form, **options)
    return buffer.getvalue()


def moving(form: str, frames: int = 2, **options: object) -> bytes:
    """Frames of one file, each of another colour."""
    pictures = [Image.new("RGB", (40, 30), (40 * index, 0, 0)) for index in range(frames)]
    buffer = io.BytesIO()
    pictures[0].save(buffer, form, save_all=True, append_images=pictures[1:], **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, rows: bytes = b"", *before: bytes) -> bytes:
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0))
    start = b"\x89PNG\r\n\x1a\n" + head + b"".join(before)
    return start + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def jpeg_of(width: int, height: int) -> bytes:
    """A small JPEG whose header says that it is another size."""
    data = bytearray(made("JPEG"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def webp_of(width: int, height: int) -> bytes:
    data = made("WEBP", lossless=True)
    bits = int.from_bytes(data[21:25], "little") >> 28 << 28 | (height - 1) << 14 | (width - 1)
    return data[:21] + bits.to_bytes(4, "little") + data[25:]


def exif(tags: int) -> bytes:
    """An EXIF block of that many tags, each of which claims to be larger than the file."""
    rows = b"".join(struct.pack(">HHII", tag + 1, 7, 1 << 30, 8) for tag in range(tags))
    return b"Exif\0\0MM\0*\0\0\0\x08" + struct.pack(">H", tags) + rows + bytes(4)


def bare_jpeg(block: bytes) -> bytes:
    """With this EXIF block, and without the header that says how many dots an inch has."""
    data = made("JPEG")
    rest = data[4 + int.from_bytes(data[4:6]) :]
    return b"\xff\xd8\xff\xe1" + struct.pack(">H", len(block) + 2) + block + rest


PNG, JPEG, WEBP = made("PNG"), made("JPEG"), made("WEBP")
BOMB = png(8944, 8944, bytes(8944 * (8944 // 8 + 1)))  # 80 megapixels
FINE = {
    "png": (PNG, "image/png"),
    "png with transparency": (made("PNG", "RGBA"), "image/png"),
    "png with a palette": (made("PNG", "P"), "image/png"),
    "png of sixteen bits": (made("PNG", "I;16"), "image/png"),
    "png of one colour": (made("PNG", "1"), "image/png"),
    "jpeg": (JPEG, "image/jpeg"),
    "jpeg in grey": (made("JPEG", "L"), "image/jpeg"),
    "jpeg for print": (made("JPEG", "CMYK"), "image/jpeg"),
    "jpeg that loads in steps": (made("JPEG", progressive=True), "image/jpeg"),
    "jpeg with a film behind it": (JPEG + b"ftypmp42" * 1000, "image/jpeg"),
    "jpeg with a second picture, as telephones write it": (moving("MPO"), "image/jpeg"),
    "jpeg with an odd exif block": (bare_jpeg(exif(2_000)), "image/jpeg"),
    "webp": (WEBP, "image/webp"),
    "webp without loss": (made("WEBP", "RGBA", lossless=True), "image/webp"),
    "webp of one frame": (moving("WEBP", 1), "image/webp"),
}
REFUSED = {
    "nothing": b"",
    "a signature alone": PNG[:8],
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
    "html": b"<!doctype html><title>png</title>",
    "html with a png in it": b"<!-- " + PNG + b" -->",
    "a space before a png": b" " + PNG,
    "gif": made("GIF"),
    "a moving gif": moving("GIF"),
    "bmp": made("BMP"),
    "ico": made("ICO", size=(32, 32)),
    "tiff": made("TIFF"),
    "jpeg 2000": made("JPEG2000"),
    "icns": made("ICNS", "RGBA", (64, 64)),
    "a png that says webp": b"RIFF" + PNG[4:8] + b"WEBP" + PNG[12:],
    "a riff that is a sound": b"RIFF" + WEBP[4:8] + b"WAVE" + WEBP[12:],
    "a moving png": moving("PNG"),
    "a moving png beside its picture": moving("PNG", 2, default_image=True),
    "a moving webp": moving("WEBP"),
    "png that is cut": PNG[:-20],
    "png without its end": PNG[:-12],
    "png with a changed byte": PNG[:50] + bytes([PNG[50] ^ 1]) + PNG[51:],
    "png with a page behind it": PNG + b"<script>",
    "png with an archive behind it": PNG + b"PK\x03\x04" + bytes(100),
    "png without a picture": PNG[:33] + PNG[-12:],
    "png of no size": png(0, 10),
    "png of a negative size": png(0xFFFFFFFF, 10),
    "jpeg that is cut": JPEG[:-20],
    "jpeg of no size": jpeg_of(0, 10),
    "jpeg that only begins": JPEG[:100],
    "webp that is cut": WEBP[:-10],
    "webp with a page behind it": WEBP + b"<script>",
    "webp that is longer than it says": WEBP[:4] + (8).to_bytes(4, "little") + WEBP[8:],
}
TOO_MANY_PIXELS = {
    "png": png(30_000, 30_000),
    "png that is a line": png(16_385, 1),
    "jpeg": jpeg_of(65_500, 65_500),
    "webp": webp_of(16_384, 16_384),
}

# What each is told: a case that is refused for another reason proves nothing.
TOLD: dict[str, str] = {
    "nothing": "`image` is no readable png, jpeg or webp",
    "a signature alone": "`image` is no readable png, jpeg or webp",
    "svg": "`image` is no readable png, jpeg or webp",
    "html": "`image` is no readable png, jpeg or webp",
    "html with a png in it": "`image` is no readable png, jpeg or webp",
    "a space before a png": "`image` is no readable png, jpeg or webp",
    "gif": "`image` is no readable png, jpeg or webp",
    "a moving gif": "`image` is no readable png, jpeg or webp",
    "bmp": "`image` is no readable png, jpeg or webp",
    "ico": "`image` is no readable png, jpeg or webp",
    "tiff": "`image` is no readable png, jpeg or webp",
    "jpeg 2000": "`image` is no readable png, jpeg or webp",
    "icns": "`image` is no readable png, jpeg or webp",
    "a png that says webp": "`image` is no readable png, jpeg or webp",
    "a riff that is a sound": "`image` is no readable png, jpeg or webp",
    "a moving png": "`image` has more than one frame, and only the first would be looked at",
    "a moving png beside its picture": "`image` has more than one frame, and only the first would be looked at",
    "a moving webp": "`image` has more than one frame, and only the first would be looked at",
    "png that is cut": "`image` is no readable png, jpeg or webp",
    "png without its end": "`image` is no readable png, jpeg or webp",
    "png with a changed byte": "`image` is no readable png, jpeg or webp",
    "png with a page behind it": "`image` is no readable png, jpeg or webp",
    "png with an archive behind it": "`image` is no readable png, jpeg or webp",
    "png without a picture": "`image` is no readable png, jpeg or webp",
    "png of no size": "`image` is no readable png, jpeg or webp",
    "png of a negative size": "`image` has too many pixels",
    "jpeg that is cut": "`image` is no readable png, jpeg or webp",
    "jpeg of no size": "`image` is no readable png, jpeg or webp",
    "jpeg that only begins": "`image` is no readable png, jpeg or webp",
    "webp that is cut": "`image` is no readable png, jpeg or webp",
    "webp with a page behind it": "`image` is no readable png, jpeg or webp",
    "webp that is longer than it says": "`image` is no readable png, jpeg or webp",
}


@pytest.mark.parametrize("name", FINE)
def test_a_picture_of_one_frame_is_what_its_bytes_are(name: str) -> None:
    data, media_type = FINE[name]
    seen = input_image(data, "holiday.gif")
    assert (seen.media_type, seen.size, seen.filename) == (media_type, Size(40, 30), "holiday.gif")


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_none_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        input_image(REFUSED[name])
    assert (caught.value.status, caught.value.param, caught.value.message) == (400, "image", TOLD[name])


@pytest.mark.parametrize("name", TOO_MANY_PIXELS)
def test_nothing_is_decoded_to_find_that_it_is_too_large(name: str) -> None:
    tracemalloc.start()
    with pytest.raises(InvalidRequest, match="`image` has too many pixels"):
        input_image(TOO_MANY_PIXELS[name])
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1_000_000


def test_a_few_kilobytes_of_eighty_megapixels_are_not_decoded() -> None:
    """They are within what any policy may allow; a policy's own `max_pixels` refuses them."""
    assert len(BOMB) < 12_000
    tracemalloc.start()
    seen = input_image(BOMB)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (seen.size, peak < 1_000_000) == (Size(8944, 8944), True)


UNPACKED = chunk(b"zTXt", b"k\0\0" + zlib.compress(bytes(1_000_000)))
PROFILE = chunk(b"iCCP", b"k\0\0" + zlib.compress(bytes(1_000_000)))
SLOW = {
    "texts that unpack to much": png(8, 8, b"", *[UNPACKED] * 60_000),
    "profiles that unpack to much": png(8, 8, b"", *[PROFILE] * 20_000),
    "chunks without content": png(8, 8, b"", *[chunk(b"tEXt", b"")] * 1_000_000),
    "chunks behind the picture": png(8, 8)[:-12] + chunk(b"IDAT", b"") * 1_000_000 + PNG[-12:],
    "a jpeg of nothing": b"\xff\xd8\xff" + bytes(20_000_000) + JPEG[3:],
    "segments without content": b"\xff\xd8\xff" + b"\xe0\x00\x02\xff" * 5_000_000 + JPEG[3:],
    "fill bytes": b"\xff\xd8\xff" + b"\xff" * 20_000_000 + JPEG[3:],
}


@pytest.fixture(scope="module")
def picture_s() -> float:
    """What Pillow takes to decode one large picture."""
    large = made("PNG", size=(3_840, 3_840))
    return cpu_s(lambda: Image.open(io.BytesIO(large)).load())


@pytest.mark.parametrize("name", SLOW)
def test_hostile_bytes_cost_no_more_than_some_good_pictures(name: str, picture_s: float) -> None:
    """Measured as up to 2; Pillow alone takes as long as for hundreds of them for some of these."""

    def refused() -> None:
        with pytest.raises(InvalidRequest, match="no readable"):
            input_image(SLOW[name])

    assert cpu_s(refused, runs=1) < 15 * picture_s


@given(st.sampled_from([PNG, JPEG, WEBP]), st.binary(max_size=40), st.integers(0, 200), st.integers(0, 40))
def test_no_bytes_escape_with_another_exception(whole: bytes, noise: bytes, at: int, cut: int) -> None:
    with contextlib.suppress(InvalidRequest):
        input_image(whole[:at] + noise + whole[at + cut :])


# ---- masks ------------------------------------------------------------------------------------------------

BELOW = InputImage(b"", "image/jpeg", size=Size(40, 30))
NO_MASKS = {
    "without an alpha channel": PNG,
    "in grey": made("PNG", "L"),
    "of another size": made("PNG", "RGBA", (40, 31)),
    "a webp": made("WEBP", "RGBA"),
    "a jpeg": JPEG,
    "a moving one": moving("PNG"),
    "no picture": b"mask",
}


@pytest.mark.parametrize(
    "data",
    [made("PNG", "RGBA"), made("PNG", "LA"), made("PNG", "P", transparency=0), made("PNG", "RGBA", (30, 40))],
    ids=["colour", "grey", "palette", "on its side"],
)
def test_a_mask_is_a_png_with_alpha_as_large_as_the_first_image(data: bytes) -> None:
    assert overlay_image(data, "m.png", "mask", BELOW).media_type == "image/png"


@pytest.mark.parametrize("name", NO_MASKS)
def test_another_mask_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        overlay_image(NO_MASKS[name], "m.png", "mask", BELOW)
    assert (caught.value.status, caught.value.param) == (400, "mask")


# ---- without Pillow ---------------------------------------------------------------------------------------


@pytest.fixture
def without_pillow(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for name in ("Png", "Jpeg", "WebP"):
        monkeypatch.setitem(sys.modules, f"PIL.{name}ImagePlugin", None)
    image_header._openers.cache_clear()
    yield
    image_header._openers.cache_clear()


@pytest.mark.usefixtures("without_pillow")
def test_without_pillow_no_picture_passes_and_the_answer_says_how_to_get_it() -> None:
    with pytest.raises(InvalidRequest) as caught:
        input_image(PNG)
    assert (caught.value.status, str(caught.value)) == (503, MISSING)
    assert "pip install 'policyguard[images]'" in MISSING

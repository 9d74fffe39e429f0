"""Edits as JSON: which pictures are seen, what is refused, and that every other byte stays."""

from __future__ import annotations

import base64
import contextlib
import io
import json
import re
import tracemalloc
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support import request

from policyguard.errors import InvalidRequest
from policyguard.request import ImageRequest, Size
from policyguard.wire.edits_json import read_json_edit

JSON = "application/json"


def picture(form: str = "PNG", size: tuple[int, int] = (64, 48), mode: str = "RGB", **options: int) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, "teal").save(buffer, form, **options)
    return buffer.getvalue()


def url(data: bytes | None = None, kind: str = "png") -> str:
    return f"data:image/{kind};base64," + base64.b64encode(picture() if data is None else data).decode()


def body(**changes: Any) -> bytes:
    return json.dumps({"prompt": "a hat", "images": [{"image_url": url()}], **changes}).encode()


def read(raw: bytes) -> ImageRequest:
    return read_json_edit(raw, JSON).request


def test_pictures_and_mask_are_seen_with_type_and_size_from_their_bytes() -> None:
    images = [{"image_url": url()}, {"image_url": url(picture("JPEG", (30, 20)), "jpg")}]
    seen = read(body(images=images, mask={"image_url": url(picture(mode="RGBA"))}, n=2))
    assert (seen.operation, seen.prompt, seen.n) == ("edit", "a hat", 2)
    assert [(i.data, i.media_type, i.size) for i in seen.images] == [
        (picture(), "image/png", Size(64, 48)),
        (picture("JPEG", (30, 20)), "image/jpeg", Size(30, 20)),
    ]
    assert seen.mask is not None
    assert (seen.mask.media_type, seen.mask.data) == ("image/png", picture(mode="RGBA"))


def test_a_picture_is_seen_with_escaped_slashes_too() -> None:
    assert read(body().replace(b"/", b"\\/")).images[0].data == picture()


@pytest.mark.parametrize(
    "prompt", ['say "data:image/png;base64,AAAA"', '\\"data:image/png', "data: a chart", "NaN", '"']
)
def test_a_prompt_that_looks_like_a_picture_is_a_prompt(prompt: str) -> None:
    seen = read(body(prompt=prompt))
    assert (seen.prompt, len(seen.images)) == (prompt, 1)


PNG = url()
ONE = {"image_url": PNG}
BAD: dict[str, bytes] = {
    "no images": body(images=None),
    "an empty list": body(images=[]),
    "an object": body(images=ONE),
    "a bare url": body(images=[PNG]),
    "images twice": body()[:-1] + b', "images": []}',
    "seventeen images": body(images=[ONE] * 17),
    "seventeen images and a mask": body(images=[ONE] * 17, mask=ONE),
    "http": body(images=[{"image_url": "http://example.com/a.png"}]),
    "https with a port": body(images=[{"image_url": "https://example.com:443/a.png"}]),
    "another scheme": body(images=[{"image_url": "file:///etc/passwd"}]),
    "a scheme in capitals": body(images=[{"image_url": PNG.replace("data:", "DATA:")}]),
    "a space before it": body(images=[{"image_url": " " + PNG}]),
    "a file id": body(images=[{"file_id": "file-1"}]),
    "both": body(images=[{"image_url": PNG, "file_id": "file-1"}]),
    "a file id that is null": body(images=[{"image_url": PNG, "file_id": None}]),
    "neither": body(images=[{}]),
    "another key": body(images=[{"image_url": PNG, "detail": "high"}]),
    "a list of urls": body(images=[{"image_url": [PNG]}]),
    "an url in an object": body(images=[{"image_url": {"url": PNG}}]),
    "null": body(images=[None]),
    "an escaped scheme": body().replace(b"data:", b"\\u0064ata:"),
    "an escaped type": body().replace(b"image/png", b"im\\u0061ge/png"),
    "an escape within": body().replace(b"base64,", b"base64,\\u0041"),
    "a line break within": body().replace(b"base64,", b"base64,\\n"),
    "not base64": body(images=[{"image_url": "data:image/png,abc"}]),
    "a charset": body(images=[{"image_url": PNG.replace(";base64", ";charset=utf-8;base64")}]),
    "percent signs": body(images=[{"image_url": PNG.replace("+", "%2B") + "%3D"}]),
    "wrong padding": body(images=[{"image_url": PNG.rstrip("=") + "A==="}]),
    "more behind the padding": body(images=[{"image_url": url(b"12") + "AAAA"}]),
    "padding that is too long": body(images=[{"image_url": PNG + "===="}]),
    "padding in the middle": body(images=[{"image_url": url(picture()[:30]) + "====" + url().partition(",")[2]}]),
    "nothing in it": body(images=[{"image_url": "data:image/png;base64,"}]),
    "a gif": body(images=[{"image_url": url(b"GIF89a" + b"0" * 100, "gif")}]),
    "a gif that says png": body(images=[{"image_url": url(b"GIF89a" + b"0" * 100)}]),
    "svg": body(images=[{"image_url": url(b"<svg/>", "svg+xml")}]),
    "a cut picture": body(images=[{"image_url": url(picture()[:40])}]),
    "a text": body(images=[{"image_url": "data:text/plain;base64,aGk="}]),
    "a mask by file id": body(mask={"file_id": "file-1"}),
    "a mask on the web": body(mask={"image_url": "https://example.com/m.png"}),
    "a bare mask": body(mask=PNG),
    "two masks": body(mask=[ONE, ONE]),
    "a mask twice": body(mask=ONE)[:-1] + b', "mask": null}',
    "a picture as prompt": body(prompt=PNG),
    "a prompt in parts": body(prompt=[{"type": "text", "text": "a hat"}]),
    "no prompt": body(prompt=None),
    "a picture as user": body(user=PNG),
    "a picture elsewhere": body(style=PNG),
    "a picture within": body(style={"reference": [PNG]}),
    "a picture as key": body(**{PNG: 1}),
    "not a number": body().replace(b'"a hat"', b"NaN"),
    "not a number beside": body()[:-1] + b', "seed": NaN}',
    "not a number for a picture": body(images=[{"image_url": 0}]).replace(b": 0}", b": NaN}"),
    "not a number and a picture out of place": (
        b'{"prompt": "a"data:image/png;base64,AAAA" ", "images": [{"image_url": NaN}]}'
    ),
    "infinity": body(n=1)[:-1] + b', "seed": Infinity}',
    "an end that does not come": body()[:-4],
    "two objects": body() + body(),
    "a list": b"[" + body() + b"]",
    "nothing": b"",
    "not utf-8": body(prompt="\xe9").replace(b"\\u00e9", b"\xe9"),
    "a byte order mark": b"\xef\xbb\xbf" + body(),
    "half a character": body(prompt="\ud800"),
    "deep": body()[:-1] + b', "x": ' + b"[" * 100 + b"]" * 100 + b"}",
    "a number that is too large": body()[:-1] + b', "seed": ' + b"9" * 50 + b"}",
    "n as text": body(n="2"),
    "n with a fraction": body(n=1.0),
    "n too high": body(n=11),
    "a stream as text": body(stream="true"),
    "a stream as number": body(stream=1),
    "too many partial images": body(stream=True, partial_images=4),
    "partial images as text": body(stream=True, partial_images="2"),
    "a size with a cross": body(size="1024\u00d71024"),
    "a text beside of two megabytes": body(style="x" * 2_000_000),
}

NO_DATA = "`image_url` must be a data URL of a png, jpeg or webp in base64"
NO_ADDRESS = f"{NO_DATA}, or a plain https address of a host that the policy names"
# What each is told: a case that is refused for another reason proves nothing.
TOLD: dict[str, str] = {
    "no images": "`images` must be a list of at least one image",
    "an empty list": "`images` must be a list of at least one image",
    "an object": "`images` must be a list of at least one image",
    "a bare url": "an image has exactly one key, `image_url`",
    "images twice": "a key is there twice",
    "seventeen images": "at most 16 input images are possible",
    "seventeen images and a mask": "at most 16 input images are possible",
    "http": NO_ADDRESS,
    "https with a port": NO_ADDRESS,
    "another scheme": NO_ADDRESS,
    "a scheme in capitals": NO_ADDRESS,
    "a space before it": NO_ADDRESS,
    "a file id": "an image by `file_id` cannot be looked at; send it as a data URL",
    "both": "an image has exactly one key, `image_url`",
    "a file id that is null": "an image has exactly one key, `image_url`",
    "neither": "an image has exactly one key, `image_url`",
    "another key": "an image has exactly one key, `image_url`",
    "a list of urls": NO_DATA,
    "an url in an object": NO_DATA,
    "null": "an image has exactly one key, `image_url`",
    "an escaped scheme": NO_ADDRESS,
    "an escaped type": NO_ADDRESS,
    "an escape within": "an image is no base64",
    "a line break within": "an image is no base64",
    "not base64": "an image must be base64 of png, jpeg or webp",
    "a charset": "an image must be base64 of png, jpeg or webp",
    "percent signs": "an image is no base64",
    "wrong padding": "an image is no base64",
    "more behind the padding": "an image is no base64",
    "padding that is too long": "an image is no base64",
    "padding in the middle": "an image is no base64",
    "nothing in it": "`images` is no readable png, jpeg or webp",
    "a gif": "an image must be base64 of png, jpeg or webp",
    "a gif that says png": "`images` is no readable png, jpeg or webp",
    "svg": "an image must be base64 of png, jpeg or webp",
    "a cut picture": "`images` is no readable png, jpeg or webp",
    "a text": NO_ADDRESS,
    "a mask by file id": "an image by `file_id` cannot be looked at; send it as a data URL",
    "a mask on the web": "a mask must be a data URL: elsewhere it could not be compared with its image",
    "a bare mask": "an image has exactly one key, `image_url`",
    "two masks": "an image has exactly one key, `image_url`",
    "a mask twice": "a key is there twice",
    "a picture as prompt": "an image that is neither in `images` nor the `mask`",
    "a prompt in parts": "`prompt` must be a text that is not empty",
    "no prompt": "`prompt` is missing",
    "a picture as user": "an image that is neither in `images` nor the `mask`",
    "a picture elsewhere": "an image that is neither in `images` nor the `mask`",
    "a picture within": "an image that is neither in `images` nor the `mask`",
    "a picture as key": "the body is no JSON",
    "not a number": "a number is not finite",
    "not a number beside": "a number is not finite",
    "not a number for a picture": "a number is not finite",
    "not a number and a picture out of place": "the body is no JSON",
    "infinity": "a number is not finite",
    "an end that does not come": "the body is no JSON",
    "two objects": "the body is no JSON",
    "a list": "the body must be a JSON object",
    "nothing": "the body is no JSON",
    "not utf-8": "the body is no UTF-8 text",
    "a byte order mark": "the body starts with a byte order mark",
    "half a character": "a text holds half of a surrogate pair",
    "deep": "the body is nested more than 32 deep",
    "a number that is too large": "a whole number is too large",
    "n as text": "`n` must be a whole number from 1 to 10",
    "n with a fraction": "`n` must be a whole number from 1 to 10",
    "n too high": "`n` must be a whole number from 1 to 10",
    "a stream as text": "`stream` must be true or false",
    "a stream as number": "`stream` must be true or false",
    "too many partial images": "`partial_images` must be a whole number from 0 to 3",
    "partial images as text": "`partial_images` must be a whole number from 0 to 3",
    "a size with a cross": "`size` must be `auto` or like `1024x1536`",
    "a text beside of two megabytes": "the body without its images is larger than 1,000,000 bytes",
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_looked_at_or_is_ambiguous_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read(BAD[name])
    assert caught.value.message == TOLD[name]


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("text/plain", "the content type must be application/json"),
        ("application/json; charset=latin-1", "the body must be UTF-8"),
        ("application/json-seq", "the content type must be application/json"),
        ("", "the content type must be application/json"),
    ],
)
def test_only_utf8_json_is_json(kind: str, message: str) -> None:
    with pytest.raises(InvalidRequest, match=re.escape(message)):
        read_json_edit(body(), kind)


def test_a_picture_beyond_the_apis_bound_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="longer than") as caught:
        read(body().replace(b"base64,", b"base64," + b"A" * 21_000_000))
    assert caught.value.status == 413


@given(st.binary(max_size=80), st.integers(0, 400), st.integers(0, 20))
def test_no_bytes_escape_the_reader_with_another_exception(noise: bytes, at: int, cut: int) -> None:
    raw = body(mask=ONE)
    with contextlib.suppress(InvalidRequest):
        read(raw[:at] + noise + raw[at + cut :])


def test_pictures_are_taken_out_before_the_text_is_read_and_copied_once_when_written() -> None:
    """Of twelve megabytes: decoded once for the policy, joined once for the upstream, never a text of their size."""
    photo = picture(size=(1000, 1000), compress_level=0)
    raw = body(images=[{"image_url": url(photo)}] * 3, prompt="ein Hut \u00e9")
    tracemalloc.start()
    parsed = read_json_edit(raw, JSON)
    reading = tracemalloc.get_traced_memory()[1]
    tracemalloc.reset_peak()
    held = tracemalloc.get_traced_memory()[0]
    written = parsed.write(replace(request(n=1), operation="edit", images=parsed.request.images), "sid")[0]
    writing = tracemalloc.get_traced_memory()[1] - held
    tracemalloc.stop()
    assert len(written) > len(raw)
    assert reading < 1.1 * len(raw)
    assert writing < 1.1 * len(raw)

"""What an argument beside the API's own may hold: one table of what passes, one of what does not."""

from __future__ import annotations

import array
import base64
import io
import re
import tempfile
from collections import OrderedDict, namedtuple
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import attrs
import pytest
from PIL import Image
from pydantic import BaseModel

from policyguard.guard.arguments import MAX_BYTES, MAX_TEXT, MAX_VALUES, OPAQUE, problems

Pair = namedtuple("Pair", "label size")


@dataclass
class Style:
    name: str = "plain"
    inside: Any = None
    tags: list[str] = field(default_factory=list)


class Model(BaseModel):
    label: str = "x"
    inside: Any = None


class Open(BaseModel, extra="allow"):
    pass


@attrs.define
class Defined:
    inside: Any = None


class Kind(Enum):
    PLAIN = "plain"
    PICTURE = b"\x89PNG\r\n\x1a\n"


def encoded(format: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), "teal").save(buffer, format)
    return buffer.getvalue()


def numbers() -> Iterator[int]:
    yield 1


class Raises:
    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


PASSES: list[Any] = [
    None,
    True,
    42,
    1.5,
    Decimal("1.2"),
    datetime(2026, 11, 30, tzinfo=UTC),
    timedelta(seconds=1),
    ZoneInfo("UTC"),
    UUID(int=7),
    range(9),
    Kind.PLAIN,
    "",
    "oil on canvas, warm light; 3/4 view",
    "Europe/Berlin",
    "image/png",
    "ratio: 16:9, profile: side, metadata: none",
    "BMW in the rain",
    "internationalization",
    "3f2504e0-4f89-11d3-9a0c-0305e82c3301",
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "not/there/yet.png",
    "山田太郎",
    "x" * MAX_TEXT,
    b"a token",
    ["a", ("b", 3), {"c"}, frozenset({1.0})],
    {"locale": "de", "seen": {"at": datetime(2026, 11, 30, tzinfo=UTC)}},
    OrderedDict(seed=1),
    Style(tags=["a", "b"]),
    Model(inside=Style()),
    Defined(inside=[1, 2]),
    Path("not/there/yet.png"),
    io.BytesIO(),
    io.StringIO(),
]


def named(value: Any) -> str:
    """Without addresses in memory, so that every process collects the same tests."""
    return re.sub("0x[0-9a-fA-F]+", "", f"{value!r:.60}")


@pytest.mark.parametrize("value", PASSES, ids=named)
def test_what_can_be_looked_at_passes(value: Any) -> None:
    assert list(problems(value)) == []


REFUSED: list[tuple[Any, str]] = [
    *(
        (encoded(format)[:size], "picture")
        for format in ("PNG", "JPEG", "GIF", "BMP", "WEBP", "TIFF")
        for size in (16,)
    ),
    (b"\0\0\0\x18ftypheic", "picture"),
    (b"\0\0\0\x20ftypavif", "picture"),
    (bytearray(encoded("BMP")[:20]), "picture"),
    (memoryview(encoded("PNG"))[:20], "picture"),
    (encoded("PNG"), "bytes"),
    (memoryview(array.array("d", [0.0] * 60)), "bytes"),
    (b"\1" * (MAX_BYTES + 1), "bytes"),
    (Kind.PICTURE, "picture"),
    (base64.b64encode(encoded("PNG")).decode(), "picture"),
    (base64.urlsafe_b64encode(encoded("JPEG")).decode()[:100], "picture"),
    (base64.b64encode(encoded("BMP")).decode()[:80], "picture"),
    ("<svg width='8'/>", "picture"),
    ("data:image/png;base64,eA==", "address"),
    ("DATA:,x", "address"),
    ("https://example.com/a.png", "address"),
    ("as in HTTP://example.com/a", "address"),
    ("//example.com/a.png", "address"),
    ("file:/etc/hostname", "address"),
    ("s3://bucket/a.png", "address"),
    ("x" * (MAX_TEXT + 1), "characters"),
    (["x" * 600, "x" * 600], "characters"),
    (list(range(MAX_VALUES)), "values"),
    ({"size": "4096x4096"}, "parameters"),
    ({"options": {"n": 9}}, "parameters"),
    ([{"extra_body": {}}], "parameters"),
    (Pair("x", "4096x4096"), "parameters"),
    ({"first": {"second": [encoded("PNG")]}}, "bytes"),
    ({b"\x89PNG": 1}, "picture"),
    (Style(inside=encoded("BMP")[:20]), "picture"),
    (Style(inside={"quality": "high"}), "parameters"),
    (Model(inside="https://example.com"), "address"),
    (Open(quality="high"), "parameters"),  # type: ignore[call-arg]
    (Defined(inside=Style(inside="data:,x")), "address"),
    (Image.new("RGB", (8, 8)), "picture"),
    (io.BytesIO(encoded("PNG")), "file"),
    (io.BytesIO(b"anything"), "file"),
    (io.StringIO("anything"), "file"),
    (numbers(), "iterator"),
    (iter([1]), "iterator"),
    (map(str, [1]), "iterator"),
    (object(), OPAQUE),
    (array.array("b", [1]), OPAQUE),
    (print, OPAQUE),
    (Style, OPAQUE),
    (Raises(), OPAQUE),
    ([1, {"a": object()}], OPAQUE),
]


@pytest.mark.parametrize(("value", "what"), REFUSED, ids=named)
def test_what_could_bring_a_picture_or_a_parameter_does_not_pass(value: Any, what: str) -> None:
    found = list(problems(value))
    assert found
    assert what in found[0]


def test_numpy_arrays_are_pictures_without_numpy() -> None:
    class Array:
        def __array__(self) -> None: ...

    assert list(problems(Array())) == ["a picture"]


def test_a_collection_that_holds_itself_comes_to_an_end() -> None:
    looped: list[Any] = []
    looped.append({"again": looped})
    assert list(problems(looped)) == [f"more than {MAX_VALUES} values"]


def test_a_file_with_something_in_it_does_not_pass_as_path_text_or_open(tmp_path: Path) -> None:
    full, empty, new = tmp_path / "full", tmp_path / "empty", tmp_path / "new"
    full.write_bytes(b"x")
    empty.touch()
    for form in (Path, str):
        assert list(problems([form(empty), form(new), form(tmp_path)])) == []
        assert list(problems(form(full))) == ["the path of a file"]
    with full.open("rb") as read, new.open("wb") as written, tempfile.TemporaryFile() as scratch:
        assert list(problems(read)) == ["an open file"]
        assert list(problems([written, scratch])) == []
    assert list(problems("/dev/null")) == ["the path of a file"]

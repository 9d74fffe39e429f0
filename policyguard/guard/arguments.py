"""What may stand in an argument of a guarded function that is none of the API's parameters: what can be looked at.

Plain values, short texts, and collections of them pass. What could bring a picture or a parameter past the policy does
not: pictures and files in any form, addresses, parameters in a mapping or an object with fields, and everything else
that nobody can look into. An engineer who knows that nothing of an argument is sent declares it.
"""

from __future__ import annotations

import base64
import dataclasses
import os
import re
from collections.abc import Iterator, Mapping, Set
from datetime import date, time, timedelta, tzinfo
from enum import Enum
from itertools import chain
from numbers import Number
from pathlib import Path
from typing import Any
from uuid import UUID

from policyguard.wire.parameters import KNOWN

MAX_VALUES = 500  # in one argument
MAX_TEXT = 1_000  # characters of text in one argument; a picture has more
MAX_BYTES = 64  # of one value; a token has fewer
OPAQUE = "something that cannot be looked at"

_PLAIN = (Number, date, time, timedelta, tzinfo, UUID, range, type(None))
_LISTS = (list, tuple, set, frozenset, Set)
_PARAMETERS = frozenset(KNOWN) | {"image", "mask", "markup", "extra_body", "extra_query"}
_PICTURE = re.compile(
    rb"\x89PNG|\xff\xd8\xff|GIF8|BM|II[*+]\0|MM\0[*+]|\0\0[\1\2]\0|8BPS|\xff\x0a|\0\0\0\x0cJXL|RIFF.{4}WEBP|.{4}ftyp",
    re.DOTALL,
)
_DRAWING = re.compile(r"\s*<(?:\?xml|svg|!doctype svg)", re.IGNORECASE)
_ADDRESS = re.compile(r"\b[a-z][a-z0-9+.-]*://\S|\b(?:file|blob):\S|\bdata:[\w+.-]*[/;,]|\A\s*//\w", re.IGNORECASE)
_BASE64 = re.compile(r"\s*([A-Za-z0-9+/_-]{16,64})")


def problems(value: Any) -> Iterator[str]:
    """What is in a value that the policy would not see, in a few words; `OPAQUE` for what nobody can look into."""
    waiting, values, characters = [value], 0, 0
    while waiting:
        one = waiting.pop()
        values += 1
        inside = _inside(one)
        if values > MAX_VALUES:
            yield f"more than {MAX_VALUES} values"
            return
        if isinstance(one, str):
            characters += len(one)
            yield from _in_text(str.__str__(one), characters)
        elif isinstance(inside, Mapping):
            if any(isinstance(key, str) and key in _PARAMETERS for key in inside):
                yield "parameters"
            waiting += chain.from_iterable(inside.items())
        elif inside is not None:
            waiting += inside
        else:
            yield from _in_one(one)


def _inside(value: Any) -> Any:
    """What a collection holds: a mapping, or something to go over; None for a single value."""
    if isinstance(value, Enum):
        return (value.value,)
    if isinstance(value, Mapping):
        return value
    fields = _fields(value)
    return value if fields is None and isinstance(value, _LISTS) else fields


def _fields(value: Any) -> Mapping[str, Any] | None:
    """The fields of a dataclass, a pydantic or attrs model or a named tuple; None where it is none of these."""
    kind = type(value)
    if dataclasses.is_dataclass(kind):
        names = [field.name for field in dataclasses.fields(kind)]
    elif isinstance(model := getattr(kind, "model_fields", None), Mapping):
        names = [*model, *(getattr(value, "model_extra", None) or ())]
    elif isinstance(attributes := getattr(kind, "__attrs_attrs__", None), tuple):
        names = [attribute.name for attribute in attributes]
    elif issubclass(kind, tuple) and isinstance(named := getattr(kind, "_fields", None), tuple):
        names = list(named)
    else:
        return None
    return {name: getattr(value, name, None) for name in names}


def _in_text(text: str, characters: int) -> Iterator[str]:
    if _ADDRESS.search(text):
        yield "an address"
    elif _DRAWING.match(text) or _is_encoded_picture(text):
        yield "a picture"
    elif characters > MAX_TEXT:
        yield f"more than {MAX_TEXT:,} characters"
    else:
        yield from _in_path(text)


def _is_encoded_picture(text: str) -> bool:
    found = _BASE64.match(text)
    if found is None:
        return False
    start = found[1].translate(str.maketrans("+/", "-_"))
    return _PICTURE.match(base64.urlsafe_b64decode(start[: len(start) // 4 * 4])) is not None


def _in_path(text: str | bytes) -> Iterator[str]:
    """A file that has something in it. One that is still to be written is the function's own business."""
    try:
        path = Path(os.fsdecode(text)).expanduser()
        if path.exists() and not path.is_dir() and not (path.is_file() and path.stat().st_size == 0):
            yield "the path of a file"
    except (OSError, ValueError, RuntimeError):  # no path, or one that nobody here can read
        return


def _in_one(value: Any) -> Iterator[str]:
    if isinstance(value, _PLAIN):
        return
    if isinstance(value, bytes | bytearray | memoryview):
        yield from _in_bytes(value)
    elif isinstance(value, os.PathLike):
        yield from _in_path(os.fspath(value))
    elif _has(value, "read"):
        if not _is_to_be_written(value):
            yield "an open file"
    elif _has(value, "__array_interface__") or _has(value, "__array__") or _has(value, "_repr_png_"):
        yield "a picture"
    elif _has(value, "__next__") or _has(value, "__anext__"):
        yield "an iterator"
    else:
        yield OPAQUE


def _in_bytes(value: bytes | bytearray | memoryview) -> Iterator[str]:
    if len(value) > MAX_BYTES or (isinstance(value, memoryview) and value.nbytes > MAX_BYTES):
        yield f"more than {MAX_BYTES} bytes"
    elif _PICTURE.match(bytes(value)):
        yield "a picture"


def _has(value: Any, name: str) -> bool:
    try:
        return hasattr(value, name)
    except Exception:  # an object of somebody else's can raise anything
        return False


def _is_to_be_written(file: Any) -> bool:
    try:
        if not file.readable():
            return True
        start = file.tell()
        end = file.seek(0, os.SEEK_END)
        file.seek(start)
    except Exception:  # as above; what cannot be looked at is no place to write to
        return False
    return bool(end == 0)

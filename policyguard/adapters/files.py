"""Images as Python code has them: bytes, paths, open files, and the SDK's tuples of name, content and type."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import InputImage
from policyguard.wire.image_header import input_image

MAX_BYTES = 50_000_000  # the API's own bound on one input image


def holds_picture(value: Any) -> bool:
    """Whether a value is a picture by its first bytes: bytes, a file, the path of one, a data URL, or a collection of
    them. What is empty, to be written or something else is the function's own business."""
    if isinstance(value, Mapping):
        return any(holds_picture(item) for item in value.values())
    if isinstance(value, tuple | list | set | frozenset):
        return any(holds_picture(item) for item in value)
    if isinstance(value, str):
        return value[:11].lower() == "data:image/"
    return _is_picture(_first_bytes(value))


def _is_picture(start: bytes) -> bool:
    return start.startswith((b"\x89PNG", b"\xff\xd8\xff", b"GIF8")) or (start[:4], start[8:12]) == (b"RIFF", b"WEBP")


def _first_bytes(value: Any) -> bytes:
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value[:12])
    try:
        if isinstance(value, os.PathLike):
            with Path(value).open("rb") as file:
                return file.read(12)
        if hasattr(value, "read") and value.seekable():
            return _peek(value)
    except (OSError, ValueError, AttributeError):
        return b""  # not there yet, or not to be read: for output
    return b""


def _peek(file: Any) -> bytes:
    start = file.tell()
    content = file.read(12)
    file.seek(start)
    return content if isinstance(content, bytes) else b""


def read_image(value: Any, param: str) -> InputImage:
    """The image's bytes and size; an open file is left where it was. Raises `InvalidRequest`."""
    name, content = _content(value)
    if not isinstance(content, bytes):
        raise InvalidRequest(f"`{param}` must be bytes, a path or an open binary file", param=param)
    if len(content) > MAX_BYTES:
        raise InvalidRequest(f"`{param}` is larger than {MAX_BYTES:,} bytes", param=param, status=413)
    return input_image(content, name, param)


def _content(value: Any) -> tuple[str, Any]:
    if isinstance(value, tuple):
        name = value[0] if value and isinstance(value[0], str) else ""
        return name, _content(value[1])[1] if len(value) > 1 else None
    if isinstance(value, os.PathLike):
        path = Path(value)
        try:
            with path.open("rb") as file:
                return path.name, file.read(MAX_BYTES + 1)
        except OSError:
            return path.name, None
    if isinstance(value, bytearray):
        return "", bytes(value)
    if hasattr(value, "read"):
        return os.path.basename(str(getattr(value, "name", ""))), _read(value)
    return "", value


def _read(file: Any) -> Any:
    """From where it stands, and back: after a hold the caller sends the same file again."""
    seekable = hasattr(file, "seekable") and file.seekable()
    start = file.tell() if seekable else 0
    content = file.read(MAX_BYTES + 1)
    if seekable:
        file.seek(start)
    return content

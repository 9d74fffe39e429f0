"""Images as Python code has them: bytes, paths, open files, and the SDK's tuples of name, content and type."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import InputImage
from policyguard.wire.image_header import input_image


def holds_picture(value: Any) -> bool:
    """Whether a value could be a picture: bytes, a file to read, or the SDK's tuple around one. A path may be output."""
    if isinstance(value, tuple | list):
        return any(holds_picture(item) for item in value)
    if isinstance(value, io.IOBase):
        return value.readable()
    return isinstance(value, bytes | bytearray | memoryview)


def read_image(value: Any, param: str) -> InputImage:
    """The image's bytes and size. Raises `InvalidRequest`."""
    name, content = _content(value)
    if not isinstance(content, bytes):
        raise InvalidRequest(f"`{param}` must be bytes, a path or an open binary file", param=param)
    return input_image(content, name, param)


def _content(value: Any) -> tuple[str, Any]:
    if isinstance(value, tuple):
        name = value[0] if value and isinstance(value[0], str) else ""
        return name, _content(value[1])[1] if len(value) > 1 else None
    if isinstance(value, os.PathLike):
        path = Path(value)
        try:
            return path.name, path.read_bytes()
        except OSError:
            return path.name, None
    if isinstance(value, bytearray):
        return "", bytes(value)
    if hasattr(value, "read"):
        return os.path.basename(str(getattr(value, "name", ""))), value.read()
    return "", value

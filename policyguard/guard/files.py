"""Images as Python code has them: bytes, paths, open files, and the SDK's tuples of name, content and type.

What a picture is, and whether it may pass, is not known here.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import InputImage
from policyguard.wire.image_header import input_image

MAX_BYTES = 50_000_000  # the API's own bound on one input image


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

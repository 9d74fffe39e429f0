"""A request as WSGI has it: its body, and what the doors read of it, which is an ASGI scope.

Only what WSGI says differently stands here. What is decided about it is shared with ASGI, in `deciding`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any

from policyguard.adapters.body import too_large
from policyguard.errors import InvalidRequest

_CHUNK = 64 * 1024


def scope_of(environ: Mapping[str, Any]) -> dict[str, Any]:
    """The request as an ASGI scope has it; a server has joined what was there twice by then."""
    names = {name[5:]: value for name, value in environ.items() if name.startswith("HTTP_")}
    names |= {name: environ[name] for name in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(name)}
    root, path = (_text(environ.get(name, "")) for name in ("SCRIPT_NAME", "PATH_INFO"))
    address = environ.get("REMOTE_ADDR")
    return {
        "type": "http",
        "method": environ["REQUEST_METHOD"],
        "path": root + path,
        "root_path": root,
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "headers": [(n.replace("_", "-").lower().encode(), v.encode("latin-1")) for n, v in names.items()],
        "client": (address, 0) if address else None,
    }


def _text(latin: str) -> str:
    """WSGI has bytes as Latin-1."""
    return latin.encode("latin-1").decode("utf-8", "replace")


def with_body(environ: Mapping[str, Any], body: bytes) -> dict[str, Any]:
    """What the app reads in place of what the server has: that was read already."""
    kept = {name: value for name, value in environ.items() if name != "HTTP_TRANSFER_ENCODING"}
    read = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "CONTENT_LENGTH": str(len(body))}
    return {**kept, **read}


def read_body(environ: Mapping[str, Any], limit: int) -> bytes:
    """The whole body. Raises `InvalidRequest`: 413, or 400 for one that does not come to an end."""
    declared: str = environ.get("CONTENT_LENGTH") or ""
    if declared.isdecimal():
        if int(declared) > limit:
            raise too_large(limit)
        body = _read(environ["wsgi.input"], int(declared))
        if len(body) < int(declared):
            raise InvalidRequest("the body is shorter than its declared length")
        return body
    if declared or not environ.get("wsgi.input_terminated"):  # nobody can tell where it ends
        return b""
    body = _read(environ["wsgi.input"], limit + 1)
    if len(body) > limit:
        raise too_large(limit)
    return body


def _read(source: Any, most: int) -> bytes:
    chunks: list[bytes] = []
    while most > 0 and (chunk := source.read(min(_CHUNK, most))):
        chunks.append(chunk)
        most -= len(chunk)
    return b"".join(chunks)

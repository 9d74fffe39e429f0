"""The forms in which images can be asked for, each written from the same few parameters."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from PIL import Image
from tool_bodies import MAIN, data_url

BOUNDARY = "one-boundary"
JSON = "application/json"
EDITS = "/images/edits"


@cache
def png(width: int = 64, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "PNG")
    return buffer.getvalue()


@dataclass(frozen=True, kw_only=True)
class Asked:
    """What a caller wants; `more` are parameters by their names in the images API. `picture`: one for the tool, too."""

    prompt: str = "a cat"
    picture: bool = False
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def values(self) -> dict[str, Any]:
        """Everybody asks for less moderation, and nobody gets it."""
        return {"prompt": self.prompt, "moderation": "low", **self.more}


@dataclass(frozen=True, kw_only=True)
class Form:
    """`write` gives the body and its content type. `edits`: a picture goes in. `last` ends its stream."""

    path: str
    write: Callable[[Asked], tuple[bytes, str]]
    edits: bool = False
    last: str | None = None

    @property
    def streams(self) -> bool:
        return self.last is not None


STREAMED: dict[str, Any] = {"stream": True, "partial_images": 1}


def as_json(values: Mapping[str, Any]) -> tuple[bytes, str]:
    return json.dumps(values).encode(), JSON


def as_form(values: Mapping[str, Any], *files: tuple[str, bytes]) -> tuple[bytes, str]:
    lines = []
    for name, value in values.items():
        text = json.dumps(value) if isinstance(value, bool) else str(value)
        lines.append(f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{text}\r\n'.encode())
    for name, data in files:
        head = f'Content-Disposition: form-data; name="{name}"; filename="a.png"\r\nContent-Type: image/png'
        lines.append(f"--{BOUNDARY}\r\n{head}\r\n\r\n".encode() + data + b"\r\n")
    return b"".join(lines) + f"--{BOUNDARY}--\r\n".encode(), f"multipart/form-data; boundary={BOUNDARY}"


def _edit_json(asked: Asked) -> tuple[bytes, str]:
    return as_json({**asked.values, "images": [{"image_url": data_url()}]})


def _input(asked: Asked) -> Any:
    if not asked.picture:
        return asked.prompt
    text = {"type": "input_text", "text": asked.prompt}
    return [{"role": "user", "content": [text, {"type": "input_image", "image_url": data_url(), "detail": "auto"}]}]


def _tool(asked: Asked, **more: Any) -> tuple[bytes, str]:
    """The number of images is that of the tool's calls; everything else is the tool's own."""
    drawn = {name: value for name, value in asked.more.items() if name != "n"}
    tool = {"type": "image_generation", "moderation": "low", **drawn}
    calls = {"max_tool_calls": asked.more["n"]} if "n" in asked.more else {}
    if more:
        tool["partial_images"] = STREAMED["partial_images"]
    return as_json({"model": MAIN, "input": _input(asked), "tools": [tool], **calls, **more})


FORMS: Mapping[str, Form] = {
    "generations": Form(path="/images/generations", write=lambda asked: as_json(asked.values)),
    "generations stream": Form(
        path="/images/generations",
        write=lambda asked: as_json({**asked.values, **STREAMED}),
        last="image_generation.completed",
    ),
    "edits form": Form(path=EDITS, write=lambda asked: as_form(asked.values, ("image", png())), edits=True),
    "edits JSON": Form(path=EDITS, write=_edit_json, edits=True),
    "edits stream": Form(
        path=EDITS,
        write=lambda asked: as_form({**asked.values, **STREAMED}, ("image", png())),
        edits=True,
        last="image_edit.completed",
    ),
    "responses": Form(path="/responses", write=_tool),
    "responses stream": Form(
        path="/responses", write=lambda asked: _tool(asked, stream=True), last="response.completed"
    ),
}

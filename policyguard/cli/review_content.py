"""What a review is about, decrypted for the person who decides: the request with its pictures, or a held answer's.

Pictures are never printed: their type, size and digest stand in their place, and `--save` writes them to a folder.
What else an app reads of its own route's request is shown as well, since the approval covers it.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from policyguard.cli.output import fail

if TYPE_CHECKING:
    from policyguard.flow.steps import ReviewItem
    from policyguard.store import Store

_ENDINGS = {"image/png": "png", "image/jpeg": "jpeg", "image/webp": "webp"}
_ENCODED = re.compile(r"(?:data:[^,]{0,200},)?([A-Za-z0-9+/_-]{64,}={0,2})\s*")  # long base64, for nobody to read


class Picture(NamedTuple):
    """One picture of a request or an answer. With a `url` it is elsewhere, and its bytes are not known."""

    part: str  # `image`, `mask`, `markup`, or `field`: of an own route, where no policy looked at it
    number: int
    media_type: str = ""
    data: bytes = b""
    url: str = ""

    def row(self) -> dict[str, Any]:
        """What may be printed of it."""
        if self.url:
            return {"part": self.part, "url": self.url}
        row = {"part": self.part, "media_type": self.media_type, "bytes": len(self.data), "pixels": _pixels(self.data)}
        return {**row, "sha256": hashlib.sha256(self.data).hexdigest()}

    def name(self, review_id: str) -> str:
        part = self.part if self.part in ("mask", "markup") else self.number
        return f"{review_id}-{part}.{_ENDINGS.get(self.media_type, 'bin')}"


@dataclass(frozen=True, slots=True)
class Shown:
    """`request` is None where it is not kept any more, or where it is `restricted`: never rendered for anybody."""

    request: dict[str, Any] | None
    pictures: tuple[Picture, ...] = ()
    restricted: bool = False


def content(store: Store, item: ReviewItem, by: str) -> Shown:
    """That somebody looked goes into the record. What may be of a category that is never rendered stays closed."""
    if _is_restricted(store, item):
        return Shown(None, restricted=True)
    sealed = store.private(f"{item.kind}:{item.review_id}", by=by, now=datetime.now(UTC))
    if sealed is None:
        return Shown(None)
    return _answer(sealed) if item.kind == "output" else _request(sealed)


def _is_restricted(store: Store, item: ReviewItem) -> bool:
    """By any reason of its decision, those that were only noted included: the review names only those that hold it."""
    from policyguard.flow.inspect import RESTRICTED

    rows = store.events(decision_id=item.decision_id, limit=1_000)
    noted = (reason["id"] for row in rows for reason in row.event.body.get("reasons") or ())
    return any(name.endswith(RESTRICTED) for name in (*item.reasons, *noted))


def _request(sealed: bytes) -> Shown:
    document = orjson.loads(sealed)
    pictures = list(_pictures(document))
    others = {name: _without_bytes(document.get(name), pictures) for name in ("more", "whole") if document.get(name)}
    return _shown({**document, **others}, tuple(pictures))


def _pictures(document: Mapping[str, Any]) -> Iterator[Picture]:
    listed = [("image", image) for image in document.get("images") or ()]
    listed += [(part, document[part]) for part in ("mask", "markup") if document.get(part)]
    for number, (part, image) in enumerate(listed, start=1):
        if "url" in image:
            yield Picture(part, number, url=image["url"])
        else:
            yield Picture(part, number, image["media_type"], base64.b64decode(image["base64"]))


def _without_bytes(value: Any, pictures: list[Picture]) -> Any:
    """The same with a note in the place of each encoded text; where that is a picture, it joins the pictures."""
    from policyguard.wire.image_header import media_type

    if isinstance(value, dict):
        return {name: _without_bytes(each, pictures) for name, each in value.items()}
    if isinstance(value, list):
        return [_without_bytes(each, pictures) for each in value]
    found = _ENCODED.fullmatch(value) if isinstance(value, str) else None
    if found is None:
        return value
    data = _decoded(found[1])
    digest = hashlib.sha256(data).hexdigest()
    if kind := media_type(data):
        pictures.append(Picture("field", len(pictures) + 1, kind, data))
    return f"({kind or 'encoded'}, {len(data)} bytes, sha256 {digest[:12]})"


def _decoded(text: str) -> bytes:
    """As most decoders read it: without its padding, in either alphabet."""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    plain = plain[: len(plain) - (len(plain) % 4 == 1)]
    return base64.b64decode(plain + "=" * (-len(plain) % 4))


def _answer(sealed: bytes) -> Shown:
    from policyguard.flow.inspect import unpacked
    from policyguard.wire.output import images_of

    head, answer = unpacked(sealed)
    if head["restricted"]:
        return Shown(None, restricted=True)
    images = enumerate(images_of(answer), start=1)
    return _shown(head, tuple(Picture("image", number, image.media_type, image.data) for number, image in images))


def _shown(stored: Mapping[str, Any], pictures: tuple[Picture, ...]) -> Shown:
    said = {name: stored[name] for name in ("prompt", "parameters", "caller", "more", "whole") if stored.get(name)}
    return Shown({**said, "images": [picture.row() for picture in pictures]}, pictures)


def _pixels(data: bytes) -> str | None:
    from policyguard.errors import PolicyguardError
    from policyguard.wire.image_header import input_image

    try:
        return str(input_image(data).size)
    except PolicyguardError:  # there is no Pillow here
        return None


def save_pictures(pictures: tuple[Picture, ...], folder: Path, review_id: str) -> list[Path]:
    """Write them for their owner alone; a file that is there already is not written over."""
    written = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for picture in pictures:
            if picture.url:
                continue
            path = folder / picture.name(review_id)
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(picture.data)
            written.append(path)
    except OSError as error:
        fail(f"`{folder}` cannot be written: {(error.strerror or 'unknown').lower()}")
    return written

"""What a review is about, decrypted for the person who decides: the request, and the images of a held answer."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson

from policyguard.cli.output import fail

if TYPE_CHECKING:
    from policyguard.request import InputImage
    from policyguard.steps import ReviewItem
    from policyguard.store import Store


@dataclass(frozen=True, slots=True)
class Shown:
    """`request` is None where it is not kept any more, or where it is `restricted`: never rendered for anybody."""

    request: dict[str, Any] | None
    images: tuple[InputImage, ...] = ()
    restricted: bool = False


def content(store: Store, item: ReviewItem, by: str) -> Shown:
    """That somebody looked goes into the record."""
    sealed = store.private(f"{item.kind}:{item.review_id}", by=by, now=datetime.now(UTC))
    if sealed is None:
        return Shown(None)
    return _answer(sealed) if item.kind == "output" else Shown(_request(sealed))


def _request(sealed: bytes) -> dict[str, Any]:
    """The stored request without its image bytes."""
    request: dict[str, Any] = orjson.loads(sealed)
    for image in [*request.pop("images"), request.pop("mask")]:
        if image is not None:
            kilobytes = len(image["base64"]) * 3 // 4 // 1000
            request.setdefault("images", []).append(f"{image['media_type']}, {kilobytes} kB")
    return request


def _answer(sealed: bytes) -> Shown:
    from policyguard.inspection import unpacked
    from policyguard.wire.output import images_of

    head, answer = unpacked(sealed)
    if head["restricted"]:
        return Shown(None, restricted=True)
    images = images_of(answer)
    listed = [f"{i.media_type}, {i.size}, {len(i.data) // 1000} kB" for i in images]
    return Shown({name: head[name] for name in ("prompt", "parameters", "caller")} | {"images": listed}, images)


def save_images(images: tuple[InputImage, ...], folder: Path, review_id: str) -> list[Path]:
    """Write them for their owner alone; a file that is there already is not written over."""
    written = []
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        for number, image in enumerate(images, start=1):
            path = folder / f"{review_id}-{number}.{image.media_type.removeprefix('image/')}"
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                file.write(image.data)
            written.append(path)
    except OSError as error:
        fail(f"`{folder}` cannot be written: {(error.strerror or 'unknown').lower()}")
    return written

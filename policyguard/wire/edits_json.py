"""`POST /v1/images/edits` as JSON: input images and mask as `data:` URLs.

An image behind a file id cannot be looked at here, so it is refused: nothing that was not seen passes. Neither does one
behind a web address, unless the policy names its host.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import MAX_INPUT_IMAGES, ImageRequest
from policyguard.wire.data_urls import MAX_TEXT_BYTES, DataUrl, Lifted, read_lifted
from policyguard.wire.generations import changed
from policyguard.wire.image_header import overlay_image
from policyguard.wire.parameters import build
from policyguard.wire.remote import image_of


@dataclass(frozen=True, slots=True)
class JsonEdit:
    """A parsed body: the request, and the text that goes on with what was decided."""

    request: ImageRequest
    document: Mapping[str, Any] = field(repr=False)
    lifted: Lifted

    def write(self, request: ImageRequest, safety_identifier: str | None) -> tuple[bytes, str]:
        """Body and content type for the upstream: every byte as it came, but for what is forced."""
        changes = changed(self.document, request, safety_identifier)
        return self.lifted.write(changes, self.document)


def read_json_edit(body: bytes, content_type: str, max_text_bytes: int = MAX_TEXT_BYTES) -> JsonEdit:
    """Raises `InvalidRequest`."""
    lifted, document = read_lifted(body, content_type, max_text_bytes)
    values = {name: value for name, value in document.items() if name not in ("images", "mask")}
    references = _references(document.get("images"))
    urls = [_url(reference, "images") for reference in references]
    mask = _mask(document["mask"]) if document.get("mask") is not None else None
    if sum(isinstance(url, DataUrl) for url in urls) + (mask is not None) != len(lifted.urls):
        raise InvalidRequest("an image that is neither in `images` nor the `mask`", param="images")
    images = tuple(image_of(url, "images") for url in urls)
    request = build(values, "edit", images, overlay_image(mask.data, "", "mask", images[0]) if mask else None)
    return JsonEdit(request, document, lifted)


def _references(images: Any) -> list[Any]:
    if not isinstance(images, list) or not images:
        raise InvalidRequest("`images` must be a list of at least one image", param="images")
    if len(images) > MAX_INPUT_IMAGES:
        raise InvalidRequest(f"at most {MAX_INPUT_IMAGES} input images are possible", param="images")
    return images


def _url(reference: Any, param: str) -> DataUrl | str:
    """The picture of `{"image_url": "data:..."}`, or its address; every other reference is one to what nobody sees."""
    if not isinstance(reference, Mapping) or len(reference) != 1:
        raise InvalidRequest("an image has exactly one key, `image_url`", param=param)
    if "file_id" in reference:
        raise InvalidRequest("an image by `file_id` cannot be looked at; send it as a data URL", param=param)
    url = reference.get("image_url")
    if not isinstance(url, DataUrl | str):
        raise InvalidRequest("`image_url` must be a data URL of a png, jpeg or webp in base64", param=param)
    return url


def _mask(reference: Any) -> DataUrl:
    url = _url(reference, "mask")
    if not isinstance(url, DataUrl):
        raise InvalidRequest(
            "a mask must be a data URL: elsewhere it could not be compared with its image", param="mask"
        )
    return url

"""Real pictures of any size and format, quickly and deterministically: stripes in colours that the prompt picks.

The same request gives the same bytes; no picture is stored in the repository.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

try:
    from PIL import Image, ImageDraw
    from PIL.PngImagePlugin import PngInfo
except ImportError as error:
    raise ImportError("the sandbox needs Pillow: pip install 'policyguard[demo]'") from error

from policyguard.request import Size

# Flat colours are smallest without loss: as WebP some 300 bytes, with loss fifteen times that.
_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "png": {"compress_level": 1},
    "webp": {"lossless": True, "method": 1, "quality": 0},
    "jpeg": {"quality": 60},
}


@lru_cache(maxsize=256)
def picture(seed: str, size: Size, output_format: str, comment: str = "") -> bytes:
    """The bytes of one picture; flat colours, so that it stays small. `comment` stands in it as plain text."""
    colours = hashlib.sha256(seed.encode()).digest()
    image = Image.new("P", size, 0)  # a palette: a third of the bytes to compress
    image.putpalette(colours[:15])
    draw = ImageDraw.Draw(image)
    step = max(1, size.height // 8)
    for number in range(1, 5):
        top = 2 * (number - 1) * step
        draw.rectangle((0, top, size.width, top + step), fill=number)
    if output_format != "png":
        image = image.convert("RGB")
    buffer = io.BytesIO()
    image.save(buffer, output_format.upper(), **_OPTIONS[output_format], **_comment(output_format, comment))
    return buffer.getvalue()


def _comment(output_format: str, text: str) -> dict[str, Any]:
    if not text:
        return {}
    if output_format == "png":
        info = PngInfo()
        info.add_text("Comment", text)
        return {"pnginfo": info}
    return {"comment": text.encode()} if output_format == "jpeg" else {"xmp": text.encode()}

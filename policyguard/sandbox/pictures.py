"""Real pictures of any size and format, quickly and deterministically: stripes in colours that the prompt picks."""

from __future__ import annotations

import hashlib
import io
from functools import lru_cache

try:
    from PIL import Image, ImageDraw
except ImportError as error:
    raise ImportError("the sandbox needs Pillow: pip install 'policyguard[demo]'") from error

from policyguard.request import Size


@lru_cache(maxsize=256)
def picture(seed: str, size: Size, output_format: str) -> bytes:
    """The bytes of one picture; flat colours, so that it stays small."""
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
    options = {"png": {"compress_level": 1}, "webp": {"quality": 60, "method": 0}, "jpeg": {"quality": 60}}
    image.save(buffer, output_format.upper(), **options[output_format])
    return buffer.getvalue()

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
    image = Image.new("RGB", size, tuple(colours[:3]))
    draw = ImageDraw.Draw(image)
    step = max(1, size.height // 8)
    for stripe in range(0, 8, 2):
        colour = tuple(colours[3 + stripe * 3 : 6 + stripe * 3])
        draw.rectangle((0, stripe * step, size.width, stripe * step + step), fill=colour)
    buffer = io.BytesIO()
    options = {"png": {"compress_level": 1}, "webp": {"quality": 60, "method": 0}, "jpeg": {"quality": 60}}
    image.save(buffer, output_format.upper(), **options[output_format])
    return buffer.getvalue()

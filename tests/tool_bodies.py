"""Policies and bodies for the tests of images by the Responses API."""

from __future__ import annotations

import base64
import io
from typing import Any

from PIL import Image
from support import SURFACE

MAIN = "gpt-6-luna"
PRICES = """
version: 1
prices:
  gpt-6-luna:
    {family: text, text_in: $1.25, text_out: $10, status: current, date: 2026-11-01, source: x, confidence: contract}
"""
RESPONSES = SURFACE.replace("POST /v1/images/edits]", "POST /v1/images/edits, POST /v1/responses]") + (
    "  responses: {models: [gpt-6-luna], max_output_tokens: 500}\n"
)


def data_url(color: str = "teal") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), color).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def asked(tool: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    """A plain request; None takes a key out."""
    body = {"model": MAIN, "input": "a cat", "tools": [{"type": "image_generation", **(tool or {})}], **changes}
    return {name: value for name, value in body.items() if value is not None}

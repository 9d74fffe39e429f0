"""What conditions read of a request: each field of the language as Python source over an `ImageRequest`.

The fast form has the source in it, the exact form calls it as a function, so both read the same. What a client did not
say reads as what the API takes it for.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from policyguard.policy.expr.runtime import drawn
from policyguard.request import AUTO

FIELDS: Mapping[str, str] = {
    "operation": "request.operation",
    "prompt": "request.prompt",
    "model": "(request.model or '')",
    "size": "(request.size or '')",
    "width": "drawn(request.size).width",
    "height": "drawn(request.size).height",
    "pixels": "drawn(request.size).pixels",
    "quality": "(request.quality or '')",
    "n": "(request.n or 1)",
    "background": f"(request.background or '{AUTO}')",
    "output_format": "(request.output_format or 'png')",
    "partial_images": "(request.partial_images or 0)",
    "input_images": "len(request.images)",
    "obfuscated": "request.obfuscated",
    "has_mask": "(request.mask is not None)",
}


def _function(source: str) -> Callable[[Any], Any]:
    found: Callable[[Any], Any] = eval(f"lambda request: {source}", {"drawn": drawn, "len": len})  # noqa: S307 - ours
    return found


_READ = {name: _function(source) for name, source in FIELDS.items()}


def field_of(request: Any, name: str) -> Any:
    """Raises `EvaluationError` for a width, a height or pixels of a size that upstream picks."""
    return _READ[name](request)

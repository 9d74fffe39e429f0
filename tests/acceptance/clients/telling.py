"""What the user of a client sees of a refusal: its class, its status and all of its words."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any


def told(call: Callable[[], object]) -> dict[str, Any]:
    """How a call is refused."""
    try:
        call()
    except Exception as error:
        return tell(error)
    raise AssertionError("it was not refused")


def tell(error: Exception) -> dict[str, Any]:
    return {"raised": type(error).__name__, "status": getattr(error, "status_code", None), "said": str(error)}


def show(**found: Any) -> None:
    """The script's answer, as the last line that it prints."""
    print(json.dumps(found))

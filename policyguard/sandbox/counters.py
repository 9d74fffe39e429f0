"""What the sandbox was asked, for tests and the demo: counts, and the parameters as they came. No prompt text."""

from __future__ import annotations

import hashlib
import threading
from collections import Counter, deque
from collections.abc import Mapping, Sequence
from typing import Any

KEPT = 500
_SHOWN = ("model", "size", "quality", "n", "moderation", "safety_identifier", "user")


class Counters:
    """`generations` are the requests, edits included, for which images were made, whoever still listened.

    `edits` are those among them that had input images.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._arrivals = 0  # never reset: a request id stands for one request
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self.paths: Counter[str] = Counter()
            self.generations = 0
            self.edits = 0
            self.images = 0
            self.requests: deque[dict[str, Any]] = deque(maxlen=KEPT)

    def arrived(self, path: str) -> int:
        """Count an arrival; its number makes the request id."""
        with self._lock:
            self.paths[path] += 1
            self._arrivals += 1
            return self._arrivals

    def asked(
        self, path: str, values: Mapping[str, Any], files: Sequence[str], images: int, retry: str | None
    ) -> dict[str, Any]:
        """Note a request for images; `images` and `status` are filled in when they are known.

        `files` names the fields that came beside `values`: input images and the mask.
        """
        prompt = str(values.get("prompt", ""))
        row = {
            "path": path,
            **{name: values.get(name) for name in _SHOWN},
            "fields": sorted({*values, *files}),
            "prompt_sha256": hashlib.sha256(prompt.encode()).hexdigest(),
            "prompt_chars": len(prompt),
            "input_images": images,
            "images": 0,
            "status": None,
            "retry_count": retry,
        }
        with self._lock:
            self.requests.append(row)
        return row

    def made(self, row: dict[str, Any], *, edit: bool, images: int) -> None:
        with self._lock:
            row["images"] = images
            self.generations += 1
            self.edits += edit
            self.images += images

    def data(self) -> dict[str, Any]:
        with self._lock:
            return {
                "generations": self.generations,
                "edits": self.edits,
                "images": self.images,
                "paths": dict(self.paths),
                "requests": list(self.requests),
            }

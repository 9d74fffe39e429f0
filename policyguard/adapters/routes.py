"""Which surface a request belongs to, and what looks like an image route and belongs to none."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from policyguard.policy.model import PolicySet, Route

# Paths that make images, however they are spelt; one that no surface claims is refused.
_IMAGE_ROUTE = re.compile(r"/images/(generations|edits|variations)$")


class Table:
    """The routes of one policy set. Rebuilt when the guard has another set."""

    def __init__(self, policies: PolicySet) -> None:
        self.policies = policies
        self._routes: Mapping[tuple[str, str], tuple[str, Route]] = {
            (route.method, route.path): (name, route)
            for name, policy in policies.surfaces.items()
            for route in policy.routes
        }

    def match(self, method: str, *paths: str) -> tuple[str, Route] | None:
        """Surface and route, by the exact method and the first path that is claimed."""
        return next((found for path in paths if (found := self._routes.get((method, path)))), None)


def paths(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """The path as it came, and as the app routes it: without the root path of a mount or a proxy."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    return (path, path[len(root) :]) if root and path.startswith(f"{root}/") else (path,)


def looks_like_images(path: str) -> bool:
    """Whether some server could take `path` for an image route: after decoding, dots, slashes and case."""
    for _ in range(3):  # decoded more than once by somebody on the way
        path = unquote(path)
    path = path.replace("\\", "/").split(";", 1)[0].split("?", 1)[0].split("\0", 1)[0]
    normal = posixpath.normpath(re.sub("/+", "/", f"/{path}")).lower().strip()
    return _IMAGE_ROUTE.search(normal) is not None

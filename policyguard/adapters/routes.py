"""Which surface a request belongs to, and what looks like an image route and belongs to none."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
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

    def match(self, method: str, path: str) -> tuple[str, Route] | None:
        """Surface and route, by the exact method and path."""
        return self._routes.get((method, path))


def looks_like_images(path: str) -> bool:
    """Whether some server could take `path` for an image route: after decoding, dots, slashes and case."""
    for _ in range(3):  # decoded more than once by somebody on the way
        path = unquote(path)
    path = path.replace("\\", "/").split(";", 1)[0].split("?", 1)[0].split("\0", 1)[0]
    normal = posixpath.normpath(re.sub("/+", "/", f"/{path}")).lower().strip()
    return _IMAGE_ROUTE.search(normal) is not None

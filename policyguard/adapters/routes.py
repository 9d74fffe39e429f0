"""Which surface a request belongs to, and what looks like an image route and belongs to none."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote

from policyguard.policy.model import PolicySet, Route
from policyguard.text.normal import normalize

# Paths that make images, however they are spelt; one that no surface claims is refused.
# What some reader of a path drops: queries, fragments, parameters of a segment, control characters, repeated slashes.
_NOISE = re.compile(r"[?#\0].*|;[^/]*|[\x01-\x20\x7f]|(?<=/)/+", re.DOTALL)
# What is below OpenAI's own paths for images and batches is nobody else's; elsewhere the ending tells.
_IMAGE_ROUTE = re.compile(
    r"/images/(?:generations|edits|variations)(?:/|$)|^(?:/openai)?/v1/(?:images(?:/|$)|batches$)"
)
_RESPONSES = "/v1/responses"
READS = frozenset({"GET", "HEAD", "OPTIONS"})
OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")  # some read the method from there


class Table:
    """The routes of one policy set. Rebuilt when the guard has another set."""

    def __init__(self, policies: PolicySet) -> None:
        self.policies = policies
        self._routes: Mapping[tuple[str, str], tuple[str, Route]] = {
            (route.method, route.path): (name, route)
            for name, policy in policies.surfaces.items()
            for route in policy.routes
        }
        self._normal = frozenset((method, normal(path)) for method, path in self._routes)
        self._paths = frozenset(path for _, path in self._normal)

    def match(self, method: str, *paths: str) -> tuple[str, Route] | None:
        """Surface and route, by the exact method and the first path that is claimed."""
        return next((found for path in paths if (found := self._routes.get((method, path)))), None)

    def evaded(self, method: str, *paths: str, overridden: bool = False) -> bool:
        """Whether what did not match is a claimed route in another spelling, or an image route that nobody claims.

        `overridden`: a header says that the method is another one.
        """
        spelt = map(normal, paths)
        if overridden:
            return any(path in self._paths or _IMAGE_ROUTE.search(path) for path in spelt)
        return any((method, path) in self._normal for path in spelt) or (
            method not in READS and any(map(looks_like_images, paths))
        )


def paths(scope: Mapping[str, Any]) -> tuple[str, ...]:
    """The path as it came, and as the app routes it: without the root path of a mount or a proxy."""
    path: str = scope["path"]
    root = scope.get("root_path", "").rstrip("/")
    return (path, path[len(root) :]) if root and path.startswith(f"{root}/") else (path,)


def looks_like_images(path: str) -> bool:
    """Whether some server could take `path` for one of OpenAI's image routes."""
    return _IMAGE_ROUTE.search(normal(path)) is not None


def looks_like_responses(path: str) -> bool:
    """Whether some server could take `path` for the Responses API, where the body says what is made."""
    return normal(path).endswith(_RESPONSES)


def normal(path: str) -> str:
    """`path` as the most lenient reader takes it: decoded, and without noise, dots, odd slashes and case."""
    for _ in range(3):  # decoded more than once by somebody on the way
        if "%" not in path:
            break
        path = unquote(path)
    if not path.isascii():
        path = normalize("NFKC", path)
    path = _NOISE.sub("", path.replace("\\", "/"))
    return posixpath.normpath(f"/{path}".replace("//", "/")).casefold()

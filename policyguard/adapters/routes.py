"""Which surface a request belongs to, and what looks like an image route and belongs to none.

The table is made once for a policy set, since every request of an app passes through it. Bodies are not read here.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple
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
_UNCLAIMED = "no surface claims this image route"
_OTHERWISE = "a surface claims this route under another path: call it exactly as the policy writes it"
OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")  # some read the method from there


class Routed(NamedTuple):
    """What a request is: `claimed` by a route of a surface; or why it `evades` one, and is refused.

    `is_responses`: it is for the Responses API and nobody claims it, so its body says what is made.
    """

    claimed: tuple[str, Route] | None = None
    evades: str | None = None
    is_responses: bool = False


class RouteTable:
    """The routes of one policy set.

    `root_path` is what the app itself takes off the paths that it gets. None: nobody knows here, so whatever is a
    claimed route but for a beginning could be that route, and is refused.
    """

    def __init__(self, policies: PolicySet, root_path: str | None = None) -> None:
        self.policies = policies
        self._root_path = root_path
        self._routes: Mapping[tuple[str, str], tuple[str, Route]] = {
            (route.method, route.path): (name, route)
            for name, policy in policies.surfaces.items()
            for route in policy.routes
        }
        routes = [(route, normal(route.path)) for _, route in self._routes.values()]
        self._spelt = frozenset((route.method, path) for route, path in routes)
        self._methods = sorted({route.method for route, _ in routes})
        guessed = routes if root_path is None else []
        self._longer: dict[str, tuple[str, ...]] = {}  # what a path with a beginning of its own ends with, by method
        for route, path in guessed:
            if route.shape == "custom":
                self._longer[route.method] = (*self._longer.get(route.method, ()), path.rstrip("/"))
        self._shorter = frozenset(
            (route.method, rest) for route, path in guessed if route.shape != "responses" for rest in _rests(path)
        )
        self._responses = frozenset(
            rest for route, path in guessed if route.shape == "responses" for rest in _rests(path)
        )

    def current(self, policies: PolicySet) -> RouteTable:
        """The table of the policies that are in force: this one, until they are others."""
        return self if policies is self.policies else RouteTable(policies, self._root_path)

    def find(self, scope: Mapping[str, Any]) -> Routed:
        """What an HTTP request is, by its method, path and headers."""
        method, paths = scope["method"], self.paths(scope)
        if (claimed := self.match(method, *paths)) is not None:
            return Routed(claimed=claimed)
        overridden = any(name.lower().decode("latin-1") in OVERRIDES for name, _ in scope["headers"])
        if why := self.evaded(method, *paths, overridden=overridden):
            return Routed(evades=why)
        draws = overridden or method.upper() not in READS
        return Routed(is_responses=draws and self.looks_like_responses(*paths))

    def paths(self, scope: Mapping[str, Any]) -> tuple[str, ...]:
        """The path as it came, and as the app may route it: without the root path of a mount or a proxy, or with it."""
        path: str = scope["path"]
        found = [path]
        for root in (scope.get("root_path", ""), self._root_path or ""):
            if root := root.rstrip("/"):
                found.append(path[len(root) :] if path.startswith(root) else f"{root}{path}")
        return tuple(found)

    def match(self, method: str, *paths: str) -> tuple[str, Route] | None:
        """Surface and route, by the method in any case, as many apps read it, and the first path that is claimed."""
        method = method.upper()
        return next((found for path in paths if (found := self._routes.get((method, path)))), None)

    def evaded(self, method: str, *paths: str, overridden: bool = False) -> str | None:
        """Why what did not match is refused: it can be a claimed route, or is an image route that nobody claims.

        `overridden`: a header says that the method is another one.
        """
        method = method.upper()
        methods = self._methods if overridden else [method]
        if any(self._can_be_claimed(one, normal(path)) for one in methods for path in paths):
            return _OTHERWISE
        drawing = overridden or method not in READS
        return _UNCLAIMED if drawing and any(map(looks_like_images, paths)) else None

    def _can_be_claimed(self, method: str, path: str) -> bool:
        return (
            (method, path) in self._spelt
            or path.endswith(self._longer.get(method, ()))
            or (method, path) in self._shorter
        )

    def looks_like_responses(self, *paths: str) -> bool:
        """Whether one of them could be taken for the Responses API, where the body says what is made."""
        return any(path.endswith(_RESPONSES) or path in self._responses for path in map(normal, paths))


def _rests(path: str) -> Iterator[str]:
    """What is left of a path when its first segments are taken off, one by one."""
    while (start := path.find("/", 1)) > 0:
        path = path[start:]
        yield path


def looks_like_images(path: str) -> bool:
    """Whether some server could take `path` for one of OpenAI's image routes."""
    return _IMAGE_ROUTE.search(normal(path)) is not None


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

"""The proxy: an OpenAI-compatible ASGI app that decides every request for images before it goes upstream.

A key says who asks and for which surfaces; the decision is that of the middleware, by the same code. Only the routes
that are named here are passed on: what else looks like a request for images is refused and recorded, all the rest is
not found.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass

from policyguard.adapters.asgi import ASGIDoor, Guarded, say
from policyguard.adapters.body import AppFailed, ASGIApp, Receive, Scope, Send, respond
from policyguard.adapters.deciding import Claimed
from policyguard.adapters.identity import header, name_in
from policyguard.adapters.room import BODIES_BYTES, REQUESTS, Full, Room, too_many
from policyguard.adapters.routes import normal
from policyguard.decision import Kind, Place, Reason
from policyguard.errors import InvalidRequest, StoreUnavailable
from policyguard.flow.reasons import key_reason, no_surface_reason
from policyguard.flow.refuse import MESSAGES, RETRY_AFTER_S
from policyguard.guard.guard import Guard
from policyguard.logs import say as log_line
from policyguard.policy.model import PolicySet, Route
from policyguard.proxy.addresses import BASE, advice, canonical
from policyguard.proxy.forward import NO_RETRY, Forwarder, ToClient
from policyguard.proxy.key_ring import KeyRing
from policyguard.proxy.models import model_answer
from policyguard.proxy.probe import LOOP, PROBE, REALM, Probe
from policyguard.proxy.upstream import Upstream
from policyguard.request import Caller, Failure
from policyguard.store import ProxyKey
from policyguard.store.db.patience import patience
from policyguard.wire.errors import render_error
from policyguard.wire.forms import MAX_BODY_BYTES, MAX_JSON_BYTES, WireForm
from policyguard.wire.refusals import Rendered

SURFACE = "x-policyguard-surface"
USER = "x-policyguard-user"
_HERE = Place("proxy", 1)


def _route(path: str, shape: WireForm) -> Route:
    return Route(method="POST", path=path, shape=shape, place=_HERE)


# What is decided and passed on. Everything else stays here.
ROUTES: Mapping[str, Route] = {
    route.path: route
    for route in (
        _route(f"{BASE}/images/generations", "generations"),
        _route(f"{BASE}/images/edits", "edits"),
        _route(f"{BASE}/responses", "responses"),
    )
}
MODELS = f"{BASE}/models"
_SERVED = frozenset({*ROUTES, MODELS})
_VERSION = re.compile(rb"api-version=[\w.-]{0,40}", re.ASCII)  # Azure's clients always send it; it changes nothing
# Routes that make images, or can, in whatever spelling.
_IMAGES = re.compile(r"/(images|responses|batches)(?:/|$)")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyLimits:
    """What one process takes: requests in flight, and bytes of all their bodies together, of which one key gets half;
    bytes of headers and of one body; seconds for a body to arrive."""

    requests: int = REQUESTS
    bodies_bytes: int = BODIES_BYTES
    body_bytes: int = MAX_BODY_BYTES
    json_bytes: int = MAX_JSON_BYTES
    header_bytes: int = 32_768
    body_timeout_s: float = 60.0


class Proxy:
    """`pages` answers `open_paths`, without a key, and the lifespan."""

    def __init__(
        self,
        guard: Guard,
        upstream: Upstream,
        *,
        pages: ASGIApp,
        open_paths: frozenset[str],
        limits: ProxyLimits | None = None,
        probe: Probe | None = None,
    ) -> None:
        self.guard = guard
        self.limits = limits or ProxyLimits()
        self._pages, self._open_paths = pages, open_paths
        self._probe = probe
        self._keys = KeyRing(guard.store)
        self._identity: tuple[PolicySet | None, frozenset[bytes]] = (None, frozenset())
        self._door = ASGIDoor(
            app=Forwarder(upstream, self._identity_headers),
            guard=guard,
            name="proxy",
            upstream=upstream.host,
            passes_text=False,
            max_body_bytes=self.limits.body_bytes,
            max_json_bytes=self.limits.json_bytes,
            body_timeout_s=self.limits.body_timeout_s,
        )
        self._room = Room(self.limits.bodies_bytes, self.limits.requests)
        self._in_flight = 0
        self._idle = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] in self._open_paths:
            await self._pages(scope, receive, send)
            return
        if self._in_flight >= self.limits.requests:
            await respond(too_many(), send)
            return
        self._in_flight += 1
        try:
            await self._serve(scope, receive, send)
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()

    async def drained(self, timeout_s: float) -> None:
        """Return when nothing is in flight any more, or when time is over."""
        try:
            async with asyncio.timeout(timeout_s):
                while self._in_flight:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            pass

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.guard.afollow()
        with patience(self.guard.store_timeout_s):  # for its key and its admission, taken together
            await self._known(scope, receive, send)

    async def _known(self, scope: Scope, receive: Receive, send: Send) -> None:
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self.limits.header_bytes:
            await respond(headers_too_large(self.limits.header_bytes), send)
            return
        if self._probe is not None and header(scope["headers"], PROBE) == self._probe.instance:
            await respond(_itself(), send)
            return
        try:
            key = await self._keys.of(scope["headers"])
        except StoreUnavailable:
            await respond(_unavailable(), send)
            return
        if key is None:
            await respond(_wrong_key(), send)
            return
        if self._probe is not None and self._probe.stops:
            await respond(_misconfigured(), send)
            return
        try:
            guest = self._room.enter(key.id)
        except Full:
            await respond(too_many(), send)
            return
        client = ToClient(send)
        try:
            await self._decide(scope, guest.counted(receive), client, key)
        except Full:
            await respond(too_many(), send)
        except Exception as error:
            why = str(error) if isinstance(error, AppFailed) else type(error).__name__
            log_line(logging.ERROR, "proxy.no_answer", "no answer to a request: %s", why, raised=type(error).__name__)
            if not client.started:  # else the server cuts the connection, so that nobody takes what came for all of it
                await respond(_no_answer(error), send)
        finally:
            guest.leave()

    async def _decide(self, scope: Scope, receive: Receive, send: Send, key: ProxyKey) -> None:
        caller = _caller(key, scope, self.guard.policies)
        scope = {**scope, "path": canonical(scope["path"]), "headers": _without(scope["headers"], key.user_header)}
        route = ROUTES.get(scope["path"])
        surface = _surface(key, header(scope["headers"], SURFACE))
        if route is None or route.method != scope["method"].upper():
            await self._elsewhere(scope, send, key, surface, caller)
        elif surface is None:
            await self._refuse(key_reason(key.id, SURFACE), None, caller, send)
        elif scope["query_string"] and not _VERSION.fullmatch(scope["query_string"]):
            await self._refuse(InvalidRequest("this route takes no query"), surface, caller, send)
        else:
            policies, names_user = self.guard.policies, key.names_user
            it = Claimed(
                scope=scope, policies=policies, surface=surface, route=route, caller=caller, names_user=names_user
            )
            await Guarded(self._door, it, receive, send).run()

    async def _elsewhere(self, scope: Scope, send: Send, key: ProxyKey, surface: str | None, caller: Caller) -> None:
        """What is no route of images. What looks like one is recorded, whoever it was who did not find it."""
        path: str = scope["path"]
        if scope["method"] in ("GET", "HEAD") and (path == MODELS or path.startswith(f"{MODELS}/")):
            surfaces = key.surfaces if surface is None else (surface,)
            await respond(model_answer(self.guard.policies, surfaces, path), send)
            return
        right = advice(path, _SERVED)
        if not _IMAGES.search(normal(path)):
            await respond(_not_found(right), send)
        elif right is None:
            await self._refuse(no_surface_reason(), surface, caller, send)
        else:
            refused = await self.guard.areject(
                no_surface_reason(), surface=surface, caller=caller, door=self._door.name
            )
            await respond(_not_found(right, ("x-policyguard-decision", refused.decision.id)), send)

    async def _refuse(self, error: InvalidRequest | Reason, surface: str | None, caller: Caller, send: Send) -> None:
        refused = await self.guard.areject(error, surface=surface, caller=caller, door=self._door.name)
        await say(refused, send, reasons=True)

    def _identity_headers(self) -> frozenset[bytes]:
        """Where the organisation reads identities from: here the key says who asks, and nobody upstream has to know."""
        policies = self.guard.policies
        if self._identity[0] is not policies:
            self._identity = policies, frozenset(f.header.encode() for f in policies.caller if f.header is not None)
        return self._identity[1]


# ---- who ---------------------------------------------------------------------------------------------------


def _caller(key: ProxyKey, scope: Scope, policies: PolicySet) -> Caller:
    """What the key stands for, as far as it is still declared; only where it says so its holder names the user."""
    declared = {spec.name for spec in policies.caller}
    values = {name: value for name, value in (key.caller or {}).items() if name in declared}
    names = (USER, key.user_header) if key.names_user else ()
    named = next((value for name in names if name and (value := name_in(scope["headers"], name))), None)
    return Caller.of({**values, "user": named} if named else values)


def _without(headers: list[tuple[bytes, bytes]], name: str | None) -> list[tuple[bytes, bytes]]:
    """Who the user is stays here."""
    return headers if name is None else [one for one in headers if one[0] != name.encode()]


def _surface(key: ProxyKey, asked: str | None) -> str | None:
    """The surface that a request belongs to; None where the key does not allow it, or leaves it open."""
    if asked is None:
        return key.surfaces[0] if len(key.surfaces) == 1 else None
    return asked if asked in key.surfaces else None


# ---- answers that are no decisions -------------------------------------------------------------------------


def _wrong_key() -> Rendered:
    words = "the API key is missing, wrong or revoked; send one made by `policyguard keys create`"
    challenge = ("www-authenticate", REALM)
    return render_error(401, "authentication_error", "invalid_api_key", words, NO_RETRY, challenge)


def _itself() -> Rendered:
    words = "the proxy's upstream is the proxy itself"
    return render_error(LOOP, "server_error", "upstream_misconfigured", words, NO_RETRY)


def _misconfigured() -> Rendered:
    """No outage: it would be the same a second later, so nobody is asked to come again."""
    words = "the proxy's upstream is not set up correctly; its log and /readyz say why"
    return render_error(502, "server_error", "upstream_misconfigured", words, NO_RETRY)


def _not_found(right: str | None = None, *more: tuple[str, str]) -> Rendered:
    words = "the proxy does not serve this route" + (f": {right}" if right else "")
    return render_error(404, "invalid_request_error", "not_found", words, NO_RETRY, *more)


def headers_too_large(limit: int) -> Rendered:
    words = f"the headers are larger than {limit:,} bytes"
    return render_error(431, "invalid_request_error", "invalid_request", words, NO_RETRY)


def _unavailable() -> Rendered:
    words, retry = MESSAGES[Kind.UNAVAILABLE], ("retry-after", str(RETRY_AFTER_S))
    return render_error(503, "service_unavailable_error", "policy_unavailable", words, retry)


def _no_answer(error: Exception) -> Rendered:
    if not isinstance(error, AppFailed):
        return render_error(500, "server_error", "internal_error", "the proxy failed")
    status, words = (504, "did not answer in time") if error.failure is Failure.TIMEOUT else (502, "cannot be reached")
    decided = (("x-policyguard-decision", error.decision_id),) if error.decision_id else ()
    return render_error(status, "server_error", "upstream_unavailable", f"the upstream {words}", *decided)

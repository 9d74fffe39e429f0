"""The proxy as a server: uvicorn, one process or several, and what begins and ends with it.

A worker opens its own guard. At the end it takes nothing new, lets what is in flight come to its end within a time, and
settles it; what is cut off after that is settled, too, before the store is closed.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import multiprocessing
import os
import re
import secrets
import signal
import socket
import sys
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from functools import partial
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Any

from starlette.middleware.cors import CORSMiddleware
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

try:
    import uvicorn
    from uvicorn.supervisors import Multiprocess
except ImportError as error:
    raise ImportError("this needs uvicorn: pip install 'policyguard[serve]'") from error

from policyguard.adapters.page_errors import not_for_you
from policyguard.errors import ConfigError
from policyguard.guard.guard import Guard
from policyguard.logs import LogFormat, configure, say
from policyguard.moderation.installed import Installed
from policyguard.proxy.health import HEALTH, READY, pages
from policyguard.proxy.http_limits import ConnectionLimits, LimitedProtocol
from policyguard.proxy.moderator import UpstreamModerator
from policyguard.proxy.openapi import OPENAPI, page
from policyguard.proxy.probe import Probe
from policyguard.proxy.proxy import Proxy, ProxyLimits
from policyguard.proxy.upstream import Upstream
from policyguard.settings import openai_key, setting

METRICS = "/metrics"
Network = IPv4Network | IPv6Network
_SETTLE_S = 10.0  # of the grace, for what was cut off at the end; of a short one a third


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What a worker needs to know. `grace_s` is how long the end may take, with what is in flight.

    `metrics` are networks that are shown them at `/metrics`, without a key, where prometheus-client is installed;
    through a reverse proxy only with `metrics_forwarded`. `instance` is one name for all workers.
    """

    policies: str | None = None
    store: str | None = None
    upstream: str | None = None
    key: str | None = field(default=None, repr=False)
    workers: int = 1
    grace_s: float = 30.0
    upstream_timeout_s: float = 600.0
    metrics: tuple[Network, ...] = (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    metrics_forwarded: bool = False
    cors_origins: tuple[str, ...] = ()  # from which browsers may ask
    log_format: LogFormat = "text"
    log_level: str = "INFO"
    limits: ProxyLimits = field(default_factory=ProxyLimits)
    connections: ConnectionLimits = field(default_factory=ConnectionLimits)
    instance: str = field(default_factory=partial(secrets.token_hex, 16))


def open_guard(options: Options) -> tuple[Guard, Upstream]:
    """Raises `ConfigError` for anything that is missing, `PolicyError` for policies that do not load."""
    key = openai_key(options.key)
    if key is None:
        raise ConfigError("no key for the upstream: set `OPENAI_API_KEY`")
    upstream = Upstream(
        key=key,
        base_url=setting("openai_url", options.upstream),
        read_timeout_s=options.upstream_timeout_s,
        trust_env=True,
    )
    moderator = Installed(UpstreamModerator(upstream))
    return Guard.open(options.policies, store=options.store, moderator=moderator), upstream


def _settle_s(options: Options) -> float:
    return min(_SETTLE_S, options.grace_s / 3)


def create_app(
    options: Options,
    opened: tuple[Guard, Upstream] | None = None,
    *,
    ends: Callable[[float], object] = lambda seconds: None,
) -> ASGIApp:
    """The app of one worker. `ends` is told when only the end is left, and how many seconds it has."""
    guard, upstream = opened or open_guard(options)
    probe = Probe(upstream, options.instance)

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[None]:
        await guard.afollow()
        _end_with_parent()
        gc.freeze()  # what is loaded stays: nothing of it is looked at by every collection
        watching = asyncio.create_task(probe.watch())
        try:
            yield
        finally:
            watching.cancel()
            ends(_settle_s(options))
            await proxy.drained(_settle_s(options) / 2)
            await guard.aclose()
            await upstream.aclose()

    more = [Route(OPENAPI, page), *(_metrics(guard, options) if options.metrics else [])]
    proxy = Proxy(
        guard,
        upstream,
        pages=pages(guard, lifespan, probe, more=more),
        probe=probe,
        open_paths=frozenset({HEALTH, READY, *(route.path for route in more)}),
        limits=options.limits,
    )
    return _for_browsers(proxy, options.cors_origins) if options.cors_origins else proxy


# What a browser's code may read of an answer.
_EXPOSED = (
    "x-policyguard-decision",
    "x-policyguard-adjusted",
    "x-request-id",
    "x-should-retry",
    "retry-after",
    "location",
)


def _for_browsers(app: ASGIApp, origins: tuple[str, ...]) -> ASGIApp:
    """A preflight brings no key, so it is answered before anybody is asked for one."""
    return CORSMiddleware(
        app,
        allow_origins=origins,
        allow_methods=("GET", "POST"),
        allow_headers=("*",),  # the SDKs send many of their own
        expose_headers=_EXPOSED,
        max_age=3_600,
    )


def _metrics(guard: Guard, options: Options) -> list[Route]:
    try:
        from policyguard.adapters.metrics import Metrics
    except ImportError:  # an extra of its own
        return []
    return [Route(METRICS, _OnlyFor(options.metrics, Metrics(guard), forwarded=options.metrics_forwarded))]


# Who asks behind a reverse proxy has its address, often this machine's.
_FORWARDED = re.compile(
    rb"x-forwarded.*|x-original-.*|forwarded|via|(x-)?(real|client|cluster-client|true-client|cf-connecting)-ip"
    rb"|(true-client|cf-connecting|fastly-client|x-envoy-external)-(ip|address)"
)


class _OnlyFor:
    """A page for those who ask from a network. What it shows names surfaces and budgets, and is not for customers.

    What a reverse proxy passes on comes from that proxy's address, so it is refused unless `forwarded` allows it.
    """

    def __init__(self, networks: tuple[Network, ...], page: ASGIApp, *, forwarded: bool) -> None:
        self._networks, self._page, self._forwarded = networks, page, forwarded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await (self._page if self._may_see(scope) else not_for_you())(scope, receive, send)

    def _may_see(self, scope: Scope) -> bool:
        if not self._forwarded and any(_FORWARDED.fullmatch(name) for name, _ in scope["headers"]):
            return False
        peer = ip_address(scope["client"][0]) if scope["client"] else None
        return peer is not None and any(peer in one for one in self._networks)


def _shared_by(workers: int) -> AbstractContextManager[None]:
    """Where several workers count, they count together."""
    try:
        from policyguard.adapters.metrics import shared_by
    except ImportError:
        return nullcontext()
    return shared_by(workers)


_TURN_S = 0.0005  # of a thread that reads a large body, while the event loop waits to go on


def _worker(options: Options, opened: tuple[Guard, Upstream] | None) -> ASGIApp:
    """What a process serves. Its log is set up here, after the server has set up its own."""
    sys.setswitchinterval(_TURN_S)
    configure(options.log_format, options.log_level)
    return create_app(options, opened, ends=_leave_after)


def _leave_after(seconds: float) -> None:
    """The end is in time whatever else waits, for example for a database that is mute: legs run out by themselves."""

    def leave() -> None:
        say(logging.ERROR, "serve.cut", "the process did not end within its grace and is cut off")
        logging.shutdown()
        os._exit(1)

    timer = threading.Timer(seconds, leave)
    timer.daemon = True
    timer.start()


def _end_with_parent() -> None:
    """A worker whose parent was killed ends in good order, too: nobody else would ever end it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, name="policyguard-parent", daemon=True).start()


def serve(
    options: Options,
    listening: socket.socket,
    started: Callable[[], None],
    opened: tuple[Guard, Upstream] | None = None,
) -> None:
    """Serve until SIGTERM or ctrl-c. `started` is called when requests are taken; `opened` is for a lone worker."""
    config = uvicorn.Config(
        partial(_worker, options, opened),
        factory=True,
        workers=options.workers,
        log_level="warning",
        access_log=False,
        proxy_headers=False,  # nobody may forge the peer
        server_header=False,
        date_header=False,  # the upstream's passes on
        ws="none",
        lifespan="on",
        http=partial(LimitedProtocol, options.connections),  # type: ignore[arg-type] # what makes one will do
        timeout_graceful_shutdown=max(1, round(options.grace_s - _settle_s(options))),
    )
    signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn stops in good order at either, and then raises it again
    with listening, suppress(KeyboardInterrupt):
        if options.workers == 1:
            _AnnouncingServer(config, started).run(sockets=[listening])
        else:
            listening.listen(config.backlog)
            started()
            with _shared_by(options.workers):
                Multiprocess(config, sockets=[listening]).run()


class _AnnouncingServer(uvicorn.Server):
    """Says when it listens."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self._started()

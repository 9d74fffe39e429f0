"""Pages of a server that need no key: whether it lives, and whether it can decide. They tell nothing of any request."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from policyguard.adapters.page_errors import not_allowed
from policyguard.errors import ConfigError, StoreUnavailable
from policyguard.guard.guard import Guard
from policyguard.proxy.probe import Probe
from policyguard.store.db.patience import waiting
from policyguard.threads import in_thread

HEALTH, READY = "/healthz", "/readyz"
WITHIN_S = 1.0  # what does not answer a small question in this time is not ready for requests
KEPT_S = 0.5  # however many ask, the store is written to so often


def pages(
    guard: Guard,
    lifespan: Callable[[Any], AbstractAsyncContextManager[None]],
    probe: Probe,
    *,
    more: Sequence[Route] = (),
) -> Starlette:
    """`/healthz`, `/readyz` and `more`, with the life of the app that they belong to.

    An upstream that is down is no reason to be not ready: requests are answered, and told when to come again.
    """

    store = _StoreHealth(guard)

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def ready(request: Request) -> JSONResponse:
        found = await probe.look()
        wrong = [f"the upstream: {one.says}" for one in found if one.stops]
        problems = [*_policies(guard), *await store.problems(), *wrong]
        warnings = [*_warnings(guard), *(f"the upstream: {one.says}" for one in found if not one.stops)]
        status = "not ready" if problems else "degraded" if warnings else "ready"
        body = {"status": status, "policies": guard.policies.digest, "problems": problems, "warnings": warnings}
        return JSONResponse(body, status_code=503 if problems else 200)

    routes = [Route(HEALTH, health), Route(READY, ready), *more]
    return Starlette(routes=routes, lifespan=lifespan, exception_handlers={405: _not_allowed})


async def _not_allowed(request: Request, error: Exception) -> Response:
    """In the one body of errors, here too."""
    return not_allowed()


def _policies(guard: Guard) -> list[str]:
    state = guard.policies_state
    if state.stale_since is None:
        return []
    count = sum(problem.severity == "error" for problem in state.problems)
    return [f"the policies folder does not load since {state.stale_since.isoformat()}: {count} problems"]


def _warnings(guard: Guard) -> list[str]:
    """What should be mended and keeps nobody from deciding."""
    clock = guard.store.clock
    return [f"the clock of this host is {clock.skew_s:+.0f} s off; the database's is used"] if clock.is_off else []


class _StoreHealth:
    """Asks the store what requests need: to write, on their way. One question at a time, for all who ask."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._asked: asyncio.Task[list[str]] | None = None
        self._until = 0.0

    async def problems(self) -> list[str]:
        if self._asked is None or (self._asked.done() and time.monotonic() >= self._until):
            self._asked = asyncio.create_task(in_thread(waiting, WITHIN_S, self._probe))
            self._until = time.monotonic() + KEPT_S
        await asyncio.wait({self._asked}, timeout=WITHIN_S)
        return self._asked.result() if self._asked.done() else [f"the store does not answer within {WITHIN_S:g} s"]

    def _probe(self) -> list[str]:
        try:
            self._guard.store.probe(self._guard.clock())
        except (StoreUnavailable, ConfigError) as error:
            return [str(error)]
        return []

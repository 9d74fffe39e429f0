"""Pages of a server that need no key: whether it lives, whether it can decide, and what it has counted.

The first two tell nothing of any request. Metrics name surfaces and budgets, so only some networks get them.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from policyguard.adapters.identity import Networks, within
from policyguard.errors import ConfigError, StoreUnavailable
from policyguard.guard import Guard
from policyguard.threads import in_thread

HEALTH, READY, METRICS = "/healthz", "/readyz", "/metrics"
Lifespan = Callable[[Any], AbstractAsyncContextManager[None]]


def pages(guard: Guard, lifespan: Lifespan, metrics_for: Networks) -> Starlette:
    """The pages, with the life of the app that they belong to. Raises `ConfigError` where a package is missing."""

    async def health(request: Request) -> JSONResponse:
        return JSONResponse({"status": "alive"})

    async def ready(request: Request) -> JSONResponse:
        problems = [*_policies(guard), *await in_thread(_store, guard)]
        status = "not ready" if problems else "ready"
        body = {"status": status, "policies": guard.policies.digest, "problems": problems}
        return JSONResponse(body, status_code=503 if problems else 200)

    routes = [Route(HEALTH, health), Route(READY, ready)]
    if metrics_for:
        from policyguard.adapters.metrics import Metrics  # here, because prometheus-client is an extra

        routes.append(Route(METRICS, _Within(Metrics(guard), metrics_for)))
    return Starlette(routes=routes, lifespan=lifespan)


class _Within:
    """Shows `app` to clients in some networks; to others it is not there."""

    def __init__(self, app: ASGIApp, networks: Networks) -> None:
        self._app, self._networks = app, networks

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        client = scope.get("client")
        if client and within(client[0], self._networks):
            await self._app(scope, receive, send)
        else:
            await JSONResponse(_NOT_FOUND, status_code=404)(scope, receive, send)


_NOT_FOUND = {"error": {"message": "not found", "type": "invalid_request_error", "param": None, "code": "not_found"}}


def _policies(guard: Guard) -> list[str]:
    state = guard.policies_state
    if state.stale_since is None:
        return []
    count = sum(problem.severity == "error" for problem in state.problems)
    return [f"the policies folder does not load since {state.stale_since.isoformat()}: {count} problems"]


def _store(guard: Guard) -> list[str]:
    try:
        guard.store.check()
    except (StoreUnavailable, ConfigError) as error:
        return [str(error)]
    return []

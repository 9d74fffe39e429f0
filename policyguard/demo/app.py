"""The app that the demo guards: it forwards OpenAI-shaped requests to OpenAI, as a company's own service would.

The middleware stands in front of it and is all that the demo adds. Paths end like OpenAI's, below one prefix for each
surface.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
import httpx2
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.guard.guard import UPSTREAM_TIMEOUT, Guard

SURFACES = ("avatars", "marketing", "storefront", "id-photos")
# What goes on to OpenAI and comes back from it; everything else is between the client and this app.
_ASKED = ("content-type", "x-sandbox-fault")
_ANSWERED = ("content-type", "x-request-id", "retry-after")


def create_app(guard: Guard, upstream: str, key: str) -> Starlette:
    """`upstream` is OpenAI's base address (`.../v1`), or the sandbox's."""

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        timeout = httpx2.Timeout(UPSTREAM_TIMEOUT.total_seconds(), connect=5)
        async with httpx2.AsyncClient(timeout=timeout, trust_env=False) as client:
            app.state.client = client
            yield

    async def forward(request: Request) -> Response:
        client: httpx2.AsyncClient = request.app.state.client
        headers = {name: request.headers[name] for name in _ASKED if name in request.headers}
        headers["authorization"] = f"Bearer {key}"
        url = f"{upstream}/images/{request.url.path.rsplit('/', 1)[-1]}"
        asked = client.build_request("POST", url, content=await request.body(), headers=headers)
        try:
            answer = await client.send(asked, stream=True)
            if not answer.headers.get("content-type", "").startswith("text/event-stream"):
                await answer.aread()
        except httpx2.HTTPError:
            error = {"message": "the image service did not answer", "type": "server_error", "param": None, "code": None}
            return JSONResponse({"error": error}, status_code=502)
        kept = {name: answer.headers[name] for name in _ANSWERED if name in answer.headers}
        if answer.is_closed:
            return Response(answer.content, answer.status_code, kept)
        return StreamingResponse(_passed_on(answer), answer.status_code, kept)

    routes = [
        Route(f"/{surface}/v1/images/{name}", forward, methods=["POST"])
        for surface in SURFACES
        for name in ("generations", "edits")
    ]
    return Starlette(routes=routes, middleware=[Middleware(PolicyGuardMiddleware, guard=guard)], lifespan=lifespan)


async def _passed_on(answer: httpx2.Response) -> AsyncIterator[bytes]:
    """A stream as it comes. A client that leaves ends it, and OpenAI is no longer read."""
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        with anyio.CancelScope(shield=True):
            await answer.aclose()

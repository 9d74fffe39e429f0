"""A FastAPI app whose image route is guarded by the middleware.

    policyguard init                      # policies/ to start from; here the shipped ones are used
    export OPENAI_API_KEY=...             # or: policyguard sandbox, and OPENAI_BASE_URL=http://127.0.0.1:8787/v1
    uvicorn examples.fastapi_app:app --no-proxy-headers

    curl -H 'content-type: application/json' -H 'x-user-id: u1' -d '{"prompt": "a fox in a scarf"}' \
         http://127.0.0.1:8000/avatars/v1/images/generations
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, Response
from openai import APIStatusError, AsyncOpenAI

from policyguard import Guard
from policyguard.adapters.asgi import PolicyGuardMiddleware

guard = Guard.open()  # POLICYGUARD_POLICIES, POLICYGUARD_STORE, OPENAI_API_KEY
client = AsyncOpenAI(max_retries=0)  # a retry may be billed again, and nobody would have admitted it


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    yield
    await client.close()
    await guard.aclose()


app = FastAPI(lifespan=lifespan)
app.add_middleware(PolicyGuardMiddleware, guard=guard)


@app.post("/avatars/v1/images/generations")
async def avatar(request: Request) -> Response:
    """What arrives here has passed the policy: defaults filled in, `moderation` forced, budgets reserved."""
    try:
        answer = await client.images.with_raw_response.generate(**await request.json())
    except APIStatusError as error:
        return Response(error.response.content, error.status_code, media_type="application/json")
    return Response(answer.content, media_type="application/json")

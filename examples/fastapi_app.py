"""A FastAPI app whose image route is guarded by the middleware, and knows the decision on each request.

    policyguard init                      # policies/ to start from; here the shipped ones are used
    export OPENAI_API_KEY=...             # or: policyguard sandbox, and OPENAI_BASE_URL=http://127.0.0.1:8787/v1
    uvicorn examples.fastapi_app:app --no-proxy-headers

    curl -H 'content-type: application/json' -H 'x-user-id: u1' -d '{"prompt": "a fox in a scarf"}' \
         http://127.0.0.1:8000/avatars/v1/images/generations
"""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request, Response
from openai import APIStatusError, AsyncOpenAI

from policyguard import Guard
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.fastapi import decision, lifespan, responses
from policyguard.decision import Decision

guard = Guard.open()  # POLICYGUARD_POLICIES, POLICYGUARD_STORE, OPENAI_API_KEY
client = AsyncOpenAI(max_retries=0)  # a retry may be billed again, and nobody would have admitted it


@asynccontextmanager
async def own(app: FastAPI) -> AsyncIterator[None]:
    yield
    await client.close()


app = FastAPI(lifespan=lifespan(guard, own))  # follows the policies, closes the guard
app.add_middleware(PolicyGuardMiddleware, guard=guard)


@app.post("/avatars/v1/images/generations", responses=responses())
async def avatar(request: Request, allowed: Annotated[Decision, Depends(decision)]) -> Response:
    """What arrives here has passed the policy: defaults filled in, `moderation` forced, budgets reserved.

    Without the middleware there is no decision, and the route answers 500 instead of making pictures.
    """
    logging.getLogger("avatars").info("decision %s", allowed.id)
    try:
        answer = await client.images.with_raw_response.generate(**await request.json())
    except APIStatusError as error:
        return Response(error.response.content, error.status_code, media_type="application/json")
    return Response(answer.content, media_type="application/json")

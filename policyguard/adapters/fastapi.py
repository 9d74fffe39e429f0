"""For FastAPI, and what of it Starlette can use: the decision in a handler, the refusals in OpenAPI, a lifespan.

The middleware guards; nothing here decides. A handler that depends on a decision answers 500 where none was made, so a
middleware that was forgotten, or a route that no surface has, never goes unnoticed. FastAPI itself is not imported.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from starlette.requests import Request

from policyguard.adapters.asgi import KEY
from policyguard.decision import REFUSALS, Decision, Kind
from policyguard.errors import ConfigError
from policyguard.flow.refuse import MESSAGES
from policyguard.guard.guard import Guard

Lifespan = Callable[[Any], AbstractAsyncContextManager[Any]]


async def decision(request: Request) -> Decision:
    """The decision on this request: `async def draw(allowed: Annotated[Decision, Depends(decision)])`.

    `decision.request` is what may go upstream. Raises `ConfigError` where no `PolicyGuardMiddleware` decided.
    """
    found = getattr(request.state, KEY, None)
    # a server may share one state among requests; the scope is the request's own
    if not isinstance(found, Decision) or request.scope.get(KEY) != found.id:
        raise ConfigError(
            "this handler needs a decision, and nobody made one: add `PolicyGuardMiddleware` to the app, "
            "and this route below `routes` of a surface"
        )
    return found


def responses() -> dict[int | str, dict[str, Any]]:
    """What the middleware may answer instead of a handler: `@app.post(path, responses=responses())`."""
    found: dict[int | str, dict[str, Any]] = {}
    for status in sorted({*(refusal.status for refusal in REFUSALS.values()), 413}):
        kinds = [kind for kind, refusal in REFUSALS.items() if status in (refusal.status, _OTHER_STATUS.get(kind))]
        says = dict.fromkeys(f"`{REFUSALS[kind].code}`: {MESSAGES[kind]}" for kind in kinds)
        codes = list(dict.fromkeys(REFUSALS[kind].code for kind in kinds))
        found[status] = {
            "description": "; ".join(says),
            "headers": {"x-policyguard-decision": {"schema": {"type": "string"}}},
            "content": {"application/json": {"schema": _body(codes)}},
        }
    return found


_OTHER_STATUS = {Kind.MALFORMED: 413}  # a body that is too large


def _body(codes: list[str]) -> dict[str, Any]:
    reason = _object(
        id={"type": "string"}, effect={"type": "string"}, message={"type": "string"}, values={"type": "object"}
    )
    policy = _object(
        surface=_optional("string"),
        decision_id={"type": "string"},
        reasons={"type": "array", "items": reason},
        review_id=_optional("string"),
    )
    error = _object(
        message={"type": "string"},
        type={"type": "string"},
        param=_optional("string"),
        code={"type": "string", "enum": codes},
        policy=policy,
    )
    return _object(error=error)


def _object(**properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": list(properties)}


def _optional(kind: str) -> dict[str, Any]:
    return {"anyOf": [{"type": kind}, {"type": "null"}]}


def lifespan(guard: Guard, inner: Lifespan | None = None) -> Lifespan:
    """Follow the policies from the start, and close the guard at the end: `FastAPI(lifespan=lifespan(guard))`.

    `inner` is a lifespan of the app's own; it ends before the guard is closed.
    """

    @asynccontextmanager
    async def around(app: Any) -> AsyncIterator[Any]:
        await guard.afollow()
        try:
            if inner is None:
                yield None
            else:
                async with inner(app) as state:
                    yield state
        finally:
            await guard.aclose()

    return around

"""The ASGI door: `app.add_middleware(PolicyGuardMiddleware, guard=guard)`.

Pure ASGI. Requests that no surface's route matches pass untouched, except what looks like an image route: that is
refused. What matches is read within limits, decided, rewritten with what the policy forces, and settled from the app's
answer, which passes on piece by piece. When a client leaves, the app hears of it and stops or goes on as it would by
itself: a leg whose usage was seen by then is settled by it, every other one is presumed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from policyguard.adapters.body import AppFailed, ASGIApp, ClientLeft, Receive, Replay, Scope, Send, read_body, respond
from policyguard.adapters.deciding import (
    FORCED_ENCODING,
    MAX_UNCLAIMED_BYTES,
    Claimed,
    DoorRules,
    DoorStep,
    Forward,
    Passes,
    ReadBody,
    ReadingWork,
    decided,
    leg_of,
    reasons_on_wire,
    unclaimed,
)
from policyguard.adapters.identity import CallerOf, caller_of, header, origin
from policyguard.adapters.reply import Reply
from policyguard.adapters.room import BODIES_BYTES, Full, Room, too_many
from policyguard.adapters.routes import RouteTable
from policyguard.decision import Admitted, Decision, Held, Reason, Refused, Released
from policyguard.flow.drive import adrive
from policyguard.flow.reasons import no_surface_reason
from policyguard.guard.current import one_request
from policyguard.guard.guard import Guard
from policyguard.guard.steps import aperform
from policyguard.policy.model import PolicySet
from policyguard.request import Caller, Failure
from policyguard.threads import in_turn
from policyguard.wire.forms import MAX_BODY_BYTES, MAX_JSON_BYTES
from policyguard.wire.refusals import render

KEY = "policyguard"  # our place in the scope, and in `request.state`


@dataclass(frozen=True, slots=True, kw_only=True)
class ASGIDoor(DoorRules):
    """The same, for an ASGI app. A body slower than `body_timeout_s` is refused."""

    app: ASGIApp
    name: str = "asgi"
    body_timeout_s: float = 60.0


class PolicyGuardMiddleware:
    """Guards the routes that the policies declare.

    `caller` gets the ASGI scope and says who asks, as a `Caller` or a mapping; without it declared headers of trusted
    proxies and `policyguard.caller(...)` count. `root_path` is a prefix that the app takes off paths by itself, empty
    for none; while it is None, a path that could be a claimed route behind such a prefix is refused. A body with
    pictures larger than `max_body_bytes`, JSON without its pictures larger than `max_json_bytes`, and a body slower
    than `body_timeout_s` are refused. The bodies in flight take `max_bodies_bytes` at most, those of one address half
    of it. A request to the Responses API that no surface claims is read only to see that it makes no image, up to
    `max_unclaimed_bytes`.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        guard: Guard,
        caller: CallerOf | None = None,
        root_path: str | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_json_bytes: int = MAX_JSON_BYTES,
        max_bodies_bytes: int = BODIES_BYTES,
        max_unclaimed_bytes: int = MAX_UNCLAIMED_BYTES,
        body_timeout_s: float = 60.0,
    ) -> None:
        self.app = app
        self.guard = guard
        self.caller = caller
        self._door = ASGIDoor(
            app=app,
            guard=guard,
            max_body_bytes=max_body_bytes,
            max_json_bytes=max_json_bytes,
            body_timeout_s=body_timeout_s,
        )
        self._room = Room(max_bodies_bytes)
        self._max_unclaimed_bytes = max_unclaimed_bytes
        self._table = RouteTable(guard.policies, root_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.guard.afollow()  # at the latest now, best at startup: each worker follows the policies by itself
        if scope["type"] not in ("http", "websocket") or KEY in scope:  # a guard further out has decided already
            await self.app(scope, receive, send)
            return
        with one_request():
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._table = table = self._table.current(self.guard.policies)
        if scope["type"] == "websocket":
            await self._socket(table, scope, receive, send)
            return
        found = table.find(scope)
        if found.claimed is not None:
            surface, route = found.claimed
            who = caller_of(scope, table.policies, self.caller)
            it = Claimed(scope=scope, policies=table.policies, surface=surface, route=route, caller=who)
            async with self._entered(table.policies, scope, receive, send) as counted:
                await Guarded(self._door, it, counted, send).run()
        elif found.evades is not None:
            await self._no_surface(table.policies, scope, send, no_surface_reason(found.evades))
        elif found.is_responses:
            async with self._entered(table.policies, scope, receive, send) as counted:
                await self._responses(table.policies, scope, counted, send)
        else:
            await self.app(scope, receive, send)

    @asynccontextmanager
    async def _entered(self, policies: PolicySet, scope: Scope, receive: Receive, send: Send) -> AsyncIterator[Receive]:
        """Its place among the bodies in flight. Without room the answer is 503."""
        guest = self._room.enter(origin(scope, policies) or "")
        try:
            yield guest.counted(receive)
        except Full:
            await respond(too_many(), send)
        finally:
            guest.leave()

    async def _no_surface(self, policies: PolicySet, scope: Scope, send: Send, why: Reason) -> None:
        who = caller_of(scope, policies, self.caller)
        refused = await self.guard.areject(why, surface=None, caller=who, door="asgi", address=origin(scope, policies))
        await say(refused, send, reasons=True)

    async def _socket(self, table: RouteTable, scope: Scope, receive: Receive, send: Send) -> None:
        """What a socket carries cannot be decided here: the Responses API over one is closed before it opens."""
        if not table.looks_like_responses(*table.paths(scope)):
            await self.app(scope, receive, send)
            return
        who = caller_of(scope, table.policies, self.caller)
        await self.guard.areject(
            no_surface_reason(), surface=None, caller=who, door="asgi", address=origin(scope, table.policies)
        )
        await send({"type": "websocket.close", "code": 1008})

    async def _responses(self, policies: PolicySet, scope: Scope, receive: Receive, send: Send) -> None:
        """No surface claims it: it passes where it can make no image."""
        who = caller_of(scope, policies, self.caller)
        steps = unclaimed(self._door, scope, policies, who, self._max_unclaimed_bytes)
        try:
            said = await adrive(steps, partial(_perform, self._door, scope, receive))
        except ClientLeft:
            return
        if isinstance(said, Passes):
            await self.app(scope, Replay(said.body, receive), send)
        else:
            await say(said, send, reasons=True)


async def _perform(door: ASGIDoor, scope: Scope, receive: Receive, step: DoorStep) -> Any:
    match step:
        case ReadBody():
            declared = header(scope["headers"], "content-length")
            return await read_body(receive, declared, limit=step.limit, timeout_s=door.body_timeout_s)
        case ReadingWork():
            return step.call() if step.quick else await in_turn(step.call)
    return await aperform(door.guard, step)


async def say(answer: Refused | Held | Released, send: Send, *, reasons: bool) -> None:
    await respond(render(answer, reasons=reasons), send)


class Guarded:
    """One claimed request on its way through."""

    def __init__(self, door: ASGIDoor, it: Claimed, receive: Receive, send: Send) -> None:
        self.door, self.guard, self.it = door, door.guard, it
        self.scope, self.receive, self.send = it.scope, receive, send

    async def run(self) -> None:
        try:
            said = await adrive(decided(self.door, self.it), partial(_perform, self.door, self.scope, self.receive))
        except ClientLeft:
            return
        if isinstance(said, Passes):
            await self.door.app(self.scope, Replay(said.body, self.receive), self.send)
            return
        if not isinstance(said, Forward):
            await self._say(said)
            return
        admitted, caller, receive = said.admitted, said.caller, Replay(said.body, self.receive)
        changes = self._changes(admitted, len(said.body), said.content_type)
        del said  # an answer can take minutes, and pictures are large
        with _decided(self.scope, changes, admitted.decision):
            await self._forward(admitted, caller, receive)

    async def _say(self, answer: Refused | Held | Released) -> None:
        await say(answer, self.send, reasons=reasons_on_wire(self.it.policies, self.it.surface))

    # ---- after admission --------------------------------------------------------------------------------------

    async def _forward(self, admitted: Admitted, caller: Caller, receive: Replay) -> None:
        leg = leg_of(self.door, admitted, caller)
        reply = Reply(self.send, leg, self.it.route, self._say)
        failure = Failure.CANCELLED
        try:
            with leg.within():
                await self.door.app(self.scope, receive, reply.send)
            failure = Failure.CUT
        except AppFailed as error:
            failure, error.decision_id = error.failure, admitted.decision.id
            raise
        except Exception:
            failure = Failure.ERROR
            raise
        finally:
            if receive.left or reply.left:
                failure = Failure.CANCELLED
            await leg.aend(reply.outcome(failure))  # nothing, where it has ended with its answer

    def _changes(self, admitted: Admitted, length: int, content_type: str) -> dict[str, Any]:
        """What the app reads in the scope: the request as it was decided."""
        forced = {
            b"content-length": str(length).encode(),
            b"content-type": content_type.encode("latin-1"),
            b"accept-encoding": FORCED_ENCODING.encode(),
        }
        replaced = (*forced, b"transfer-encoding")
        headers = [(name, value) for name, value in self.scope["headers"] if name.lower() not in replaced]
        changes: dict[str, Any] = {"headers": [*headers, *forced.items()], "method": self.it.route.method}
        if admitted.ticket.output is not None:  # no file goes out past whoever looks at the answer
            changes["extensions"] = {}
        return changes


@contextmanager
def _decided(scope: Scope, changes: Mapping[str, Any], decision: Decision) -> Iterator[None]:
    """The scope is the app's own, so that what the app puts in (route, endpoint, state) is read outside, too.

    While the app runs it says what was decided and by whom; afterwards what the client sent. Who runs the app once more
    with it, to try again, is decided anew.
    """
    scope.setdefault("state", {})[KEY] = decision
    changes = {**changes, KEY: decision.id}
    before = {name: scope[name] for name in changes if name in scope}
    scope.update(changes)
    try:
        yield
    finally:
        for name in changes:
            scope.pop(name, None)
        scope.update(before)

"""The ASGI door: `app.add_middleware(PolicyGuardMiddleware, guard=guard)`.

Pure ASGI. Requests that no surface's route matches pass untouched, except what looks like an image route: that is
refused. What matches is read within limits, decided, rewritten with what the policy forces, and settled from the app's
answer, which passes on piece by piece. When a client leaves, the app hears of it and stops or goes on as it would by
itself: a leg whose usage was seen by then is settled by it, every other one is presumed.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, MutableMapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, TypeVar

from policyguard.adapters.body import AppFailed, ClientLeft, Receive, Replay, Send, read_body, respond
from policyguard.adapters.identity import CallerOf, caller_of, header, origin
from policyguard.adapters.reply import Reply
from policyguard.adapters.room import BODIES_BYTES, Full, Room, too_many
from policyguard.adapters.routes import OVERRIDES, READS, Table
from policyguard.decision import Admitted, Decision, Held, Reason, Refused, Released
from policyguard.errors import InvalidRequest
from policyguard.flow.admit import no_surface_reason
from policyguard.guard.current import one_request
from policyguard.guard.guard import Guard
from policyguard.guard.leg import LiveLeg
from policyguard.guard.offer import Offer
from policyguard.policy.model import PolicySet, Route
from policyguard.request import Caller, Failure
from policyguard.threads import in_thread
from policyguard.wire import forms
from policyguard.wire.forms import MAX_BODY_BYTES, MAX_JSON_BYTES, check_query, largest, one_content_type
from policyguard.wire.outcome import plain_word
from policyguard.wire.own import Own, also_read, read_own
from policyguard.wire.reach import DRAWS, Reach, Reached, reach
from policyguard.wire.refusals import render

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Parsed = forms.Parsed | Own
T = TypeVar("T")
MAX_UNCLAIMED_BYTES = 8 * 1024 * 1024  # a conversation with some pictures
_SHORT = 32 * 1024  # bytes of a body that is read at once
KEY = "policyguard"  # our place in the scope, and in `request.state`


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What a guarded request has to know of the door that it came through.

    `upstream` is the API's host, where `app` calls it at once and nothing else: its errors are the API's own, definite.
    `passes_text`: what makes no image by the Responses API goes to `app` as it is.
    """

    app: App
    guard: Guard
    name: str = "asgi"
    upstream: str | None = None
    passes_text: bool = True
    max_body_bytes: int = MAX_BODY_BYTES
    max_json_bytes: int = MAX_JSON_BYTES
    body_timeout_s: float = 60.0

    async def body(self, scope: Scope, receive: Receive, shape: str) -> bytes:
        """The whole body, within its limits. Raises `InvalidRequest`, `ClientLeft`."""
        return await read_body(
            receive,
            header(scope["headers"], "content-length"),
            limit=largest(shape, self.max_body_bytes, self.max_json_bytes),
            timeout_s=self.body_timeout_s,
        )


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
        app: App,
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
        self._door = Door(
            app=app,
            guard=guard,
            max_body_bytes=max_body_bytes,
            max_json_bytes=max_json_bytes,
            body_timeout_s=body_timeout_s,
        )
        self._room = Room(max_bodies_bytes)
        self._max_unclaimed_bytes = max_unclaimed_bytes
        self._root_path = root_path
        self._table = Table(guard.policies, root_path)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.guard.afollow()  # at the latest now, best at startup: each worker follows the policies by itself
        if scope["type"] not in ("http", "websocket") or KEY in scope:  # a guard further out has decided already
            await self.app(scope, receive, send)
            return
        with one_request():
            await self._request(scope, receive, send)

    async def _request(self, scope: Scope, receive: Receive, send: Send) -> None:
        table = self._routes()
        places = table.paths(scope)
        if scope["type"] == "websocket":
            await self._socket(table, scope, receive, send)
            return
        overridden = _overridden(scope)
        match = table.match(scope["method"], *places)
        if match is not None:
            who = caller_of(scope, table.policies, self.caller)
            async with self._entered(table.policies, scope, receive, send) as counted:
                await Guarded(self._door, scope, counted, send, table.policies, *match, who).run()
        elif why := table.evaded(scope["method"], *places, overridden=overridden):
            await self._no_surface(table.policies, scope, send, no_surface_reason(why))
        elif (overridden or scope["method"].upper() not in READS) and table.looks_like_responses(*places):
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

    def _routes(self) -> Table:
        table, policies = self._table, self.guard.policies
        if table.policies is not policies:
            self._table = table = Table(policies, self._root_path)
        return table

    async def _no_surface(self, policies: PolicySet, scope: Scope, send: Send, why: InvalidRequest | Reason) -> None:
        who = caller_of(scope, policies, self.caller)
        refused = await self.guard.areject(why, surface=None, caller=who, door="asgi", address=origin(scope, policies))
        await say(refused, send, reasons=True)

    async def _socket(self, table: Table, scope: Scope, receive: Receive, send: Send) -> None:
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
        try:
            body = await read_body(
                receive,
                header(scope["headers"], "content-length"),
                limit=self._max_unclaimed_bytes,
                timeout_s=self._door.body_timeout_s,
            )
            reached = await reached_by(scope, body)
        except ClientLeft:
            return
        except InvalidRequest as error:
            await self._no_surface(policies, scope, send, error)
            return
        if reached.reach is Reach.NONE:
            await self.app(scope, Replay(body, receive), send)
        else:
            await self._no_surface(policies, scope, send, no_surface_reason(reached.message))


def _overridden(scope: Scope) -> bool:
    return any(name.lower().decode("latin-1") in OVERRIDES for name, _ in scope["headers"])


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


async def reached_by(scope: Scope, body: bytes) -> Reached:
    """Whether a body of the Responses API can make images. Raises `InvalidRequest`."""
    kind = one_content_type(_values(scope, b"content-type"), _values(scope, b"content-encoding"))
    return await _read(body, partial(reach, body, kind, encoded=False, responses=True))


async def _read(body: bytes, read: Callable[[], T]) -> T:
    """What takes long to read is not read on the event loop."""
    return read() if len(body) <= _SHORT else await in_thread(read)


async def say(answer: Refused | Held | Released, send: Send, *, reasons: bool) -> None:
    await respond(render(answer, reasons=reasons), send)


class Guarded:
    """One request on its way through, by the policies that were in force when it came.

    `names_user`: where the caller has no user, the body says who it is.
    """

    def __init__(
        self,
        door: Door,
        scope: Scope,
        receive: Receive,
        send: Send,
        policies: PolicySet,
        surface: str,
        route: Route,
        caller: Caller,
        names_user: bool = False,
    ) -> None:
        self.door, self.guard = door, door.guard
        self.scope, self.receive, self.send = scope, receive, send
        self.policies, self.surface, self.route = policies, surface, route
        self.caller, self.names_user = caller, names_user

    async def run(self) -> None:
        try:
            body = await self.door.body(self.scope, self.receive, self.route.shape)
            reached = await reached_by(self.scope, body) if self.route.shape == "responses" else DRAWS
            parsed = await self._parsed(body) if reached is DRAWS else None
        except ClientLeft:
            return
        except InvalidRequest as error:
            await self._refuse(error)
            return
        if reached.reach is Reach.NONE and self.door.passes_text:  # text for text
            await self.door.app(self.scope, Replay(body, self.receive), self.send)
            return
        del body
        if parsed is None:
            await self._refuse(no_surface_reason(reached.message))
            return
        if self.names_user and self.caller.user is None:
            named = parsed.request.safety_identifier or parsed.request.user
            self.caller = Caller.of({**self.caller.values, "user": named})
        answer = await self.guard.aadmit(
            parsed.request,
            self.caller,
            surface=self.surface,
            review_id=header(self.scope["headers"], "x-policyguard-review"),
            door=self.door.name,
            upstream=self.door.upstream,
            sends=True,
            fixed=frozenset(self.route.constants),
            forced=self.route.shape != "custom" or "moderation" in self.route.fields,
            address=self._address(),
            request_id=plain_word(header(self.scope["headers"], "x-request-id")),
            policies=self.policies,
        )
        if not isinstance(answer, Admitted):
            await self._say(answer)
            return
        body, content_type = parsed.write(answer.request, answer.ticket.safety_identifier)
        changes, receive = self._changes(answer, len(body), content_type), Replay(body, self.receive)
        del parsed, body  # an answer can take minutes, and pictures are large
        with _decided(self.scope, changes, answer.decision):
            await self._forward(answer, receive)

    async def _parsed(self, body: bytes) -> Parsed:
        kind = one_content_type(_values(self.scope, b"content-type"), _values(self.scope, b"content-encoding"))
        query = self.scope.get("query_string", b"")
        if self.route.shape == "custom":
            return await _read(body, partial(read_own, body, kind, self.route, query))
        check_query(query)
        if self.route.shape == "generations":
            parsed = await _read(body, partial(forms.read, self.route.shape, body, kind))
        else:  # pictures to look at, however short
            parsed = await in_thread(forms.read, self.route.shape, body, kind, self.door.max_json_bytes)
        # an app may read more from there
        return replace(parsed, request=replace(parsed.request, whole=also_read(query))) if query else parsed

    async def _refuse(self, error: InvalidRequest | Reason) -> None:
        refused = await self.guard.areject(
            error, surface=self.surface, caller=self.caller, door=self.door.name, address=self._address()
        )
        await self._say(refused)

    def _address(self) -> str | None:
        """Of who asks, where nothing better is known: a proxy's client has a key."""
        return origin(self.scope, self.policies) if self.door.name == "asgi" else None

    async def _say(self, answer: Refused | Held | Released) -> None:
        policy = self.policies.surfaces.get(self.surface)
        await say(answer, self.send, reasons=policy is None or policy.reasons_on_wire)

    # ---- after admission --------------------------------------------------------------------------------------

    async def _forward(self, admitted: Admitted, receive: Replay) -> None:
        offer = Offer(self.guard, admitted, self.caller)
        offer.reported = self.door.upstream is not None  # what answers is the API itself
        leg = LiveLeg(self.guard, admitted, looks=admitted.ticket.output is not None, offer=offer)
        reply = Reply(self.send, leg, self.route, self._say)
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
            b"accept-encoding": b"identity",  # an answer that something inside compresses has no usage to be read
        }
        replaced = (*forced, b"transfer-encoding")
        headers = [(name, value) for name, value in self.scope["headers"] if name.lower() not in replaced]
        changes: dict[str, Any] = {"headers": [*headers, *forced.items()], "method": self.route.method}
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

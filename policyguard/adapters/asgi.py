"""The ASGI door: `app.add_middleware(PolicyGuardMiddleware, guard=guard)`.

Pure ASGI. Requests that no surface's route matches pass untouched, except what looks like an image route: that is
refused. What matches is read within limits, decided, rewritten with what the policy forces, and settled from the app's
answer, which passes on piece by piece. When a client leaves, the app hears of it and stops or goes on as it would by
itself: a leg whose usage was seen by then is settled by it, every other one is presumed.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

import anyio

from policyguard.adapters.body import ClientLeft, Message, Receive, Replay, Send, read_body
from policyguard.adapters.held_back import HeldBack
from policyguard.adapters.identity import CallerOf, caller_of, header
from policyguard.adapters.offer import Offer, offered
from policyguard.adapters.routes import Table, paths
from policyguard.decision import Admitted, Held, Reason, Refused, Released
from policyguard.errors import InvalidRequest
from policyguard.flow import expired, no_surface_reason
from policyguard.guard import Guard
from policyguard.policy.model import PolicySet, Route
from policyguard.request import Caller, Failure, Outcome
from policyguard.wire.edits import Edit, read_edit
from policyguard.wire.edits_json import JsonEdit, read_json_edit
from policyguard.wire.generations import Generation, is_json, read_generation
from policyguard.wire.outcome import OutcomeReader, plain_word
from policyguard.wire.own import Own, read_own
from policyguard.wire.refusals import render

Scope = MutableMapping[str, Any]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Parsed = Generation | Edit | JsonEdit | Own
KEY = "policyguard"  # our place in the scope, and in `request.state`
MAX_BODY_BYTES = 64 * 1024 * 1024  # a request: sixteen images of four megabytes
MAX_JSON_BYTES = 1_000_000  # a prompt of 32,000 characters and everything beside it, but for pictures


class PolicyGuardMiddleware:
    """Guards the routes that the policies declare.

    `caller` gets the ASGI scope and says who asks, as a `Caller` or a mapping; without it declared headers of trusted
    proxies and `policyguard.caller(...)` count. An edit larger than `max_body_bytes`, JSON without its pictures larger
    than `max_json_bytes`, and a body slower than `body_timeout_s` are refused.
    """

    def __init__(
        self,
        app: App,
        *,
        guard: Guard,
        caller: CallerOf | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_json_bytes: int = MAX_JSON_BYTES,
        body_timeout_s: float = 60.0,
    ) -> None:
        self.app = app
        self.guard = guard
        self.caller = caller
        self.max_body_bytes = max_body_bytes
        self.max_json_bytes = max_json_bytes
        self.body_timeout_s = body_timeout_s
        self._table = Table(guard.policies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.guard.afollow()  # at the latest now, best at startup: each worker follows the policies by itself
        if scope["type"] != "http" or KEY in scope:  # a guard further out has decided already
            await self.app(scope, receive, send)
            return
        table, places = self._routes(), paths(scope)
        match = table.match(scope["method"], *places)
        if match is not None:
            await _Guarded(self, scope, receive, send, table.policies, *match).run()
        elif table.evaded(scope["method"], *places):
            await self._no_surface(table.policies, scope, send)
        else:
            await self.app(scope, receive, send)

    def _routes(self) -> Table:
        table, policies = self._table, self.guard.policies
        if table.policies is not policies:
            self._table = table = Table(policies)
        return table

    async def _no_surface(self, policies: PolicySet, scope: Scope, send: Send) -> None:
        who = caller_of(scope, policies, self.caller)
        refused = await self.guard.areject(no_surface_reason(), surface=None, caller=who, door="asgi")
        await _answer(refused, send, reasons=True)


async def _answer(answer: Refused | Held | Released, send: Send, *, reasons: bool) -> None:
    status, headers, body = render(answer, reasons=reasons)
    raw = [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers]
    await send({"type": "http.response.start", "status": status, "headers": raw})
    await send({"type": "http.response.body", "body": body})


class _Guarded:
    """One request on its way through, by the policies that were in force when it came."""

    def __init__(
        self,
        door: PolicyGuardMiddleware,
        scope: Scope,
        receive: Receive,
        send: Send,
        policies: PolicySet,
        surface: str,
        route: Route,
    ) -> None:
        self.door, self.guard = door, door.guard
        self.scope, self.receive, self.send = scope, receive, send
        self.policies, self.surface, self.route = policies, surface, route
        self.caller: Caller = caller_of(scope, policies, door.caller)

    async def run(self) -> None:
        try:
            parsed = await self._parse()
        except ClientLeft:
            return
        except InvalidRequest as error:
            await self._refuse(error)
            return
        answer = await self.guard.aadmit(
            parsed.request,
            self.caller,
            surface=self.surface,
            review_id=header(self.scope["headers"], "x-policyguard-review"),
            door="asgi",
            fixed=frozenset(self.route.constants),
            forced=self.route.shape != "custom" or "moderation" in self.route.fields,
            request_id=plain_word(header(self.scope["headers"], "x-request-id")),
            policies=self.policies,
        )
        if not isinstance(answer, Admitted):
            await self._say(answer)
            return
        scope, receive = self._rewritten(answer, *parsed.write(answer.request, answer.ticket.safety_identifier))
        del parsed  # an answer can take minutes, and pictures are large
        await self._forward(answer, scope, receive)

    async def _parse(self) -> Parsed:
        headers = self.scope["headers"]
        encodings = [value.strip().lower() for name, value in headers if name.lower() == b"content-encoding"]
        if any(encoding != b"identity" for encoding in encodings):
            raise InvalidRequest("the body must not be compressed")
        types = [value.decode("latin-1") for name, value in headers if name.lower() == b"content-type"]
        if len(types) != 1:
            raise InvalidRequest("the request needs one content type")
        body = await read_body(
            self.receive,
            header(headers, "content-length"),
            limit=self.door.max_body_bytes if self.route.shape == "edits" else self.door.max_json_bytes,
            timeout_s=self.door.body_timeout_s,
        )
        if self.route.shape == "generations":
            return read_generation(body, types[0])
        if self.route.shape == "edits" and is_json(types[0]):
            return read_json_edit(body, types[0], self.door.max_json_bytes)
        if self.route.shape == "edits":
            return read_edit(body, types[0])
        return read_own(body, types[0], self.route)

    async def _refuse(self, error: InvalidRequest | Reason) -> None:
        await self._say(await self.guard.areject(error, surface=self.surface, caller=self.caller, door="asgi"))

    async def _say(self, answer: Refused | Held | Released) -> None:
        policy = self.policies.surfaces.get(self.surface)
        await _answer(answer, self.send, reasons=policy is None or policy.reasons_on_wire)

    # ---- after admission --------------------------------------------------------------------------------------

    async def _forward(self, admitted: Admitted, scope: Scope, receive: Replay) -> None:
        if not await self.guard.asent(admitted.ticket):
            await self._say(expired(admitted, self.guard.clock()))
            return
        offer = Offer(self.guard, admitted, self.caller)
        answer = _Answer(self.send, offer, self.route, self._say)
        failure = Failure.CANCELLED
        try:
            with offered(offer), self.guard.alive(admitted.ticket):
                await self.door.app(scope, receive, answer.send)
            failure = Failure.CUT
        except Exception:
            failure = Failure.ERROR
            raise
        finally:
            if receive.left or answer.left:
                failure = Failure.CANCELLED
            # a call that took the ticket settles it, by what OpenAI itself answered
            if offer.close() and not answer.settled:
                with anyio.CancelScope(shield=True):
                    await self.guard.asettle(admitted.ticket, answer.outcome(failure))

    def _rewritten(self, admitted: Admitted, body: bytes, content_type: str) -> tuple[Scope, Replay]:
        """What the app gets: the request as it was decided, and who decided it."""
        forced = {
            b"content-length": str(len(body)).encode(),
            b"content-type": content_type.encode("latin-1"),
            b"accept-encoding": b"identity",  # an answer that something inside compresses has no usage to be read
        }
        replaced = (*forced, b"transfer-encoding")
        headers = [(name, value) for name, value in self.scope["headers"] if name.lower() not in replaced]
        headers += forced.items()
        state = {**self.scope.get("state", {}), KEY: admitted.decision}
        scope = {**self.scope, "headers": headers, "state": state, KEY: admitted.decision.id}
        if admitted.ticket.output is not None:  # no file goes out past whoever looks at the answer
            scope["extensions"] = {}
        return scope, Replay(body, self.receive)


class _Answer:
    """The app's answer: passed on with our headers, and read as it passes. `left`: the client does not take it."""

    def __init__(
        self, send: Send, offer: Offer, route: Route, say: Callable[[Refused | Held], Awaitable[None]]
    ) -> None:
        self.left = False
        self._send = send
        self._offer = offer
        decision = offer.admitted.decision
        self._headers = [(b"x-policyguard-decision", decision.id.encode())]
        if decision.adjustments:
            adjusted = ",".join(map(str, decision.adjustments))
            self._headers.append((b"x-policyguard-adjusted", adjusted.encode("latin-1", "replace")))
        self._images, self._route = offer.admitted.request.n or 1, route
        self._started = time.monotonic()
        self._reader: OutcomeReader | None = None
        self._complete = False
        inspected = offer.ticket.output is not None
        self._back = HeldBack(offer, route, self._pass, self._whole, say) if inspected else None

    @property
    def settled(self) -> bool:
        return self._back is not None and self._back.settled

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = list(message.get("headers", ()))  # any iterable, and it is needed twice
            answered = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in headers}
            self._reader = OutcomeReader(message["status"], answered, images=self._images, route=self._route)
            message = {**message, "headers": [*headers, *self._headers]}
        elif message["type"] == "http.response.body" and self._reader is not None:
            # read before it is passed on: a client that has left does not change what the app answered
            self._reader.feed(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._complete:
                self._offer.close()  # what runs on after the answer has not been admitted
        if self._back is not None:
            await self._back.send(message, self._complete)
        else:
            await self._pass(message)

    async def _pass(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            self.left = True
            raise

    def _whole(self) -> Outcome:
        return self.outcome(Failure.CUT)

    def outcome(self, failure: Failure) -> Outcome:
        """What the app's answer says. Not definite by itself: the app may have called the API any number of times.

        `failure` is why there is no more of it, where it is not complete.
        """
        latency_ms = round((time.monotonic() - self._started) * 1000)
        if self._reader is None:
            return Outcome(failure=failure, latency_ms=latency_ms)
        more = None if self._complete else failure
        return self._reader.outcome(failure=more, latency_ms=latency_ms, definite=self._offer.reported)

"""The WSGI door, for Flask, and Django under WSGI: `app.wsgi_app = PolicyGuardMiddleware(app.wsgi_app, guard=guard)`.

The same forms, forcing and refusals as the ASGI door, in the threads of the app's server. An answer passes on piece by
piece; its leg ends with its last byte, or when the server closes it before that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from http import HTTPStatus
from typing import Any, Self

from policyguard.adapters.body import Scope
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
    headers_for,
    leg_of,
    reasons_on_wire,
    unclaimed,
)
from policyguard.adapters.environ import read_body, scope_of, with_body
from policyguard.adapters.identity import CallerOf, caller_of, origin
from policyguard.adapters.routes import RouteTable
from policyguard.decision import Held, Refused, Released
from policyguard.flow.drive import drive
from policyguard.flow.reasons import no_surface_reason
from policyguard.guard.current import one_request
from policyguard.guard.guard import Guard
from policyguard.guard.leg import LiveLeg, WatchedAnswer
from policyguard.guard.steps import perform
from policyguard.policy.model import PolicySet, Route
from policyguard.request import Caller, Failure, Outcome
from policyguard.wire.forms import MAX_BODY_BYTES, MAX_JSON_BYTES
from policyguard.wire.refusals import render

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
WSGIApp = Callable[[Environ, StartResponse], Iterable[bytes]]
KEY = "policyguard"  # our place in the environ: the id of the decision


class PolicyGuardMiddleware:
    """Guards the routes that the policies declare.

    `caller` gets the environ and says who asks, as a `Caller` or a mapping; without it declared headers of trusted
    proxies and `policyguard.caller(...)` count. `root_path` and the limits are those of the ASGI door. How slowly a
    body may arrive, and how many at once, is the server's to say.
    """

    def __init__(
        self,
        app: WSGIApp,
        *,
        guard: Guard,
        caller: CallerOf | None = None,
        root_path: str | None = None,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_json_bytes: int = MAX_JSON_BYTES,
        max_unclaimed_bytes: int = MAX_UNCLAIMED_BYTES,
    ) -> None:
        self.app, self.guard, self.caller = app, guard, caller
        self._rules = DoorRules(guard=guard, name="wsgi", max_body_bytes=max_body_bytes, max_json_bytes=max_json_bytes)
        self._max_unclaimed_bytes = max_unclaimed_bytes
        self._table = RouteTable(guard.policies, root_path)

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        self.guard.follow()  # each worker follows the policies by itself
        if KEY in environ:  # a guard further out has decided already
            return self.app(environ, start_response)
        with one_request():
            return self._request(environ, start_response)

    def _request(self, environ: Environ, start: StartResponse) -> Iterable[bytes]:
        self._table = table = self._table.current(self.guard.policies)
        scope = scope_of(environ)
        found = table.find(scope)
        if found.claimed is not None:
            surface, route = found.claimed
            who = self._who(environ, scope, table.policies)
            it = Claimed(scope=scope, policies=table.policies, surface=surface, route=route, caller=who)
            said = drive(decided(self._rules, it), partial(self._perform, environ))
            reasons = reasons_on_wire(table.policies, surface)
            if isinstance(said, Forward):
                return self._forward(environ, start, said, route, reasons)
            return self._told(environ, start, said, reasons)
        if found.evades is not None:
            who, address = self._who(environ, scope, table.policies), origin(scope, table.policies)
            reason = no_surface_reason(found.evades)
            refused = self.guard.reject(reason, surface=None, caller=who, door=self._rules.name, address=address)
            return _say(refused, start, reasons=True)
        if found.is_responses:
            who = self._who(environ, scope, table.policies)
            steps = unclaimed(self._rules, scope, table.policies, who, self._max_unclaimed_bytes)
            return self._told(environ, start, drive(steps, partial(self._perform, environ)), True)
        return self.app(environ, start)

    def _who(self, environ: Environ, scope: Scope, policies: PolicySet) -> Caller:
        given = self.caller
        return caller_of(scope, policies, (lambda _: given(environ)) if given else None)

    def _perform(self, environ: Environ, step: DoorStep) -> Any:
        match step:
            case ReadBody():
                return read_body(environ, step.limit)
            case ReadingWork():
                return step.call()
        return perform(self.guard, step)

    def _told(
        self, environ: Environ, start: StartResponse, said: Passes | Refused | Held | Released, reasons: bool
    ) -> Iterable[bytes]:
        if isinstance(said, Passes):
            return self.app(with_body(environ, said.body), start)
        return _say(said, start, reasons=reasons)

    def _forward(
        self, environ: Environ, start: StartResponse, said: Forward, route: Route, reasons: bool
    ) -> Iterable[bytes]:
        decision = said.admitted.decision
        given = {KEY: decision.id, "REQUEST_METHOD": route.method, "CONTENT_TYPE": said.content_type}
        environ = {**with_body(environ, said.body), **given, "HTTP_ACCEPT_ENCODING": FORCED_ENCODING}
        leg = leg_of(self._rules, said.admitted, said.caller)
        return _WSGIReply(leg, route, start, reasons).of(self.app, environ)


class _WSGIReply:
    """The app's answer to an admitted request: read as it passes, or kept until its pictures were looked at."""

    def __init__(self, leg: LiveLeg, route: Route, start: StartResponse, reasons: bool) -> None:
        self._leg, self._route, self._start, self._reasons = leg, route, start, reasons
        self._answer: WatchedAnswer | None = None
        self._begun: tuple[Any, ...] = ()
        self._written: list[bytes] = []  # by the callable that `start_response` returns, as old apps do
        self._found: Iterable[bytes] = ()

    def of(self, app: WSGIApp, environ: Environ) -> Self:
        with self._running():
            self._found = app(environ, self._begin)
        return self

    def __iter__(self) -> Iterator[bytes]:
        with self._running():
            pieces = iter(self._found)
        piece: bytes | None = b""
        while piece is not None:
            with self._running():
                piece = next(pieces, None)
            yield from self._passed(piece)
        yield from self._ended()

    def close(self) -> None:
        """The server has done with it: whoever was to get it may have left before its end."""
        try:
            if (close := getattr(self._found, "close", None)) is not None:
                close()
        finally:
            self._leg.end(self._outcome(Failure.CANCELLED))  # nothing, where it has ended

    @contextmanager
    def _running(self) -> Iterator[None]:
        """The app runs, as a part of its request."""
        try:
            with one_request(), self._leg.within():
                yield
        except BaseException as error:
            self._leg.end(self._outcome(Failure.ERROR if isinstance(error, Exception) else Failure.CANCELLED))
            raise

    def _outcome(self, failure: Failure) -> Outcome:
        return Outcome(failure=failure) if self._answer is None else self._answer.outcome(failure)

    def _begin(self, status: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Callable[[bytes], object]:
        answered = {name.lower(): value for name, value in headers}
        self._answer = WatchedAnswer(self._leg, int(status.split(" ", 1)[0]), answered, route=self._route)
        ours = headers_for(self._leg.admitted.decision)
        self._begun = (status, [*headers, *ours], *((exc_info,) if exc_info else ()))
        if not self._leg.holds_back:
            self._start(*self._begun)
        return self._written.append

    def _passed(self, piece: bytes | None) -> Iterator[bytes]:
        """What was written comes before what is returned."""
        pieces, self._written = [*self._written, *([] if piece is None else [piece])], []
        for one in pieces:
            if self._answer is not None:
                self._answer.feed(one)
            if not self._leg.holds_back:
                yield one

    def _ended(self) -> Iterator[bytes]:
        """The answer is whole: its leg ends, and what was kept goes out, or a refusal in its place."""
        if self._answer is None:
            return
        self._answer.whole = True
        output = self._answer.output()
        said = self._leg.end(self._answer.outcome(), output)
        if not self._leg.holds_back:
            return
        if said is not None:
            yield from _say(said, self._start, reasons=self._reasons)
        elif output is not None and output.answer is not None:
            status, headers, *more = self._begun
            kept = [one for one in headers if one[0].lower() not in ("content-length", "transfer-encoding")]
            self._start(status, [*kept, ("Content-Length", str(len(output.answer.body)))], *more)
            yield output.answer.body


def _say(answer: Refused | Held | Released, start: StartResponse, *, reasons: bool) -> list[bytes]:
    rendered = render(answer, reasons=reasons)
    start(f"{rendered.status} {HTTPStatus(rendered.status).phrase}", list(rendered.headers))
    return [rendered.body]

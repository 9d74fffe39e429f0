"""One call through the client door, as steps that a sync or an async transport performs.

What a step raises comes back into the steps, so that a leg that was sent is settled whatever ends the call: an answer,
a timeout, a lost connection, a cancelled task. The answer comes from OpenAI itself, so its errors are definite.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import Any

import httpx2

from policyguard.adapters.body import too_large
from policyguard.adapters.calls import Call, call_of, can_hold_tools, is_plain
from policyguard.adapters.deciding import ReadingWork, headers_for, reasons_on_wire
from policyguard.adapters.identity import said_by
from policyguard.adapters.passing import failure_of
from policyguard.decision import Admitted, Held, Reason, Refused, Released
from policyguard.engine.callers import check_caller
from policyguard.errors import ConfigError, InvalidRequest
from policyguard.flow.ask import AskOptions
from policyguard.flow.reasons import no_surface_reason
from policyguard.guard.guard import Guard
from policyguard.guard.leg import LiveLeg, WatchedAnswer
from policyguard.guard.offer import Offer, admission, caller_within, current_offer, looks
from policyguard.guard.steps import Admit, GuardStep, Reject
from policyguard.request import Caller, IdentityValue, Outcome, Output
from policyguard.wire.errors import render_error
from policyguard.wire.forms import Parsed, WireForm, check_query, largest, one_content_type, read
from policyguard.wire.reach import Reach, Reached, reach
from policyguard.wire.refusals import render

DOOR = "client"
_REVIEW = "x-policyguard-review"
_OURS = b"x-policyguard-"
_REWRITTEN = (b"content-length", b"content-type", b"content-encoding", b"transfer-encoding")
_DECODED = ("content-length", "content-encoding", "transfer-encoding")


@dataclass(frozen=True, slots=True)
class ClientDoor:
    """`caller` says who asks, where `policyguard.caller` does not."""

    guard: Guard
    surface: str
    caller: Callable[[], Caller | Mapping[str, IdentityValue] | None] | None

    def who(self, offer: Offer | None) -> Caller:
        return said_by(self.caller() if self.caller else None, caller_within(offer).values)


# ---- steps ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Read:
    """The whole body of a request. Answer: bytes."""

    request: httpx2.Request


@dataclass(frozen=True, slots=True)
class SendRequest:
    """Answer: the `Response`, with its body unread."""

    request: httpx2.Request


@dataclass(frozen=True, slots=True)
class Body:
    """The whole body of an answer, decoded. Answer: bytes."""

    response: httpx2.Response


@dataclass(frozen=True, slots=True)
class Gather:
    """Read a whole answer, of which `answer` keeps what there is room for. Answer: None."""

    response: httpx2.Response
    answer: WatchedAnswer


@dataclass(frozen=True, slots=True)
class Pass:
    """Let an answer pass that is streamed, and end its leg with it. Answer: `Stream`."""

    response: httpx2.Response
    answer: WatchedAnswer


CallStep = ReadingWork | Read | SendRequest | Body | Gather | Pass | GuardStep
Stream = httpx2.SyncByteStream | httpx2.AsyncByteStream
CallSteps = Generator[CallStep, Any, httpx2.Response]

# ---- the call ---------------------------------------------------------------------------------------------


def answer(door: ClientDoor, request: httpx2.Request) -> CallSteps:
    """The answer to one request of the SDK."""
    path = request.url.raw_path.partition(b"?")[0].decode("latin-1")
    call = call_of(request.method, path, request.headers)
    if call is Call.GENERATIONS or call is Call.EDITS:
        return (yield from _image_call(door, request, "generations" if call is Call.GENERATIONS else "edits"))
    if call is Call.UNSEEN:
        return (yield from _refuse(door, no_surface_reason()))
    if can_hold_tools(call, request.headers.get("content-type", "")):
        try:
            reached = yield from _reached(request, call)
        except InvalidRequest as error:
            return (yield from _refuse(door, error))
        if reached.reach is Reach.TOOL and call is Call.RESPONSES and is_plain(request.method, path):
            return (yield from _image_call(door, request, "responses"))
        if reached.reach is not Reach.NONE:
            return (yield from _refuse(door, no_surface_reason(reached.message)))
    response: httpx2.Response = yield SendRequest(request)
    return response


def _reached(request: httpx2.Request, call: Call) -> Generator[CallStep, Any, Reached]:
    body: bytes = yield Read(request)
    kind = request.headers.get("content-type", "")
    encoded = request.headers.get("content-encoding", "identity").strip().lower() != "identity"
    return reach(body, kind, encoded=encoded, responses=call is Call.RESPONSES)


def _refuse(door: ClientDoor, error: InvalidRequest | Reason) -> CallSteps:
    try:
        caller = door.who(current_offer(door.guard))
    except ConfigError as problem:
        return _misconfigured(problem)
    refused: Refused = yield Reject(error, door.surface, caller, DOOR)
    return _refusal(door, refused)


def _refusal(door: ClientDoor, refused: Refused | Held | Released) -> httpx2.Response:
    status, headers, body = render(refused, reasons=reasons_on_wire(door.guard.policies, door.surface))
    return httpx2.Response(status, headers=headers, content=body)


def _misconfigured(error: ConfigError) -> httpx2.Response:
    """What the engineer wrote is wrong. The SDK would take an exception for a lost connection, and try again."""
    rendered = render_error(400, "invalid_request_error", "invalid_request", str(error), ("x-should-retry", "false"))
    return httpx2.Response(rendered.status, headers=rendered.headers, content=rendered.body)


def _image_call(door: ClientDoor, request: httpx2.Request, shape: WireForm) -> CallSteps:
    offer = current_offer(door.guard)
    try:
        caller = door.who(offer)
        check_caller(door.guard.policies.caller, caller)
    except ConfigError as error:
        return _misconfigured(error)
    try:
        body: bytes = yield Read(request)
        parsed: Parsed = yield ReadingWork(partial(_parsed, request, body, shape))
    except InvalidRequest as error:
        return (yield from _refuse(door, error))
    attempt = _Attempt.of(request)
    options: AskOptions = {
        "door": DOOR,
        "review_id": request.headers.get(_REVIEW),
        "retry_of": attempt.first,
        "upstream": request.url.host,
        "sends": True,
        "policies": door.guard.policies,
    }
    said = yield from admission(offer, Admit(parsed.request, caller, door.surface, options))
    if not isinstance(said, Admitted):
        return _refusal(door, said)
    return (yield from _forward(door, request, parsed, said, attempt, offer))


def _parsed(request: httpx2.Request, body: bytes, shape: WireForm) -> Parsed:
    types, encodings = (request.headers.get_list(name) for name in ("content-type", "content-encoding"))
    kind, limit = one_content_type(types, encodings), largest(shape)
    if len(body) > limit:
        raise too_large(limit)
    check_query(request.url.query)
    return read(shape, body, kind)


# ---- after admission --------------------------------------------------------------------------------------


def _forward(
    door: ClientDoor,
    request: httpx2.Request,
    parsed: Parsed,
    admitted: Admitted,
    attempt: _Attempt,
    offer: Offer | None,
) -> CallSteps:
    ticket = admitted.ticket
    sendable = _rewritten(request, *parsed.write(admitted.request, ticket.safety_identifier))
    leg = LiveLeg(door.guard, admitted, looks=looks(offer, ticket), tried=attempt.reasons)
    lives_on = False
    try:
        with leg.within():
            response: httpx2.Response = yield SendRequest(sendable)
        attempt.ended(admitted.decision.id, str(response.status_code))
        answer = WatchedAnswer(leg, response.status_code, _decoded(response))
        if leg.holds_back:
            return (yield from _inspected(door, response, leg, answer))
        if answer.is_stream:  # it lives on, and its leg ends when it does
            lives_on = True
            stream: Stream = yield Pass(response, answer)
            return _answered(response, stream, admitted)
        body: bytes = yield Body(response)
        answer.feed(body)
        yield from _ended(leg, answer)
        return _answered(response, httpx2.ByteStream(body), admitted, len(body))
    except BaseException as error:
        if not leg.has_ended and not lives_on:
            failure = failure_of(error)
            attempt.ended(admitted.decision.id, failure)
            yield from leg.ending(Outcome(failure=failure))
        raise


def _ended(
    leg: LiveLeg, answer: WatchedAnswer
) -> Generator[CallStep, Any, tuple[Refused | Held | None, Output | None]]:
    """The answer is whole: what is said in its place, and what came out where that is looked at."""
    answer.whole = True
    output: Output | None = (yield ReadingWork(answer.output)) if leg.looks else None
    said = yield from leg.ending(answer.outcome(), output)
    return said, output


def _inspected(door: ClientDoor, response: httpx2.Response, leg: LiveLeg, answer: WatchedAnswer) -> CallSteps:
    """The answer, whole, once its pictures were looked at; or the refusal in its place. A stream is one piece then."""
    yield Gather(response, answer)
    said, output = yield from _ended(leg, answer)
    if said is not None:
        return _refusal(door, said)
    if output is None or output.answer is None:
        return httpx2.Response(502)
    body = output.answer.body
    return _answered(response, httpx2.ByteStream(body), leg.admitted, len(body))


def _decoded(response: httpx2.Response) -> dict[str, str]:
    """What is read of it has no encoding any more."""
    return {name: value for name, value in response.headers.items() if name.lower() != "content-encoding"}


def _rewritten(request: httpx2.Request, body: bytes, content_type: str) -> httpx2.Request:
    """What was decided, to where it was going."""
    headers = [
        (name, value)
        for name, value in request.headers.raw
        if name.lower() not in _REWRITTEN and not name.lower().startswith(_OURS)
    ]
    headers.append((b"Content-Type", content_type.encode("latin-1")))
    return httpx2.Request(request.method, request.url, headers=headers, content=body, extensions=request.extensions)


def _answered(
    response: httpx2.Response, stream: Stream, admitted: Admitted, length: int | None = None
) -> httpx2.Response:
    """OpenAI's answer with our headers. Its body was decoded to be read, and is not encoded again."""
    headers = [(name, value) for name, value in response.headers.multi_items() if name.lower() not in _DECODED]
    headers += headers_for(admitted.decision)
    if length is not None:
        headers.append(("content-length", str(length)))
    return httpx2.Response(response.status_code, headers=headers, stream=stream, extensions=response.extensions)


# ---- attempts ---------------------------------------------------------------------------------------------

# The SDK tries again by itself, in the context of the call: there the next attempt finds the ones before.
_last: ContextVar[_Attempt | None] = ContextVar("policyguard_attempt", default=None)


@dataclass(frozen=True, slots=True)
class _Attempt:
    """One attempt of a call, and what came before it. `first` is the decision of the first one."""

    path: bytes
    first: str | None = None
    reasons: tuple[str, ...] = ()

    @property
    def number(self) -> int:
        return len(self.reasons) + 1

    @classmethod
    def of(cls, request: httpx2.Request) -> _Attempt:
        """The SDK counts; the body cannot tell, because a form has another boundary each time."""
        path, last = request.url.raw_path, _last.get()
        count = request.headers.get("x-stainless-retry-count", "0")
        again = last is not None and last.path == path and count == str(len(last.reasons))
        return last if last is not None and again else cls(path)

    def ended(self, decision_id: str, why: str) -> None:
        _last.set(_Attempt(self.path, self.first or decision_id, (*self.reasons, why)))

"""What becomes of a request over HTTP before an app gets it: written once, for every door that stands before an app.

Generators over steps, which sync and async doors perform. A request is an ASGI scope, also where a door has to make
one; how its body is read and where it goes then is the door's.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

from policyguard.adapters.body import Scope
from policyguard.adapters.identity import header, origin
from policyguard.decision import Admission, Admitted, Decision, Held, Reason, Refused, Released
from policyguard.errors import InvalidRequest
from policyguard.flow.ask import AskOptions
from policyguard.flow.reasons import no_surface_reason
from policyguard.guard.guard import Guard
from policyguard.guard.leg import LiveLeg
from policyguard.guard.offer import Offer
from policyguard.guard.steps import Admit, GuardStep, Reject
from policyguard.policy.model import PolicySet, Route
from policyguard.request import Caller
from policyguard.wire import forms
from policyguard.wire.forms import MAX_BODY_BYTES, MAX_JSON_BYTES, check_query, largest, one_content_type
from policyguard.wire.outcome import plain_word
from policyguard.wire.own import Own, also_read, read_own
from policyguard.wire.reach import DRAWS, Reach, Reached, reach

ReadRequest = forms.Parsed | Own
MAX_UNCLAIMED_BYTES = 8 * 1024 * 1024  # a conversation with some pictures
_SHORT = 32 * 1024  # bytes of a body that is read at once


@dataclass(frozen=True, slots=True, kw_only=True)
class DoorRules:
    """What a guarded request has to know of the door that it came through.

    `upstream` is the API's host, where the app calls it at once and nothing else: its errors are the API's own,
    definite. `passes_text`: what makes no image by the Responses API goes to the app as it is.
    """

    guard: Guard
    name: str
    upstream: str | None = None
    passes_text: bool = True
    max_body_bytes: int = MAX_BODY_BYTES
    max_json_bytes: int = MAX_JSON_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A request that a route of a surface claims, by the policies that were in force when it came.

    `names_user`: where the caller has no user, the body says who it is.
    """

    scope: Scope
    policies: PolicySet
    surface: str
    route: Route
    caller: Caller
    names_user: bool = False


# ---- steps ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ReadBody:
    """Answer: the whole body, of at most `limit` bytes. Raises `InvalidRequest`."""

    limit: int


@dataclass(frozen=True, slots=True)
class ReadingWork:
    """Reading what was sent. What is not `quick` is not for an event loop. Answer: what `call` returns."""

    call: Callable[[], Any]
    quick: bool = False


DoorStep = ReadBody | ReadingWork | GuardStep


class Forward(NamedTuple):
    """It goes to the app as it was decided."""

    admitted: Admitted
    caller: Caller
    body: bytes
    content_type: str


class Passes(NamedTuple):
    """It goes to the app as it came: it makes no image."""

    body: bytes


DoorAnswer = Refused | Held | Released


# ---- a request that a surface claims ----------------------------------------------------------------------


def decided(rules: DoorRules, it: Claimed) -> Generator[DoorStep, Any, Forward | Passes | DoorAnswer]:
    """What becomes of it. What a door raises while it reads the body goes through."""
    scope, route = it.scope, it.route
    try:
        body: bytes = yield ReadBody(largest(route.shape, rules.max_body_bytes, rules.max_json_bytes))
        reached = (yield from _reached(scope, body)) if route.shape == "responses" else DRAWS
        parsed: ReadRequest | None = (yield _parse(rules, it, body)) if reached is DRAWS else None
    except InvalidRequest as error:
        return (yield from _refused(rules, it, error))
    if reached.reach is Reach.NONE and rules.passes_text:  # text for text
        return Passes(body)
    del body
    if parsed is None:
        return (yield from _refused(rules, it, no_surface_reason(reached.message)))
    caller = it.caller
    if it.names_user and caller.user is None:
        caller = Caller.of({**caller.values, "user": parsed.request.safety_identifier or parsed.request.user})
    said: Admission = yield Admit(parsed.request, caller, it.surface, _options(rules, it))
    if not isinstance(said, Admitted):
        return said
    return Forward(said, caller, *parsed.write(said.request, said.ticket.safety_identifier))


def _options(rules: DoorRules, it: Claimed) -> AskOptions:
    headers, route = it.scope["headers"], it.route
    return {
        "review_id": header(headers, "x-policyguard-review"),
        "door": rules.name,
        "upstream": rules.upstream,
        "sends": True,
        "fixed": frozenset(route.constants),
        "forced": route.shape != "custom" or "moderation" in route.fields,
        "address": _address(rules, it),
        "request_id": plain_word(header(headers, "x-request-id")),
        "policies": it.policies,
    }


def _address(rules: DoorRules, it: Claimed) -> str | None:
    """Of who asks, where nothing better is known: a proxy's client has a key."""
    return None if rules.name == "proxy" else origin(it.scope, it.policies)


def _refused(rules: DoorRules, it: Claimed, why: InvalidRequest | Reason) -> Generator[DoorStep, Any, Refused]:
    refused: Refused = yield Reject(why, it.surface, it.caller, rules.name, _address(rules, it))
    return refused


def _parse(rules: DoorRules, it: Claimed, body: bytes) -> ReadingWork:
    """Pictures are to be looked at, however short they are: that takes long."""
    quick = it.route.shape in ("custom", "generations") and len(body) <= _SHORT
    return ReadingWork(partial(_parsed, rules, it, body), quick)


def _parsed(rules: DoorRules, it: Claimed, body: bytes) -> ReadRequest:
    kind, query = _content_type(it.scope), it.scope.get("query_string", b"")
    if it.route.shape == "custom":
        return read_own(body, kind, it.route, query)
    check_query(query)
    parsed = forms.read(it.route.shape, body, kind, rules.max_json_bytes)
    # an app may read more from there
    return replace(parsed, request=replace(parsed.request, whole=also_read(query))) if query else parsed


def _content_type(scope: Scope) -> str:
    """Raises `InvalidRequest`."""
    return one_content_type(_values(scope, b"content-type"), _values(scope, b"content-encoding"))


def _values(scope: Scope, wanted: bytes) -> list[str]:
    return [value.decode("latin-1") for name, value in scope["headers"] if name.lower() == wanted]


def _reached(scope: Scope, body: bytes) -> Generator[DoorStep, Any, Reached]:
    """Whether a body of the Responses API can make images."""
    kind = _content_type(scope)
    reached: Reached = yield ReadingWork(partial(reach, body, kind, encoded=False, responses=True), len(body) <= _SHORT)
    return reached


# ---- one that none claims ---------------------------------------------------------------------------------


def unclaimed(
    rules: DoorRules, scope: Scope, policies: PolicySet, caller: Caller, limit: int
) -> Generator[DoorStep, Any, Passes | Refused]:
    """A request to the Responses API: it passes where it can make no image."""
    why: InvalidRequest | Reason
    try:
        body: bytes = yield ReadBody(limit)
        reached = yield from _reached(scope, body)
        if reached.reach is Reach.NONE:
            return Passes(body)
        why = no_surface_reason(reached.message)
    except InvalidRequest as error:
        why = error
    refused: Refused = yield Reject(why, None, caller, rules.name, origin(scope, policies))
    return refused


# ---- what goes on -----------------------------------------------------------------------------------------

# An answer that something inside compresses has no usage to be read.
FORCED_ENCODING = "identity"


def leg_of(rules: DoorRules, admitted: Admitted, caller: Caller) -> LiveLeg:
    """What is admitted, on its way through an app whose own calls may run on its ticket."""
    offer = Offer(rules.guard, admitted, caller)
    offer.reported = rules.upstream is not None  # what answers is the API itself
    return LiveLeg(rules.guard, admitted, looks=admitted.ticket.output is not None, offer=offer)


def headers_for(decision: Decision) -> list[tuple[str, str]]:
    """What an answer says of how its request was decided."""
    headers = [("x-policyguard-decision", decision.id)]
    if decision.adjustments:
        headers.append(("x-policyguard-adjusted", ",".join(map(str, decision.adjustments))))
    return headers


def reasons_on_wire(policies: PolicySet, surface: str | None) -> bool:
    policy = policies.surfaces.get(surface or "")
    return policy is None or policy.reasons_on_wire

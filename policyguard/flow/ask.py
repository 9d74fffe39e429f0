"""What a door hands to the flow: one request with what belongs to it, or something that never became a request.

Values only. The flow reads them and never asks a door back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Protocol, TypedDict

from policyguard.decision import Reason, Ticket
from policyguard.policy.model import PolicySet
from policyguard.request import Caller, ImageRequest


class Keys(Protocol):
    """Keyed hashes: the same text gives the same pseudonym, and nobody without the key can guess the text."""

    def pseudonym(self, kind: str, text: str) -> str: ...

    def safety_identifier(self, user: str) -> str: ...


class AskOptions(TypedDict, total=False):
    """What a door can say beside the request.

    `review_id` resumes an approved review. `door` is `python` unless a door of ours says otherwise. `forced` false: the
    door can only declare what happens behind it. `upstream` is the host that the door itself calls: where it fails too
    often, requests to it are refused for a while; without it that is counted for the surface. `fixed` are parameters
    that it cannot change, so that the policy denies what it would bring down. `request_id` is the client's own, for
    the record. `policies` is the set that the door read the request by, so that a reload in between does not mix two
    sets; without it the set in force.
    `sends`: the door sends at once what is admitted, so that it is marked as sent with its reservation; no `sent` then.
    `address` is where the request comes from, where the door knows: of callers whom nobody knows it bounds the rows.
    `ticket` is of the request that this one is a part of, `retry_of` the decision on the first attempt of it.
    """

    review_id: str | None
    door: str
    forced: bool
    fixed: frozenset[str]
    upstream: str | None
    request_id: str | None
    address: str | None
    policies: PolicySet
    ticket: Ticket
    retry_of: str | None
    sends: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """One request as a door hands it over, with the ids and the time that the driver gives it.

    `door` is `asgi`, `wsgi`, `client`, `decorator`, `proxy` or `python`; `forced` is false where the door can only
    declare what the app does, and `fixed` are the parameters that it cannot change. `upstream` is what a breaker is
    for: the API's host where the door calls it, without it the app behind the surface. `review_id` resumes an approved
    review,
    `request_id` is the client's own, `address` where the request comes from. `ticket` is of the admitted and sent
    request that this one is a part of, `retry_of` the decision on the first attempt of this one. `sent_for`: it goes
    upstream at once, and has this time there. `elapsed_ms` says how long the guard has worked on the request so far.
    """

    request: ImageRequest
    caller: Caller
    surface: str
    now: datetime
    decision_id: str
    leg_id: str
    new_review_id: str
    review_id: str | None = None
    door: str = "python"
    forced: bool = True
    fixed: frozenset[str] = frozenset()
    upstream: str | None = None
    request_id: str | None = None
    address: str | None = None
    ticket: Ticket | None = None
    retry_of: str | None = None
    sent_for: timedelta | None = None
    elapsed_ms: Callable[[], int] = lambda: 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """Something that a door could not turn into a request, or that no surface claims."""

    reason: Reason
    surface: str | None
    caller: Caller
    now: datetime
    decision_id: str
    door: str
    address: str | None = None

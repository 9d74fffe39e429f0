"""The ticket of a request that an outer door admitted, offered to the first guarded call inside that request.

Whoever has it ends its leg: the outer door until a call takes it, the call from then on. The offer closes when the
request has its answer, so that nothing that runs on afterwards can use money that was reserved for something else.
"""

from __future__ import annotations

import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from policyguard.decision import Admission, Admitted, Ticket
from policyguard.guard.current import current_caller
from policyguard.guard.steps import Admit, GuardStep, SettleLeg
from policyguard.request import Caller, Failure, ImageRequest, MainModel, Outcome

if TYPE_CHECKING:
    from policyguard.guard.guard import Guard

# Not given means as it was decided; anything else has to be what was decided.
_EQUAL = (
    "model",
    "size",
    "quality",
    "background",
    "output_format",
    "output_compression",
    "input_fidelity",
)
_AT_MOST = {"n": 1, "partial_images": 0, "stream": False, "max_output_tokens": 0}
_FILLED = ("n", "max_output_tokens")
_LOOKED_AT = ("prompt", "images", "mask", "markup", "main")


def _no_larger(asked: MainModel | None, had: MainModel | None) -> bool:
    if asked is None or had is None:
        return asked is had
    return asked.name == had.name and asked.text_bytes <= had.text_bytes


class Offer:
    """Thread-safe: the calls of a request may run anywhere, and its answer may end before they do."""

    def __init__(self, guard: Guard, admitted: Admitted, caller: Caller, around: Offer | None = None) -> None:
        self.guard = guard
        self.around = around
        self.admitted = admitted
        self.caller = caller
        self._lock = threading.Lock()
        self.reported = False  # a guarded call was made inside: what the app answers with an error is that call's
        self._taken = self._closed = False

    @property
    def ticket(self) -> Ticket:
        return self.admitted.ticket

    @property
    def looks(self) -> bool:
        """Whether the answer to this request is still to come, and is looked at when it does."""
        return self.ticket.output is not None and not self._closed

    def take(self) -> bool:
        """Once, and only while the request lives. Who took it ends the leg, or gives it back."""
        with self._lock:
            if self._taken or self._closed:
                return False
            self._taken = True
            return True

    def give_back(self) -> bool:
        """Unused. True: the request has ended in the meantime, so the leg is still to be ended by who gives it back."""
        with self._lock:
            self._taken = False
            return self._closed

    def close(self) -> bool:
        """The request has ended. True: no call has taken the ticket, its leg is the outer door's to end."""
        with self._lock:
            self._closed = True
            return not self._taken

    def covers(self, ask: Admit) -> bool:
        """Whether a call is no larger, in any parameter, than what was admitted, on this surface for this caller."""
        asked, had = ask.request, self.admitted.request
        return (
            ask.surface == self.ticket.surface
            and ask.caller.values == self.caller.values
            and asked.operation == had.operation
            and asked.extra == had.extra
            and all(getattr(asked, name) in (None, getattr(had, name)) for name in _EQUAL)
            and all((getattr(asked, n) or 0) <= (getattr(had, n) or least) for n, least in _AT_MOST.items())
            and _no_larger(asked.main, had.main)
        )

    def looked_at(self, asked: ImageRequest) -> bool:
        """Whether the prompt and the images are those that were looked at already."""
        had = self.admitted.request
        return all(getattr(asked, name) == getattr(had, name) for name in _LOOKED_AT)

    def filled(self, asked: ImageRequest) -> ImageRequest:
        """`asked`, with what was decided where it says nothing."""
        had = self.admitted.request
        missing = {name: getattr(had, name) for name in (*_FILLED, *_EQUAL) if getattr(asked, name) is None}
        return replace(asked, **missing)


_offer: ContextVar[Offer | None] = ContextVar("policyguard_offer", default=None)


@contextmanager
def offered(offer: Offer) -> Iterator[None]:
    """The code inside runs for the request of `offer`."""
    token = _offer.set(offer)
    try:
        yield
    finally:
        with suppress(ValueError):  # abandoned, and ended in another context: there it never was
            _offer.reset(token)


def current_offer(guard: Guard) -> Offer | None:
    """The offer of the request that the running code belongs to, where this guard admitted it."""
    offer = _offer.get()
    return offer if offer is not None and offer.guard is guard else None


def looks(offer: Offer | None, ticket: Ticket) -> bool:
    """Whether a call looks at its output by itself, or leaves that to the request around, which does so in the end."""
    if ticket.output is None:
        return False
    return offer is None or not offer.looks or offer.ticket.surface != ticket.surface


def caller_within(offer: Offer | None) -> Caller:
    """The caller of the request around, but for what `policyguard.caller` says."""
    around = dict(offer.caller.items()) if offer else {}
    return Caller.of({**around, **dict(current_caller().items())})


def caller_around() -> Caller:
    """The caller of the request that the running code belongs to, whichever guard admitted it."""
    return caller_within(_offer.get())


def admission(offer: Offer | None, ask: Admit) -> Generator[GuardStep, Any, Admission]:
    """Decide a call, which runs on the ticket of `offer` where that covers it. What is admitted counts as sent."""
    said: Admission
    if offer is not None and ask.surface == offer.ticket.surface:
        offer.reported = True
    if offer is None or not offer.covers(ask) or not offer.take():
        said = yield ask
        return said
    asked = offer.filled(ask.request)
    if offer.looked_at(asked):
        decision = replace(offer.admitted.decision, request=asked, adjustments=())
        return Admitted(decision, offer.ticket)
    used = False
    try:
        said = yield replace(ask, request=asked, options={**ask.options, "ticket": offer.ticket})
        used = isinstance(said, Admitted) and said.ticket is offer.ticket
        return said
    finally:
        if not used and offer.give_back():
            yield SettleLeg(offer.ticket, Outcome(failure=Failure.CANCELLED))

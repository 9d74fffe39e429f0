"""The ASGI door where output is looked at: an answer is kept until its pictures were, then it goes, or a refusal does.

In shadow the answer passes at once, and what is found is only recorded. Nothing goes out before its end is known, so a
refusal has its own status; and whoever leaves meanwhile, the leg is settled.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import anyio

from policyguard.adapters.body import Message, Send
from policyguard.decision import Held, Refused
from policyguard.guard.offer import Offer
from policyguard.policy.model import Route
from policyguard.request import Outcome, Output
from policyguard.threads import in_thread
from policyguard.wire.output import BODY_IMAGES, IMAGES_API, RESPONSES_API, Kept, Place, read_output

Scope = dict[str, Any]


def place_of(route: Route) -> Place:
    """Where the answers of a route have their pictures."""
    if route.shape == "responses":
        return RESPONSES_API
    return Place(body=route.images or BODY_IMAGES) if route.shape == "custom" else IMAGES_API


class HeldBack:
    """One answer of an app. `settled`: its leg has ended with it.

    `outcome` says what the whole answer means, `say` sends a refusal in its place.
    """

    def __init__(
        self,
        offer: Offer,
        route: Route,
        send: Send,
        outcome: Callable[[], Outcome],
        say: Callable[[Refused | Held], Awaitable[None]],
    ) -> None:
        self.settled = False
        self._offer, self._place = offer, place_of(route)
        self._send, self._outcome, self._say = send, outcome, say
        self._passes = not offer.ticket.output.policy.holds_back
        self._start: Message | None = None
        self._kept = Kept()
        self._ended = False

    async def send(self, message: Message, complete: bool) -> None:
        if self._ended:
            return
        if message["type"] == "http.response.start":
            self._start = message
        elif message["type"] == "http.response.body":
            self._kept.feed(message.get("body", b""))
        if self._passes:
            await self._send(message)
        if complete:
            self._ended = True
            await self._end()

    async def _end(self) -> None:
        with anyio.CancelScope(shield=True):  # what was made can be held, though nobody waits any more
            output = await in_thread(self._output)  # many megabytes to read
        ours = self._offer.close()
        guard, ticket = self._offer.guard, self._offer.ticket
        said = await guard.ainspect(ticket, self._outcome(), output, settles=ours)
        self.settled = True
        if said is not None and not self._passes:
            await self._say(said)
        elif not self._passes and self._start is not None and output.answer is not None:
            body = output.answer.body
            await self._send({**self._start, "headers": _with_length(self._start["headers"], len(body))})
            await self._send({"type": "http.response.body", "body": body})

    def _output(self) -> Output:
        if self._start is None:
            return Output(problem="unreadable")
        headers = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in self._start["headers"]}
        return read_output(
            self._start["status"],
            headers.get("content-type", ""),
            self._kept.body,
            self._place,
            encoded=headers.get("content-encoding", "identity").strip().lower() != "identity",
            partials=self._passes,
        )


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-length", b"transfer-encoding")]
    return [*kept, (b"content-length", str(length).encode())]

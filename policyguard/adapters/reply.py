"""The answer of an ASGI app to an admitted request: passed on with our headers, and read as it passes.

Where output is looked at, it is kept until its pictures were, then it goes, or a refusal does. In shadow it passes at
once, and what is found is only recorded. Nothing goes out before its end is known, so a refusal has its own status;
and whoever leaves meanwhile, the leg ends with the last byte of the answer, whatever the app does after that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import anyio

from policyguard.adapters.body import Message, Send
from policyguard.adapters.deciding import headers_for
from policyguard.decision import Decision, Held, Refused
from policyguard.guard.leg import LiveLeg, WatchedAnswer
from policyguard.policy.model import Route
from policyguard.request import Failure, Outcome
from policyguard.threads import in_turn


class Reply:
    """`send` is what the app sends with. `left`: the client does not take it. `say` sends a refusal in its place."""

    def __init__(
        self, send: Send, leg: LiveLeg, route: Route, say: Callable[[Refused | Held], Awaitable[None]]
    ) -> None:
        self.left = False
        self._send, self._leg, self._route, self._say = send, leg, route, say
        self._start: Message | None = None
        self._answer: WatchedAnswer | None = None

    async def send(self, message: Message) -> None:
        if self._answer is not None and self._answer.whole:  # trailers, of an answer that has gone out
            if not self._leg.holds_back:
                await self._pass(message)
            return
        if message["type"] == "http.response.start":
            message = self._start = self._begin(message)
        elif message["type"] == "http.response.body" and self._answer is not None:
            # read before it is passed on: a client that has left does not change what the app answered
            self._answer.feed(message.get("body", b""))
            self._answer.whole = not message.get("more_body", False)
        is_whole = self._answer is not None and self._answer.whole
        if is_whole:
            self._leg.close()  # what runs on after the answer has not been admitted
        if not self._leg.holds_back:
            await self._pass(message)
        if is_whole:
            await self._end()

    def _begin(self, message: Message) -> Message:
        headers = list(message.get("headers", ()))  # any iterable, and it is needed twice
        answered = {n.decode("latin-1").lower(): v.decode("latin-1") for n, v in headers}
        self._answer = WatchedAnswer(self._leg, message["status"], answered, route=self._route)
        return {**message, "headers": [*headers, *_ours(self._leg.admitted.decision)]}

    async def _pass(self, message: Message) -> None:
        try:
            await self._send(message)
        except OSError:
            self.left = True
            raise

    # ---- its end ----------------------------------------------------------------------------------------------

    async def _end(self) -> None:
        """With its last byte."""
        if self._answer is None:
            return
        with anyio.CancelScope(shield=True):  # what was made can be held, though nobody waits any more
            output = await in_turn(self._answer.output) if self._leg.looks else None
        said = await self._leg.aend(self._answer.outcome(), output)
        if not self._leg.holds_back or self._start is None:
            return
        if said is not None:
            await self._say(said)
        elif output is not None and output.answer is not None:
            body = output.answer.body
            await self._pass({**self._start, "headers": _with_length(self._start["headers"], len(body))})
            await self._pass({"type": "http.response.body", "body": body})

    def outcome(self, failure: Failure) -> Outcome:
        """What it says where it came to no end, and `failure` is why."""
        return Outcome(failure=failure) if self._answer is None else self._answer.outcome(failure)


def _ours(decision: Decision) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode("latin-1", "replace")) for name, value in headers_for(decision)]


def _with_length(headers: list[tuple[bytes, bytes]], length: int) -> list[tuple[bytes, bytes]]:
    kept = [(name, value) for name, value in headers if name.lower() not in (b"content-length", b"transfer-encoding")]
    return [*kept, (b"content-length", str(length).encode())]

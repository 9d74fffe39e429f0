"""The life of an admitted request at a door: sent, kept alive, its answer observed, and ended, exactly once.

Every door is one: what differs between them is how bytes come and go, and that stays with them. The end is a generator
over the steps of the guard, which sync and async doors drive alike; it is shielded by the guard.
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from policyguard.decision import Admitted, Held, Refused, Ticket
from policyguard.flow.drive import adrive, drive
from policyguard.guard.offer import Offer, offered
from policyguard.guard.steps import GuardStep, Inspect, SettleLeg, aperform, perform
from policyguard.policy.model import Route
from policyguard.request import Failure, Outcome, Output
from policyguard.wire.outcome import OutcomeReader
from policyguard.wire.output import BODY_IMAGES, IMAGES_API, RESPONSES_API, Kept, PicturePlace, read_output

if TYPE_CHECKING:
    from policyguard.guard.guard import Guard

End = Generator[GuardStep, object, Refused | Held | None]


class LiveLeg:
    """From when it is sent to its one end.

    With an `offer` the request is around others, which may run on its ticket; it is then their end that counts, and
    an answer is OpenAI's own only where one of them was made. `looks`: its answer is looked at here, and nowhere
    further out. `tried` says why attempts before this one failed.
    """

    def __init__(
        self,
        guard: Guard,
        admitted: Admitted,
        *,
        looks: bool,
        offer: Offer | None = None,
        tried: tuple[str, ...] = (),
    ) -> None:
        self.guard, self.admitted, self.looks = guard, admitted, looks
        self.has_ended = False
        self._offer, self._tried = offer, tried
        self._started = time.monotonic()
        self._alive = ExitStack()
        self._alive.enter_context(guard.alive(admitted.ticket, current=False))

    @property
    def ticket(self) -> Ticket:
        return self.admitted.ticket

    @property
    def holds_back(self) -> bool:
        """Whether nothing goes out before it was looked at."""
        return self.looks and bool(self.ticket.output.policy.holds_back)

    @contextmanager
    def within(self) -> Iterator[None]:
        """The code inside runs for this request, in this context."""
        with ExitStack() as inside:
            if self._offer is not None:
                inside.enter_context(offered(self._offer))
            inside.enter_context(self.guard.telemetry.spans.within(self.ticket))
            yield

    def close(self) -> bool:
        """The answer is there: nothing that runs on uses the ticket. True: no call inside took it, the end is ours."""
        return self._offer is None or self._offer.close()

    def _came_of(self, outcome: Outcome) -> Outcome:
        """`outcome`, with what this leg knows of itself."""
        definite = self._offer is None or self._offer.reported
        latency_ms = round((time.monotonic() - self._started) * 1000)
        attempts = len(self._tried) + 1
        return replace(outcome, latency_ms=latency_ms, definite=definite, attempts=attempts, retry_reasons=self._tried)

    # ---- the end ----------------------------------------------------------------------------------------------

    def ending(self, outcome: Outcome, output: Output | None = None) -> End:
        """Settle by `outcome`; or look at `output`, and settle with what is found. Nothing the second time.

        What is returned is to be said in the answer's place, unless the surface is in shadow.
        """
        if self.has_ended:
            return None
        self.has_ended = True
        outcome, ours = self._came_of(outcome), self.close()
        self._alive.close()
        if output is not None:
            said = yield Inspect(self.ticket, outcome, output, ours)
            return said if isinstance(said, Refused | Held) else None
        if ours:
            yield SettleLeg(self.ticket, outcome)
        return None

    def end(self, outcome: Outcome, output: Output | None = None) -> Refused | Held | None:
        return drive(self.ending(outcome, output), partial(perform, self.guard))

    async def aend(self, outcome: Outcome, output: Output | None = None) -> Refused | Held | None:
        return await adrive(self.ending(outcome, output), partial(aperform, self.guard))


class WatchedAnswer:
    """An answer over HTTP, read as it passes: what it means for the leg, and what came out.

    Header names are in lower case. `route` says where an app's own answer has usage and images, None for OpenAI's own
    API. Where the leg looks at it, a copy is kept.
    """

    def __init__(self, leg: LiveLeg, status: int, headers: Mapping[str, str], *, route: Route | None = None) -> None:
        asked = leg.admitted.request
        self.status, self.headers = status, headers
        self.whole = False
        self.leg, self._place = leg, _place(route, is_responses=asked.main is not None)
        self._reader = OutcomeReader(status, headers, images=asked.n or 1, route=route, main=asked.main is not None)
        self._kept = Kept() if leg.looks else None

    @property
    def is_stream(self) -> bool:
        return self._reader.is_stream

    def feed(self, chunk: bytes) -> None:
        self._reader.feed(chunk)
        if self._kept is not None:
            self._kept.feed(chunk)

    def outcome(self, failure: Failure | None = None) -> Outcome:
        """`failure` is why there is no more of it, where it is not whole."""
        return self._reader.outcome(failure=None if self.whole else failure)

    def output(self) -> Output | None:
        """What came out; None where nobody looks at it, or where it has not come to its end."""
        if self._kept is None or not self.whole:
            return None
        return read_output(
            self.status,
            self.headers.get("content-type", ""),
            self._kept.body,
            self._place,
            encoded=self.headers.get("content-encoding", "identity").strip().lower() != "identity",
            partials=not self.leg.holds_back,
        )


def _place(route: Route | None, *, is_responses: bool) -> PicturePlace:
    """Where an answer has its pictures."""
    if route is not None and route.shape == "custom":
        return PicturePlace(body=route.images or BODY_IMAGES)
    return RESPONSES_API if is_responses else IMAGES_API

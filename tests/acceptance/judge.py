"""What a trick may not have brought about, one by one and at the end: the judge of the bypass suites."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from acceptance.greedy import Greedy, Said
from support import ORG, SURFACE
from tool_bodies import MAIN

ROUTES = "POST /v1/images/generations, POST /v1/images/edits"
AVATARS = (
    SURFACE.replace(ROUTES, f"{ROUTES}, POST /v1/responses").replace("low, medium, high", "low, medium")
    + f"  responses: {{models: [{MAIN}], max_output_tokens: 500}}\n"
)
MARKETING = (
    SURFACE.replace("surface: avatars", "surface: marketing")
    .replace("POST /v1/", "POST /m/v1/")
    .replace("{max: 2}", "{max: 4}")
)
NOT_HTTP = b"Invalid HTTP request received."  # what uvicorn says before there is a request for the middleware
UNTRUSTING = ORG.replace("127.0.0.1/32", "10.0.0.0/8")


@dataclass
class Judge:
    """Looks at what a trick brought, and at the end at everything together."""

    upstream: Greedy
    identifier: str
    seen: int = 0

    def problem(self, answers: list[Said], served: bool) -> str | None:
        """Why a trick worked; None for one that did not."""
        new = self.upstream.reached[self.seen :]
        self.seen += len(new)
        for reached in new:
            if reached.makes_images and (found := reached.problem(self.identifier)):
                return f"{reached.method} {reached.target} arrived: {found}"
        for answer in answers:
            if answer.status == 500 or answer.status >= 505:
                return f"{answer.status}"
            if answer.status >= 400 and answer.body != NOT_HTTP and not is_error(answer.error):
                return f"{answer.status} without an error: {answer.body[:80]!r}"
            if answer.status < 400 and not served:
                return f"{answer.status} for something to be refused"
        return None

    @property
    def generations(self) -> int:
        return sum(reached.makes_images for reached in self.upstream.reached)


def is_error(error: Any) -> bool:
    return isinstance(error, Mapping) and {"message", "type", "param", "code"} <= error.keys()


def check_record(events: list[Any], judge: Judge, user: str, generated: int) -> None:
    """What was generated was decided, and nobody was taken for somebody else."""
    ends = Counter(event.type for event in events if event.type.startswith("leg."))
    assert judge.generations == ends.total()
    assert ends["leg.settled"] <= generated <= ends["leg.settled"] + ends["leg.presumed"]
    assert generated > 10  # what is harmless was served
    decided = [event for event in events if event.type == "request.decided"]
    allowed = [event for event in decided if event.outcome != "deny"]
    assert len(allowed) == judge.generations
    assert {event.dimensions["user"] for event in allowed} == {user}
    assert {event.dimensions["tier"] for event in allowed} == {"free"}
    assert {event.dimensions["surface"] for event in allowed} == {"avatars"}

"""A flow with telemetry around it: the same steps and answers, measured as they pass from the flow to its driver.

This is a generator between the two, so sync and async have the one and the same: a generator has no context of its
own, and a span that it makes current is current for whoever performs the step.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import cache, partial
from time import perf_counter
from typing import Any, TypeVar

from opentelemetry.metrics import MeterProvider
from opentelemetry.trace import Span, TracerProvider

from policyguard.decision import Admission, Admitted, Held, Refused, Ticket
from policyguard.flow.drive import watched
from policyguard.flow.steps import CheckPaused, Look, Moderate, Settled
from policyguard.request import Outcome
from policyguard.telemetry import lines, names, spans
from policyguard.telemetry.measures import Measures
from policyguard.telemetry.otel import OtelSink
from policyguard.telemetry.spans import Spans

A = TypeVar("A")
D = TypeVar("D", bound=Admission)
Said = TypeVar("Said", bound=Refused | Held | None)
S = TypeVar("S")
# What the flow does by itself after the answer to a step; elsewhere it does next to nothing.
_PURE: Mapping[type, str] = {CheckPaused: "screen", Moderate: "judge", Look: "judge"}
_WORDS = re.compile(r"(?<=[a-z])(?=[A-Z])")


class Telemetry:
    """What one guard tells of its work. Without providers of the host's own the global ones count."""

    def __init__(
        self, *, tracer_provider: TracerProvider | None = None, meter_provider: MeterProvider | None = None
    ) -> None:
        self.otel = OtelSink(meter_provider)
        self.measures = Measures(self.otel)
        self.spans = Spans(tracer_provider)

    def deciding(
        self, steps: Generator[S, Any, D], *, surface: str | None, door: str, models: Mapping[str, object]
    ) -> Generator[S, Any, D]:
        """Around the flow of one decision. `models` are those of the price book."""
        begun = perf_counter()
        with self.spans.span("policyguard.admit") as span:
            answer = yield from self._staged(steps, surface or names.NONE, span)
            took = perf_counter() - begun
            lines.decided(answer, door, took)
            if self.measures.listened:
                self.measures.decided(answer)
                self.measures.stage("admit", took)
            if span is not None:
                spans.decided(span, answer, door, models)
        if span is not None and isinstance(answer, Admitted):
            self.spans.admitted(answer.ticket, span)
        return answer

    def settling(self, steps: Generator[S, Any, A], ticket: Ticket, outcome: Outcome) -> Generator[S, Any, A]:
        """Around the flow that ends a leg: one step, so that it is one span."""
        with self._ending("settle", ticket) as span:
            return (yield from self._staged(steps, ticket.surface, None, partial(self._ended, ticket, outcome, span)))

    def settled(self, ticket: Ticket, outcome: Outcome, end: Settled) -> None:
        """The end of a leg that the store was told later than its request."""
        self._ended(ticket, outcome, None, end)

    def inspecting(self, steps: Generator[S, Any, Said], ticket: Ticket, outcome: Outcome) -> Generator[S, Any, Said]:
        """Around a flow that looks at an answer and ends its leg with it. None: the answer is released."""
        begun = perf_counter()
        with self._ending("inspect", ticket) as span:
            said = yield from self._staged(steps, ticket.surface, span, partial(self._ended, ticket, outcome, span))
            took = perf_counter() - begun
            lines.inspected(ticket, said, took)
            if self.measures.listened:
                self.measures.inspected(ticket, said)
                self.measures.stage("inspect", took)
            if span is not None and said is not None:
                spans.decided(span, said, str(ticket.record.get("door")), {ticket.model: None})
        return said

    def _ending(self, name: str, ticket: Ticket) -> AbstractContextManager[Span | None]:
        return self._spanned(name, ticket) if self.spans.listened else _NOTHING

    @contextmanager
    def _spanned(self, name: str, ticket: Ticket) -> Generator[Span | None, None, None]:
        try:
            with self.spans.span(f"policyguard.{name}", ticket.leg_id) as span:
                if span is not None:
                    span.set_attributes(spans.of(ticket))
                yield span
        finally:
            self.spans.over(ticket)

    def _ended(self, ticket: Ticket, outcome: Outcome, span: Span | None, end: Settled) -> None:
        lines.settled(ticket, outcome, end)
        if self.measures.listened:
            self.measures.settled(ticket, outcome, end)
        if span is not None:
            spans.ended(span, outcome, end)
        self.spans.settled(ticket, outcome, end)

    def _staged(
        self,
        steps: Generator[S, Any, A],
        surface: str,
        around: Span | None,
        ended: Callable[[Settled], None] | None = None,
    ) -> Generator[S, Any, A]:
        """Every step that the flow asks for, and every stretch of its own work that counts, as a stage.

        `ended` is told how the leg of the flow ended.
        """
        if around is None and not self.measures.listened:
            return (yield from watched(steps, _Unmeasured(ended)))
        return (yield from watched(steps, _Stages(self, surface, around, ended)))


class _Unmeasured:
    """Where nobody measures: only what an operator has to know is said."""

    def __init__(self, ended: Callable[[Settled], None] | None) -> None:
        self._ended = ended

    def asked(self, step: Any) -> AbstractContextManager[object]:
        return _NOTHING

    def answered(self, step: Any, answer: Any) -> None:
        lines.answered(answer)
        if self._ended is not None and isinstance(answer, Settled):
            self._ended(answer)

    def failed(self, step: Any) -> None: ...


class _Stages(_Unmeasured):
    """Every step that the flow asks for, and every stretch of its own work that counts, as a stage."""

    def __init__(
        self, telemetry: Telemetry, surface: str, around: Span | None, ended: Callable[[Settled], None] | None
    ) -> None:
        super().__init__(ended)
        self._spans, self._measures = telemetry.spans, telemetry.measures
        self._measured = telemetry.measures.listened
        self._surface, self._around = surface, around
        self._work: str | None = None  # what the flow does since the last answer
        self._begun = self._asked = perf_counter()

    def asked(self, step: Any) -> AbstractContextManager[object]:
        self._asked = perf_counter()
        if self._work is not None:
            self._worked(self._work, self._asked - self._begun)
        kind: type = type(step)
        return self._spans.span(f"policyguard.{_name(kind)}") if self._around is not None else _NOTHING

    def answered(self, step: Any, answer: Any) -> None:
        if self._measured:
            self._measures.answered(step, answer, self._surface)
        super().answered(step, answer)
        self._over(step, _PURE.get(type(step)))

    def failed(self, step: Any) -> None:
        self._over(step, None)

    def _over(self, step: Any, work: str | None) -> None:
        kind: type = type(step)
        if self._measured:
            self._measures.stage(_name(kind), perf_counter() - self._asked)
        self._work, self._begun = work, perf_counter()

    def _worked(self, work: str, seconds: float) -> None:
        if self._measured:
            self._measures.stage(work, seconds)
        if self._around is not None:
            self._spans.past(f"policyguard.{work}", seconds)


_NOTHING: AbstractContextManager[None] = nullcontext()


@cache
def _name(step: type) -> str:
    """`check_paused` for `CheckPaused`: a step that comes new has its name at once."""
    return _WORDS.sub("_", step.__name__).lower()

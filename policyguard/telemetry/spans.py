"""Spans by OpenTelemetry's API: children of whatever span the host is in, and nothing where nobody records them.

A span of ours holds ids, counts and words of the policies. Of an error it has the kind alone: what an exception says
may quote a prompt, so none is ever recorded with its text.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import Span, SpanKind, StatusCode, TracerProvider
from opentelemetry.util.types import AttributeValue

from policyguard.decision import Admission, Admitted, Held, Ticket
from policyguard.flow.states import LegState
from policyguard.flow.steps import Settled
from policyguard.request import Outcome
from policyguard.telemetry import names
from policyguard.telemetry.lines import reason_ids
from policyguard.telemetry.measures import error_type, images_of, kind_of, known, outcome_of, tokens_in, tokens_out
from policyguard.telemetry.otel import Ear

Attributes = dict[str, AttributeValue]
_NOTHING: AbstractContextManager[None] = nullcontext()
_MOST = 10_000  # legs that are remembered; beyond it the oldest lose their place in a trace, nothing else


@dataclass(slots=True)
class _UpstreamCall:
    """One time that a leg was upstream. `ended_ns`: it is over, and waits for what it ended with."""

    span: Span
    ended_ns: int | None = None


@dataclass(slots=True)
class _TracedLeg:
    """`parent` is where spans of a leg belong that begin where no span is around. `settled`: what comes is too late."""

    parent: Context
    calls: list[_UpstreamCall] = field(default_factory=list)
    settled: bool = False


class Spans:
    """`provider`: the host's own, where it is not the global one."""

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._ear = Ear(trace.get_tracer_provider if provider is None else lambda: provider)
        self._tracer = trace.get_tracer(names.SCOPE, tracer_provider=provider, attributes=names.SCOPE_ATTRIBUTES)
        self._legs: OrderedDict[str, _TracedLeg] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def listened(self) -> bool:
        """Whether there is anybody to tell."""
        return self._ear.listens

    def span(self, name: str, leg_id: str | None = None) -> AbstractContextManager[Span | None]:
        """A span that is the current one inside; None where nobody records it."""
        return self._span(name, leg_id) if self._ear.listens else _NOTHING

    @contextmanager
    def _span(self, name: str, leg_id: str | None) -> Iterator[Span | None]:
        span = self._tracer.start_span(name, self._place(leg_id))
        if not span.is_recording():
            yield None
            return
        with trace.use_span(span, end_on_exit=True, record_exception=False, set_status_on_exception=False):
            try:
                yield span
            except BaseException as error:
                _failed(span, type(error).__name__)
                raise

    def past(self, name: str, seconds: float) -> None:
        """A span of what has just been done: too short to open one for it before."""
        now = time.time_ns()
        self._tracer.start_span(name, start_time=now - round(seconds * 1e9)).end(now)

    def admitted(self, ticket: Ticket, span: Span) -> None:
        """Remember where the leg belongs: beside its admission, and below that where nothing is around it.

        A leg that is taken over has its place already, and is upstream.
        """
        if ticket.leg_id in self._legs:
            return
        around = context.get_current()
        alone = not trace.get_current_span(around).get_span_context().is_valid
        self._remember(ticket.leg_id, _TracedLeg(trace.set_span_in_context(span, around) if alone else around))

    # ---- upstream ---------------------------------------------------------------------------------------------

    def upstream(self, ticket: Ticket) -> AbstractContextManager[None]:
        """The span of the call, from here until it is settled. It is not the current one: see `within`."""
        return self._upstream(ticket) if self._ear.listens else _NOTHING

    @contextmanager
    def _upstream(self, ticket: Ticket) -> Iterator[None]:
        start = {
            names.GEN_AI_OPERATION: names.GENERATE_CONTENT,
            names.GEN_AI_PROVIDER: names.OPENAI,
            names.GEN_AI_REQUEST_MODEL: ticket.model,
            names.GEN_AI_OUTPUT_TYPE: names.IMAGE,
            names.GEN_AI_CHOICES: images_of(ticket),
            **of(ticket),
        }
        span = self._tracer.start_span(
            f"{names.GENERATE_CONTENT} {ticket.model}", self._place(ticket.leg_id), SpanKind.CLIENT, start
        )
        if not span.is_recording():
            yield
            return
        call = _UpstreamCall(span)
        self._join(ticket.leg_id, call)
        try:
            yield
        except BaseException as error:
            _failed(span, type(error).__name__)
            raise
        finally:
            self._left(ticket.leg_id, call)

    def within(self, ticket: Ticket) -> AbstractContextManager[object]:
        """What is done inside, in this context, is part of the call."""
        leg = self._legs.get(ticket.leg_id)
        if leg is None or not leg.calls:
            return _NOTHING
        return trace.use_span(
            leg.calls[-1].span, end_on_exit=False, record_exception=False, set_status_on_exception=False
        )

    def settled(self, ticket: Ticket, outcome: Outcome, end: Settled) -> None:
        """What the last call of the leg ended with. Calls around it end when they are left."""
        leg = self._legs.get(ticket.leg_id)
        calls = leg.calls if leg else ()
        for call in [call for call in calls if call.ended_ns is not None][-1:] or calls[-1:]:
            ended(call.span, outcome, end)
        self.over(ticket)

    def over(self, ticket: Ticket) -> None:
        """Nobody tells any more what the calls of the leg ended with: those that are over end with what they have."""
        leg = self._legs.get(ticket.leg_id)
        if leg is None or leg.settled:
            return
        with self._lock:
            leg.settled = True
            waiting = [call for call in leg.calls if call.ended_ns is not None]
            leg.calls = [call for call in leg.calls if call.ended_ns is None]
            if not leg.calls:
                self._legs.pop(ticket.leg_id, None)
        for call in waiting:
            call.span.end(call.ended_ns)

    # ---- legs -------------------------------------------------------------------------------------------------

    def _place(self, leg_id: str | None) -> Context | None:
        """None is where the code runs. That of a stream's end may be anywhere."""
        if leg_id is None or trace.get_current_span().get_span_context().is_valid:
            return None
        leg = self._legs.get(leg_id)
        return leg.parent if leg else None

    def _join(self, leg_id: str, call: _UpstreamCall) -> None:
        leg = self._legs.get(leg_id)
        if leg is None:
            leg = _TracedLeg(context.get_current())
            self._remember(leg_id, leg)
        leg.calls.append(call)

    def _left(self, leg_id: str, call: _UpstreamCall) -> None:
        call.ended_ns = time.time_ns()
        with self._lock:
            leg = self._legs.get(leg_id)
            if leg is not None and not leg.settled:
                return  # it is told what it ended with
            if leg is not None:
                leg.calls = [other for other in leg.calls if other is not call]
                if not leg.calls:
                    del self._legs[leg_id]
        call.span.end(call.ended_ns)

    def _remember(self, leg_id: str, leg: _TracedLeg) -> None:
        with self._lock:
            self._legs[leg_id] = leg
            gone = self._legs.popitem(last=False)[1] if len(self._legs) > _MOST else None
        for call in gone.calls if gone else ():
            call.span.end(call.ended_ns)


# ---- attributes -------------------------------------------------------------------------------------------


def decided(span: Span, answer: Admission, door: str, models: Mapping[str, object]) -> None:
    decision = answer.decision
    ids, shadow = reason_ids(decision.reasons)
    request = decision.request
    attributes: Attributes = {
        names.DECISION: decision.id,
        names.SURFACE: decision.surface or names.NONE,
        names.DOOR: door,
        names.OUTCOME: outcome_of(answer),
        names.KIND: kind_of(answer),
        names.REASONS: ids,
        names.SHADOW_REASONS: shadow,
        names.ADJUSTED: [a.param for a in decision.adjustments],
        names.DIGEST: decision.policy_digest,
        names.GEN_AI_REQUEST_MODEL: known(request.model if request else None, models),
    }
    if isinstance(answer, Admitted):
        attributes |= {names.LEG: answer.ticket.leg_id, names.CEILING: answer.ticket.ceiling_micros}
    if isinstance(answer, Held):
        attributes[names.REVIEW] = answer.review_id
    span.set_attributes(attributes)


def ended(span: Span, outcome: Outcome, end: Settled) -> None:
    """On the call, and on the settlement alike."""
    attributes: Attributes = {
        names.STATE: end.state.value,
        names.CHARGED: end.charged_micros,
        names.CEILING: end.ceiling_micros,
        names.ATTEMPTS: outcome.attempts,
    }
    if outcome.status is not None:
        attributes[names.HTTP_STATUS] = outcome.status
    if outcome.request_id is not None:
        attributes[names.UPSTREAM_REQUEST] = outcome.request_id
    if outcome.usage is not None:
        usage = outcome.usage
        attributes |= {
            names.GEN_AI_INPUT_TOKENS: tokens_in(usage),
            names.GEN_AI_OUTPUT_TOKENS: tokens_out(usage),
            names.GEN_AI_TEXT_INPUT_TOKENS: usage.input_text_tokens,
            names.GEN_AI_IMAGE_INPUT_TOKENS: usage.input_image_tokens,
            names.IMAGE_OUTPUT_TOKENS: usage.output_image_tokens,
        }
        if usage.main_input_tokens or usage.main_output_tokens:
            attributes[names.MAIN_INPUT_TOKENS] = usage.main_input_tokens
            attributes[names.MAIN_OUTPUT_TOKENS] = usage.main_output_tokens
    span.set_attributes(attributes)
    why = error_type(outcome)
    if why != names.NONE:
        span.set_attribute(names.FAILURE, why)
        if end.state is not LegState.SETTLED:
            _failed(span, why)


def of(ticket: Ticket) -> Attributes:
    return {names.LEG: ticket.leg_id, names.DECISION: ticket.decision_id, names.SURFACE: ticket.surface}


def _failed(span: Span, why: str) -> None:
    span.set_attribute(names.ERROR_TYPE, why)
    span.set_status(StatusCode.ERROR)

"""What is measured of one request, as values of the metrics in `names`: written once, for every sink alike.

Labels are of bounded number whatever clients send: a surface of the policies, a model of the price book, a word of our
own. Users, tenants and prompts are in none of them.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any, Protocol

from policyguard.decision import Admission, Admitted, Held, Kind, Refused, Released, Ticket
from policyguard.flow.states import LegState
from policyguard.flow.steps import Alert, Look, Moderate, Reserve, Reserved, Settle, Settled
from policyguard.request import Answers, Outcome, Usage, Verdict
from policyguard.telemetry import names
from policyguard.telemetry.names import NONE, OTHER, Metric

Labels = tuple[str, ...]

# Why moderation did not assess all of a request, in the words of our moderators. Others may say anything.
_WHY = frozenset(
    {
        "connection",
        "failed",
        "image_too_large",
        "images_not_assessed",
        "malformed",
        "moderator_error",
        "partial",
        "rate_limited",
        "refused",
        "timeout",
    }
)
_STATUS = re.compile("status_[1-5][0-9]{2}")


class MetricSink(Protocol):
    """Where values go. `labels` are in the order of `metric.labels`; a counter is added to, a histogram observes.

    `listens` false: whatever it is told now goes nowhere.
    """

    @property
    def listens(self) -> bool: ...

    def measure(self, metric: Metric, value: float, labels: Labels) -> None: ...


def known(model: str | None, models: Container[str]) -> str:
    """A model as a label."""
    return NONE if model is None else model if model in models else OTHER


def outcome_of(answer: Admission) -> str:
    """In the words of the record."""
    if isinstance(answer, Admitted):
        return answer.decision.effect.word
    if isinstance(answer, Released):
        return "release"
    return "hold" if isinstance(answer, Held) else "deny"


def inspection_of(said: Refused | Held | None) -> str:
    """What became of an answer that was looked at, in the words of the record."""
    return "release" if said is None else "hold" if isinstance(said, Held) else "withhold"


def kind_of(answer: Admission) -> str:
    """What a refusal is about; `none` for what was let through."""
    if isinstance(answer, Admitted | Released):
        return NONE
    return Kind.REVIEW.value if isinstance(answer, Held) else answer.decision.kind.value


class Measures:
    """Hands values to its sinks. What is no answer of a step has no value."""

    def __init__(self, *sinks: MetricSink) -> None:
        self.sinks = list(sinks)

    @property
    def listened(self) -> bool:
        """Whether there is anybody to tell: else nothing need be measured."""
        return any(sink.listens for sink in self.sinks)

    def stage(self, stage: str, seconds: float) -> None:
        self._say(names.STAGES, seconds, stage)

    def decided(self, answer: Admission) -> None:
        self._say(names.DECISIONS, 1, answer.decision.surface or NONE, outcome_of(answer), kind_of(answer))

    def cut(self) -> None:
        self._say(names.CUT, 1)

    def inspected(self, ticket: Ticket, said: Refused | Held | None) -> None:
        self._say(names.INSPECTED, 1, ticket.surface, inspection_of(said))

    def answered(self, step: object, answer: Any, surface: str) -> None:
        """What the answer to one step of a flow says beyond its time."""
        if isinstance(step, Moderate | Look):
            for one in answer if isinstance(answer, tuple) else (answer,):
                if isinstance(one, Verdict | Answers) and one.error is not None:
                    self._say(names.UNAVAILABLE, 1, surface, _why(one.error))
        elif isinstance(step, Reserve) and isinstance(answer, Reserved):
            self._say(names.RESERVED, step.ceiling_micros, surface, str(step.facts["model"]))
        elif isinstance(step, Settle) and isinstance(answer, Settled) and answer.opened is not None:
            self._say(names.BREAKER, 1, surface)
        for alert in alerts_of(answer):
            self._say(names.ALERTS, 1, alert.budget_id)

    def settled(self, ticket: Ticket, outcome: Outcome, settled: Settled) -> None:
        """The end of a leg, counted by the call that ended it."""
        if not settled.changed:
            return
        surface, model, state = ticket.surface, ticket.model, settled.state.value
        failure = outcome.failure.value if outcome.failure else NONE
        self._say(names.LEGS, 1, surface, state, failure)
        if settled.state is not LegState.RELEASED:
            self._say(names.COST, settled.charged_micros, surface, model, state)
            self._say(names.IMAGES, images_of(ticket), surface, model, state)
        call = (names.GENERATE_CONTENT, names.OPENAI, model)
        self._say(names.DURATION, outcome.latency_ms / 1000, *call, error_type(outcome))
        if outcome.usage is not None:
            self._say(names.TOKENS, tokens_in(outcome.usage), *call, "input")
            self._say(names.TOKENS, tokens_out(outcome.usage), *call, "output")

    def _say(self, metric: Metric, value: float, *labels: str) -> None:
        for sink in self.sinks:
            sink.measure(metric, value, labels)


def _why(error: str) -> str:
    return error if error in _WHY or _STATUS.fullmatch(error) else OTHER


def alerts_of(answer: object) -> tuple[Alert, ...]:
    """Budgets that the change behind an answer has brought to a threshold."""
    given = answer if isinstance(answer, tuple) else getattr(answer, "alerts", ())
    return tuple(alert for alert in given if isinstance(alert, Alert)) if given else ()


def error_type(outcome: Outcome) -> str:
    """Why there is no image, in a few words; `none` where there is one."""
    if outcome.failure is not None:
        return outcome.failure.value
    status = outcome.status or 0
    return NONE if status < 400 else str(status) if status < 600 else OTHER


def images_of(ticket: Ticket) -> int:
    """How many images the leg was admitted for."""
    n = (ticket.record.get("request") or {}).get("n")
    return n if isinstance(n, int) else 1


def tokens_in(usage: Usage) -> int:
    return usage.input_text_tokens + usage.input_image_tokens


def tokens_out(usage: Usage) -> int:
    return usage.output_image_tokens + usage.output_text_tokens

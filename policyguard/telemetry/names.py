"""Every name that telemetry uses, and what a metric is: the one place to change when the conventions move.

OpenTelemetry's GenAI conventions are in development and have neither an operation nor a usage attribute for images that
were made, so those names stand here as our own. `VERSION` counts changes of the set; it is an attribute
of the instrumentation scope. Labels are of bounded number: surfaces, models of the price book, words of ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

SCOPE: Final = "policyguard"
VERSION: Final = "1"
SCOPE_ATTRIBUTES: Final = {"policyguard.telemetry.version": VERSION}

# ---- attributes of OpenTelemetry's GenAI conventions -------------------------------------------------------

GEN_AI_OPERATION: Final = "gen_ai.operation.name"
GEN_AI_PROVIDER: Final = "gen_ai.provider.name"
GEN_AI_REQUEST_MODEL: Final = "gen_ai.request.model"
GEN_AI_CHOICES: Final = "gen_ai.request.choice.count"
GEN_AI_OUTPUT_TYPE: Final = "gen_ai.output.type"
GEN_AI_INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
GEN_AI_OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
GEN_AI_TEXT_INPUT_TOKENS: Final = "gen_ai.usage.text.input_tokens"
GEN_AI_IMAGE_INPUT_TOKENS: Final = "gen_ai.usage.image.input_tokens"
GEN_AI_TOKEN_TYPE: Final = "gen_ai.token.type"  # noqa: S105 (a name)
ERROR_TYPE: Final = "error.type"
HTTP_STATUS: Final = "http.response.status_code"

GENERATE_CONTENT: Final = "generate_content"
IMAGE: Final = "image"
OPENAI: Final = "openai"

# ---- our own -----------------------------------------------------------------------------------------------

SURFACE: Final = "policyguard.surface"
MODE: Final = "policyguard.mode"
DOOR: Final = "policyguard.door"
DECISION: Final = "policyguard.decision.id"
OUTCOME: Final = "policyguard.outcome"
KIND: Final = "policyguard.reason.kind"
REASONS: Final = "policyguard.reasons"
SHADOW_REASONS: Final = "policyguard.reasons.shadow"
ADJUSTED: Final = "policyguard.adjusted"
DIGEST: Final = "policyguard.policy.digest"
REVIEW: Final = "policyguard.review.id"
LEG: Final = "policyguard.leg.id"
STATE: Final = "policyguard.leg.state"
FAILURE: Final = "policyguard.failure"
ATTEMPTS: Final = "policyguard.attempts"
CEILING: Final = "policyguard.cost.ceiling_micros"
CHARGED: Final = "policyguard.cost.charged_micros"
IMAGE_OUTPUT_TOKENS: Final = "policyguard.usage.image.output_tokens"
MAIN_INPUT_TOKENS: Final = "policyguard.usage.main.input_tokens"  # of a main model that uses the image tool
MAIN_OUTPUT_TOKENS: Final = "policyguard.usage.main.output_tokens"
UPSTREAM_REQUEST: Final = "policyguard.upstream.request_id"
STAGE: Final = "policyguard.stage"
MODEL: Final = "policyguard.model"
BUDGET: Final = "policyguard.budget.id"
OWNER: Final = "policyguard.budget.owner"
UNIT: Final = "policyguard.budget.unit"
ERROR: Final = "policyguard.error"

NONE: Final = "none"
OTHER: Final = "other"

# ---- metrics -----------------------------------------------------------------------------------------------

MetricKind = Literal["counter", "histogram", "gauge"]


@dataclass(frozen=True, slots=True)
class Metric:
    """`labels` are attribute names, in order. `unit` as OpenTelemetry writes it; a word in braces counts things."""

    name: str
    kind: MetricKind
    unit: str
    help: str
    labels: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()


# Seconds: pure stages take microseconds, images minutes.
_FINE = (0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_COARSE = (0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 90, 120, 180, 300, 600)
_TOKENS = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576)

DECISIONS = Metric(
    "policyguard.decisions",
    "counter",
    "{decision}",
    "requests decided, by what became of them",
    (SURFACE, OUTCOME, KIND),
)
INSPECTED = Metric(
    "policyguard.output.inspected", "counter", "{answer}", "answers that were looked at", (SURFACE, OUTCOME)
)
RESERVED = Metric(
    "policyguard.cost.reserved", "counter", "{microdollar}", "ceilings of the requests admitted", (SURFACE, MODEL)
)
COST = Metric(
    "policyguard.cost.charged", "counter", "{microdollar}", "what ended requests were charged", (SURFACE, MODEL, STATE)
)
IMAGES = Metric("policyguard.images", "counter", "{image}", "images of charged requests", (SURFACE, MODEL, STATE))
LEGS = Metric(
    "policyguard.legs", "counter", "{leg}", "requests that went upstream, by how they ended", (SURFACE, STATE, FAILURE)
)
STAGES = Metric("policyguard.stage.duration", "histogram", "s", "time of one stage of a request", (STAGE,), _FINE)
UNAVAILABLE = Metric(
    "policyguard.moderation.unavailable", "counter", "{answer}", "moderation that did not assess all", (SURFACE, ERROR)
)
BREAKER = Metric("policyguard.breaker.opened", "counter", "{time}", "an upstream failed too often", (SURFACE,))
ALERTS = Metric("policyguard.budget.alerts", "counter", "{alert}", "a budget reached a threshold", (BUDGET,))
CUT = Metric(
    "policyguard.store.cut", "counter", "{connection}", "connections to the database that were cut for silence"
)
DURATION = Metric(
    "gen_ai.client.operation.duration",
    "histogram",
    "s",
    "time until an answer of the upstream was complete",
    (GEN_AI_OPERATION, GEN_AI_PROVIDER, GEN_AI_REQUEST_MODEL, ERROR_TYPE),
    _COARSE,
)
TOKENS = Metric(
    "gen_ai.client.token.usage",
    "histogram",
    "{token}",
    "tokens of one answer",
    (GEN_AI_OPERATION, GEN_AI_PROVIDER, GEN_AI_REQUEST_MODEL, GEN_AI_TOKEN_TYPE),
    _TOKENS,
)
MEASURED = (
    DECISIONS,
    INSPECTED,
    RESERVED,
    COST,
    IMAGES,
    LEGS,
    STAGES,
    UNAVAILABLE,
    BREAKER,
    ALERTS,
    CUT,
    DURATION,
    TOKENS,
)

# What is read from the store when somebody looks.
_BUDGET = (OWNER, BUDGET, UNIT, MODE)
BUDGET_SPENT = Metric(
    "policyguard.budget.spent", "gauge", "", "spent in the open windows, in the budget's unit", _BUDGET
)
BUDGET_RESERVED = Metric("policyguard.budget.reserved", "gauge", "", "reserved in the open windows", _BUDGET)
BUDGET_LIMIT = Metric("policyguard.budget.limit", "gauge", "", "the limit of a budget that is not per caller", _BUDGET)
BUDGET_FULLEST = Metric(
    "policyguard.budget.utilisation",
    "gauge",
    "1",
    "spent and reserved of the limit, in the fullest open window",
    _BUDGET,
)
PRESUMED_COST = Metric(
    "policyguard.presumed.cost", "gauge", "{microdollar}", "charged at the ceiling, not reconciled", (SURFACE,)
)
PRESUMED_LEGS = Metric("policyguard.presumed.legs", "gauge", "{leg}", "presumed and not reconciled", (SURFACE,))
REVIEWS = Metric("policyguard.reviews.held", "gauge", "{review}", "requests that wait for a decision", (SURFACE,))
BREAKERS = Metric("policyguard.breakers.open", "gauge", "{upstream}", "upstreams that are left alone now")
CLOCK = Metric(
    "policyguard.clock.skew", "gauge", "s", "how far this host is ahead of the database's clock, which is used"
)
STORE = Metric("policyguard.store.up", "gauge", "", "1: the store answered when it was last asked")
READ = (
    BUDGET_SPENT,
    BUDGET_RESERVED,
    BUDGET_LIMIT,
    BUDGET_FULLEST,
    PRESUMED_COST,
    PRESUMED_LEGS,
    REVIEWS,
    BREAKERS,
    CLOCK,
    STORE,
)

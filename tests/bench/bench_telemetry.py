"""What telemetry costs a guarded request: nothing listening, OpenTelemetry's SDK, and the log at INFO.

    python tests/bench/bench_telemetry.py

The flow runs as always, on a store that answers at once, so that the difference is telemetry's own. Prints figures in
microseconds a request (admission and settlement), and what they are of a request on SQLite; never fails.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from time import thread_time
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from policyguard.audit.private import Vault
from policyguard.flow.admit import admit
from policyguard.flow.ask import Ask
from policyguard.flow.drive import drive
from policyguard.flow.settle import settle
from policyguard.flow.states import LegState
from policyguard.flow.steps import CheckPaused, Moderate, Reserve, Reserved, Settle, Settled
from policyguard.policy.load import load
from policyguard.policy.model import PolicySet
from policyguard.request import CATEGORIES, Caller, ImageRequest, Outcome, Usage, Verdict
from policyguard.telemetry.path import Telemetry

POLICIES = Path(__file__).parents[2] / "policies"
NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VAULT = Vault(bytes(32))
VERDICT = Verdict(model="omni-moderation-latest", scores=dict.fromkeys(CATEGORIES, 0.01), calls=1)
ANSWERS: dict[type, Any] = {
    CheckPaused: None,
    Moderate: VERDICT,
    Reserve: Reserved(),
    Settle: Settled(LegState.SETTLED, 5880, 5900, True),
}
ASK = Ask(
    request=ImageRequest(prompt="a red fox in a scarf", quality="low", n=1),
    caller=Caller(user="u1", tenant="acme", tier="free"),
    surface="avatars",
    now=NOW,
    decision_id="dec_1",
    leg_id="leg_1",
    new_review_id="rev_1",
)
OUTCOME = Outcome(status=200, usage=Usage(output_image_tokens=196), latency_ms=12_000)


def perform(step: Any) -> Any:
    return ANSWERS[type(step)]


def bare(policies: PolicySet) -> None:
    ticket = drive(admit(policies, ASK, VAULT), perform).ticket  # type: ignore[union-attr]
    drive(settle(ticket, OUTCOME, NOW), perform)


def told(policies: PolicySet, telemetry: Telemetry) -> None:
    steps = admit(policies, ASK, VAULT)
    models = policies.prices.models
    ticket = drive(telemetry.deciding(steps, surface="avatars", door="python", models=models), perform).ticket  # type: ignore[union-attr]
    with telemetry.spans.upstream(ticket), telemetry.spans.within(ticket):
        pass
    drive(telemetry.settling(settle(ticket, OUTCOME, NOW), ticket, OUTCOME), perform)


def best(call: Callable[[], Any], count: int = 1_000) -> float:
    """Microseconds a call: the best of nine runs, in CPU."""
    runs = []
    for _ in range(9):
        begun = thread_time()
        for _ in range(count):
            call()
        runs.append((thread_time() - begun) / count * 1e6)
    return min(runs)


def main() -> None:
    policies, quiet = load(POLICIES), Telemetry()
    logging.getLogger("policyguard").setLevel(logging.WARNING)
    floor = best(lambda: bare(policies))
    print(f"{'admit and settle, without telemetry':<46} {floor:7.1f} us")
    print(f"{'nothing listens':<46} {best(lambda: told(policies, quiet)) - floor:+7.1f} us")
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    metering = MeterProvider(metric_readers=[reader])
    metered = Telemetry(meter_provider=metering)
    print(f"{'metrics by the SDK':<46} {best(lambda: told(policies, metered)) - floor:+7.1f} us")
    traced = Telemetry(tracer_provider=tracing, meter_provider=metering)

    def all_of_it() -> None:
        told(policies, traced)
        exporter.clear()

    print(f"{'spans and metrics by the SDK, kept in memory':<46} {best(all_of_it, 300) - floor:+7.1f} us")
    log = logging.getLogger("policyguard")
    log.addHandler(logging.NullHandler())
    log.setLevel(logging.INFO)
    log.propagate = False
    print(f"{'log lines at INFO, formatting aside':<46} {best(lambda: told(policies, quiet)) - floor:+7.1f} us")


if __name__ == "__main__":
    main()

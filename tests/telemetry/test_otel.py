"""Nothing is measured while nobody listens, and a host that sets up its SDK late is heard."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from opentelemetry.metrics import NoOpMeterProvider
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import NoOpTracerProvider, ProxyTracerProvider
from patience import HANGS_S
from support import ORG, SURFACE, write_policies

from policyguard.telemetry.measures import Measures
from policyguard.telemetry.otel import Ear, OtelSink

LATE = """
import sys
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from policyguard import Caller, Guard, ImageRequest
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.telemetry import otel

otel._ASK_AGAIN_S = 0.0
with Guard.open(sys.argv[1], store=f"sqlite:///{sys.argv[2]}", moderator=ScriptedModerator()) as guard:
    def ask():
        guard.admit(ImageRequest(prompt="a cat"), Caller(user="u1"), surface="avatars")
    ask()
    exporter, reader, tracing = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    trace.set_tracer_provider(tracing)
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader]))
    ask()
    found = [m for r in reader.get_metrics_data().resource_metrics for s in r.scope_metrics for m in s.metrics]
    (counted,) = [m.data.data_points[0].value for m in found if m.name == "policyguard.decisions"]
    print(counted, sum(span.name == "policyguard.admit" for span in exporter.get_finished_spans()))
"""


def test_a_host_that_sets_up_its_sdk_after_the_first_request_is_heard_from_then_on(tmp_path: Path) -> None:
    policies = write_policies(tmp_path / "policies", org=ORG, avatars=SURFACE)
    command = [sys.executable, "-c", LATE, str(policies), str(tmp_path / "record.sqlite3")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=HANGS_S)
    assert (done.stdout.strip(), done.stderr) == ("1 1", "")


@pytest.mark.parametrize("provider", [ProxyTracerProvider(), NoOpTracerProvider(), NoOpMeterProvider()])
def test_the_apis_own_providers_tell_nobody(provider: object) -> None:
    assert not Ear(lambda: provider).listens


def test_an_sdk_tells_somebody() -> None:
    metering, tracing = MeterProvider(), TracerProvider()
    assert [Ear(lambda: metering).listens, Ear(lambda: tracing).listens] == [True, True]
    assert OtelSink(metering).listens
    metering.shutdown()
    tracing.shutdown()


def test_whether_somebody_listens_is_asked_once_a_second_until_somebody_does() -> None:
    asked: list[float] = []
    now = [100.0]

    def found() -> object:
        asked.append(now[0])
        return ProxyTracerProvider() if now[0] < 102 else object()

    ear = Ear(found, lambda: now[0])
    heard = []
    for now[0] in (100.0, 100.5, 101.0, 101.5, 102.5, 110.0):
        heard.append(ear.listens)
    assert (heard, asked) == ([False, False, False, False, True, True], [100.0, 101.0, 102.5])


def test_one_sink_that_listens_is_enough() -> None:
    class Counting:
        listens = True

        def measure(self, *_: object) -> None:
            raise AssertionError

    deaf = OtelSink(NoOpMeterProvider())
    assert [Measures().listened, Measures(deaf).listened, Measures(deaf, Counting()).listened] == [False, False, True]

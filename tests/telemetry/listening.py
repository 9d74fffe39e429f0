"""A guard whose telemetry is kept in memory, and what was heard."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from support import ORG, SURFACE, write_policies

from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.telemetry.path import Telemetry

Point = tuple[dict[str, Any], float]


@dataclass(frozen=True)
class Heard:
    """Spans as they ended, and metrics as they stand."""

    tracing: TracerProvider
    metering: MeterProvider
    exporter: InMemorySpanExporter
    reader: InMemoryMetricReader

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def tree(self) -> dict[str, str | None]:
        """Each span's name with its parent's."""
        by_id = {span.context.span_id: span.name for span in self.spans if span.context}
        return {span.name: by_id.get(span.parent.span_id) if span.parent else None for span in self.spans}

    def metric(self, name: str) -> list[Point]:
        """Counts, and of a histogram the sum of what it saw."""
        return [point for metric, point in self.points() if metric == name]

    def points(self) -> list[tuple[str, Point]]:
        data = self.reader.get_metrics_data()
        return [
            (metric.name, (dict(point.attributes or {}), getattr(point, "value", None) or getattr(point, "sum", 0)))
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
            for point in metric.data.data_points
        ]


def listening() -> Heard:
    exporter, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracing = TracerProvider()
    tracing.add_span_processor(SimpleSpanProcessor(exporter))
    return Heard(tracing, MeterProvider(metric_readers=[reader]), exporter, reader)


def telemetry(heard: Heard) -> Telemetry:
    return Telemetry(tracer_provider=heard.tracing, meter_provider=heard.metering)


def heard_guard(
    folder: Path, heard: Heard, avatars: str = SURFACE, *, org: str = ORG, moderator: Any = None, **more: Any
) -> Guard:
    policies = write_policies(folder / "policies", org=org, avatars=avatars)
    guard = Guard.open(
        policies,
        store=f"sqlite:///{folder / 'record.sqlite3'}",
        moderator=moderator or ScriptedModerator(),
        telemetry=telemetry(heard),
        **more,
    )
    guard._sweep_when_due()  # a guard just opened does so with its first request
    return guard

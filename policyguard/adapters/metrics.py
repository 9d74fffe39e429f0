"""Metrics for Prometheus: an ASGI app that answers with what this guard, or all workers of its server, have counted.

    app.mount("/metrics", Metrics(guard))

Counters and histograms are prometheus-client's. Where several workers serve, its multiprocess mode adds them up over
files in one folder, which `shared_by` makes before they start; gauges of the ledger come from the store, so that every
worker says the same. What is shown names surfaces, models and budgets: not for everybody's eyes.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from policyguard.adapters.page_errors import not_allowed
from policyguard.guard.guard import Guard
from policyguard.telemetry.ledger import GaugeReading, LedgerGauges
from policyguard.telemetry.measures import Labels
from policyguard.telemetry.names import MEASURED, READ, Metric
from policyguard.threads import in_thread

try:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.exposition import choose_encoder
    from prometheus_client.metrics_core import GaugeMetricFamily
    from prometheus_client.metrics_core import Metric as Family
    from prometheus_client.multiprocess import MultiProcessCollector
    from prometheus_client.registry import Collector
    from prometheus_client.values import MutexValue, ValueClass
except ImportError as error:
    raise ImportError("this needs prometheus-client: pip install 'policyguard[prometheus]'") from error

FOLDER: Final = "PROMETHEUS_MULTIPROC_DIR"  # prometheus-client's own setting; it counts when that is imported
_UNITS: Mapping[str, str] = {"s": "_seconds", "{microdollar}": "_microdollars", "1": "_ratio"}
REGISTRY = CollectorRegistry()


@contextmanager
def shared_by(workers: int) -> Iterator[None]:
    """Around a server of several worker processes: they count into one folder. One that is set already stays."""
    if workers < 2 or os.environ.get(FOLDER):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="policyguard-metrics-") as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]


class Metrics:
    """The endpoint. `registry`: one of your own, whose other metrics are shown as well."""

    def __init__(self, guard: Guard, *, registry: CollectorRegistry = REGISTRY) -> None:
        sinks, sink = guard.telemetry.measures.sinks, _sink(registry)
        if sink not in sinks:
            sinks.append(sink)
        self._all = _All(registry, guard.ledger)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope)
        response = not_allowed()
        if request.method in ("GET", "HEAD"):
            text, content_type = await in_thread(self.text, request.headers.get("accept", ""))
            response = Response(text, media_type=None, headers={"content-type": content_type})
        await response(scope, receive, send)

    def text(self, accept: str = "") -> tuple[bytes, str]:
        """The exposition, in the best format that `accept` names, and its content type."""
        encode, content_type = choose_encoder(accept)
        return encode(self._all), content_type


class _PrometheusSink:
    listens = True  # it counts, for whoever looks later

    def __init__(self, instruments: Mapping[str, Counter | Histogram]) -> None:
        self._instruments = instruments

    def measure(self, metric: Metric, value: float, labels: Labels) -> None:
        instrument = self._instruments[metric.name]
        child = instrument.labels(*labels) if labels else instrument
        if isinstance(child, Counter):
            child.inc(value)
        else:
            child.observe(value)


class _All(Collector):
    """What was counted, by all workers, and how the ledger stands."""

    def __init__(self, registry: CollectorRegistry, ledger: LedgerGauges) -> None:
        self._registry, self._ledger = registry, ledger

    def collect(self) -> Iterator[Family]:
        if ValueClass is MutexValue:
            yield from self._registry.collect()
        else:
            together = CollectorRegistry()
            MultiProcessCollector(together)  # type: ignore[no-untyped-call]
            yield from together.collect()
        yield from _families(self._ledger.readings())


def _families(readings: tuple[GaugeReading, ...]) -> Iterator[Family]:
    for metric in READ:
        family = GaugeMetricFamily(_name(metric), metric.help, labels=[_label(name) for name in metric.labels])
        for reading in readings:
            if reading.metric is metric:
                family.add_metric(reading.labels, reading.value)
        if family.samples:
            yield family


@cache
def _sink(registry: CollectorRegistry) -> _PrometheusSink:
    """One for a process: two that count into one file, each by itself, would overwrite one another."""
    return _PrometheusSink({metric.name: _instrument(metric, registry) for metric in MEASURED})


def _instrument(metric: Metric, registry: CollectorRegistry) -> Counter | Histogram:
    given: dict[str, Any] = {"labelnames": [_label(name) for name in metric.labels], "registry": registry}
    if metric.kind == "counter":
        return Counter(_name(metric), metric.help, **given)
    return Histogram(_name(metric), metric.help, buckets=metric.buckets, **given)


def _name(metric: Metric) -> str:
    """As OpenTelemetry's own exporter would call it; money has its unit in the name."""
    return metric.name.replace(".", "_") + _UNITS.get(metric.unit, "")


def _label(attribute: str) -> str:
    return attribute.removeprefix("policyguard.").replace(".", "_")

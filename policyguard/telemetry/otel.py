"""The sink of OpenTelemetry's API, and whether anybody listens: a host may set up its SDK at any time, or never.

Instruments are made once for a provider: a process may open many guards.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cache, lru_cache, partial
from time import monotonic
from weakref import WeakSet

from opentelemetry import metrics
from opentelemetry.metrics import CallbackOptions, MeterProvider, Observation

from policyguard.telemetry.ledger import LedgerGauges
from policyguard.telemetry.measures import Labels
from policyguard.telemetry.names import MEASURED, READ, SCOPE, SCOPE_ATTRIBUTES, Metric

_DEAF = ("opentelemetry.trace", "opentelemetry.metrics")  # where the API's own providers are, which tell nobody
_ASK_AGAIN_S = 1.0
Tell = Callable[[float, Mapping[str, str]], None]


class Ear:
    """Whether there is a provider that tells somebody. `found` is asked once a second until there is: it then stays.

    Each call of a provider that does nothing costs little, but a request has some thirty of them.
    """

    def __init__(self, found: Callable[[], object], clock: Callable[[], float] = monotonic) -> None:
        self._found, self._clock = found, clock
        self._listens, self._next = False, 0.0

    @property
    def listens(self) -> bool:
        if not self._listens and self._clock() >= self._next:
            self._listens = not type(self._found()).__module__.startswith(_DEAF)
            self._next = self._clock() + _ASK_AGAIN_S
        return self._listens


class OtelSink:
    """`provider`: the host's own, where it is not the global one."""

    def __init__(self, provider: MeterProvider | None = None) -> None:
        self._ear = Ear(metrics.get_meter_provider if provider is None else lambda: provider)
        self._tell, self._ledgers = _instruments(provider)

    @property
    def listens(self) -> bool:
        return self._ear.listens

    def show(self, ledger: LedgerGauges) -> None:
        """Let the gauges of a ledger be seen, as long as there is one."""
        self._ledgers.add(ledger)

    def hide(self, ledger: LedgerGauges) -> None:
        self._ledgers.discard(ledger)

    def measure(self, metric: Metric, value: float, labels: Labels) -> None:
        self._tell[metric.name](value, _attributes(metric.labels, labels))


@cache
def _instruments(provider: MeterProvider | None) -> tuple[Mapping[str, Tell], WeakSet[LedgerGauges]]:
    meter = metrics.get_meter(SCOPE, meter_provider=provider, attributes=SCOPE_ATTRIBUTES)
    ledgers: WeakSet[LedgerGauges] = WeakSet()
    for metric in READ:
        look = partial(_observed, ledgers, metric)
        meter.create_observable_gauge(metric.name, [look], unit=metric.unit, description=metric.help)
    return {metric.name: _tell(meter, metric) for metric in MEASURED}, ledgers


def _observed(ledgers: WeakSet[LedgerGauges], metric: Metric, _: CallbackOptions) -> Iterator[Observation]:
    for ledger in list(ledgers):
        for reading in ledger.readings():
            if reading.metric is metric:
                yield Observation(reading.value, _attributes(metric.labels, reading.labels))


def _tell(meter: metrics.Meter, metric: Metric) -> Tell:
    if metric.kind == "counter":
        return meter.create_counter(metric.name, unit=metric.unit, description=metric.help).add
    histogram = meter.create_histogram(
        metric.name, unit=metric.unit, description=metric.help, explicit_bucket_boundaries_advisory=metric.buckets
    )
    return histogram.record


@lru_cache(maxsize=4096)
def _attributes(names: Labels, values: Labels) -> Mapping[str, str]:
    return dict(zip(names, values, strict=True))

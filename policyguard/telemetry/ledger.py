"""Gauges of the ledger, read from the store when somebody looks: right in every process, however many there are.

Counters of one process are in `measures`: they could not say what the database holds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from policyguard.errors import StoreUnavailable
from policyguard.store.gauges import BudgetGauge, Gauges
from policyguard.telemetry import names
from policyguard.telemetry.measures import Labels
from policyguard.telemetry.names import Metric

KEPT_S = 5.0  # several readers at once, one look


class GaugeReading(NamedTuple):
    """The value of one gauge."""

    metric: Metric
    labels: Labels
    value: float


class LedgerGauges:
    """`look` asks the store. What it said is kept for a few seconds; one that is down has no gauges but that it is."""

    def __init__(self, look: Callable[[], Gauges], *, kept_s: float = KEPT_S) -> None:
        self._look, self._kept_s = look, kept_s
        self._lock = threading.Lock()
        self._readings: tuple[GaugeReading, ...] = ()
        self._until = 0.0

    def readings(self) -> tuple[GaugeReading, ...]:
        with self._lock:
            if time.monotonic() >= self._until:
                self._readings = self._read()
                self._until = time.monotonic() + self._kept_s
            return self._readings

    def _read(self) -> tuple[GaugeReading, ...]:
        try:
            found = self._look()
        except StoreUnavailable:
            return (GaugeReading(names.STORE, (), 0),)
        return (GaugeReading(names.STORE, (), 1), *_readings(found))


def _readings(found: Gauges) -> Iterator[GaugeReading]:
    for budget in found.budgets:
        yield from _budget(budget)
    for surface, (legs, micros) in found.presumed.items():
        yield GaugeReading(names.PRESUMED_LEGS, (surface,), legs)
        yield GaugeReading(names.PRESUMED_COST, (surface,), micros)
    for surface, count in found.held.items():
        yield GaugeReading(names.REVIEWS, (surface,), count)
    yield GaugeReading(names.BREAKERS, (), found.breakers_open)
    yield GaugeReading(names.CLOCK, (), found.clock_skew_s)


def _budget(budget: BudgetGauge) -> Iterator[GaugeReading]:
    labels = (budget.owner, budget.budget_id, budget.unit, budget.mode)
    yield GaugeReading(names.BUDGET_SPENT, labels, budget.spent)
    yield GaugeReading(names.BUDGET_RESERVED, labels, budget.reserved)
    yield GaugeReading(names.BUDGET_FULLEST, labels, budget.fullest)
    if budget.limit is not None:
        yield GaugeReading(names.BUDGET_LIMIT, labels, budget.limit)

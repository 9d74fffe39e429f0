"""What a receiver of exports is given, a batch of rows, and what it answers: it took the batch, or why not.

A new kind of receiver implements `Sink` and needs nothing else of this package.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from policyguard.errors import PolicyguardError


class SinkError(PolicyguardError):
    """The receiver did not take a batch. `wait` is how long it asked for; `gone`: it wants no more, ever."""

    def __init__(self, message: str, *, wait: timedelta | None = None, gone: bool = False) -> None:
        super().__init__(message)
        self.wait = wait
        self.gone = gone


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of the leaves from `first` until before `stop`; fewer, where retention has removed some."""

    cursor: str
    first: int
    stop: int
    events: Sequence[Mapping[str, Any]]
    checkpoint: Mapping[str, Any]


class Sink(Protocol):
    """A receiver. `limit` bytes of rows at most go into a batch, or one row."""

    limit: int

    def send(self, batch: Batch, now: datetime) -> None:
        """Returns when the batch is safe there. Raises `SinkError`."""

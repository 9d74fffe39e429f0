from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from telemetry.listening import Heard, heard_guard, listening

from policyguard.guard.guard import Guard


@pytest.fixture
def heard() -> Iterator[Heard]:
    heard = listening()
    yield heard
    heard.tracing.shutdown()
    heard.metering.shutdown()


@pytest.fixture
def open_guard(tmp_path: Path, heard: Heard) -> Iterator[Callable[..., Guard]]:
    opened: list[Guard] = []

    def make(**more: Any) -> Guard:
        opened.append(heard_guard(tmp_path, heard, **more))
        return opened[-1]

    yield make
    for guard in opened:
        guard.close()

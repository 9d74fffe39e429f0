"""How tests treat time: none holds one of its own, so that the suite passes on any machine; times are for tests/bench.

`HANGS_S` ends what would never end, and measures nothing. `cpu_s` is compared with that of other work of the process.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

HANGS_S = 300


def until(happened: Callable[[], Any]) -> None:
    """Wait for another thread or process."""
    end = time.monotonic() + HANGS_S
    while not happened():
        assert time.monotonic() < end, "it did not happen"
        threading.Event().wait(0.002)


def cpu_s(work: Callable[[], Any], runs: int = 3) -> float:
    """The CPU time of the quickest run."""
    taken = []
    for _ in range(runs):
        started = time.process_time()
        work()
        taken.append(time.process_time() - started)
    return min(taken)

"""Nobody holds up everybody: while one sends cheap requests that want much, others are answered as quickly as before.

The suite sends a few of each kind and looks at what came of them, since a busy machine says nothing of time. `make
stall` sends two hundred on an idle machine, and there the 99th percentile of `/healthz` and of a plain image stays
under `SLOW_S` and under `TIMES` its value with nobody else there, or under what nobody notices (`UNNOTICED_S`).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Any, NamedTuple

import pytest
from acceptance.conftest import proxies
from acceptance.test_load import resident_mb
from patience import HANGS_S
from stall.kinds import ATTACKS
from support import SURFACE

pytestmark = pytest.mark.acceptance
COUNT = int(os.environ.get("POLICYGUARD_STALL", "8"))
MEASURED = "POLICYGUARD_STALL" in os.environ
QUIET_S = 10.0 if MEASURED else 0.5
SLOW_S, TIMES = 0.050, 3.0
# A quiet `/healthz` takes half a millisecond, less than one reading of a large body: three times that says nothing.
UNNOTICED_S = {"healthz": 0.005, "guarded": 0.020}
GROWTH_MB = 60
POLICY = SURFACE + "budgets: [{id: user, per: caller.user, limit: 1000000 images / day}]\n"
TESTS = Path(__file__).parents[1]


def program(name: str, *arguments: str) -> subprocess.Popen[str]:
    """One of the programs beside this file."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(TESTS), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, str(Path(__file__).with_name(name)), *arguments]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment)


class Upstream(NamedTuple):
    """Where a proxy sends what it admits."""

    url: str


@pytest.fixture(scope="module")
def upstream() -> Iterator[Upstream]:
    process = program("upstream.py")
    assert process.stdout is not None
    yield Upstream(process.stdout.readline().strip())
    process.kill()
    process.communicate()


@pytest.fixture(scope="module")
def running(upstream: Upstream, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with proxies(upstream, tmp_path_factory.mktemp("stall")) as start:  # type: ignore[arg-type]
        yield start(avatars=POLICY)


class Door:
    """The proxy with a key for its probe and one for the attacks: what one client does is the harm of that client."""

    def __init__(self, app: Any) -> None:
        self.url = f"{app.url}/v1"
        self.probing, self.attacking = (f"authorization: Bearer {app.key(user=user)}\r\n" for user in ("u1", "u2"))


class Percentiles(NamedTuple):
    """The 99th, in seconds."""

    healthz: float
    guarded: float


def p99(seconds: list[float]) -> float:
    return quantiles(seconds, n=100, method="inclusive")[98]


@contextmanager
def probed(door: Door, into: list[Percentiles]) -> Iterator[None]:
    process = program("probe.py", door.url, door.probing)
    try:
        yield
    finally:
        out, _ = process.communicate(timeout=HANGS_S)
    assert process.returncode == 0, "the probe was not answered"
    taken = json.loads(out)
    into.append(Percentiles(p99(taken["healthz"]), p99(taken["guarded"])))


def attacked(door: Door, kind: str, count: int) -> dict[int, int]:
    """How often each status came."""
    out, _ = program("hostile.py", door.url, kind, str(count), door.attacking).communicate(timeout=1_000)
    return {int(status): count for status, count in json.loads(out).items()}


def row(kind: str, counts: dict[int, int], quiet: Percentiles, under: Percentiles, grown: float) -> str:
    """For the table of docs/faults.md."""
    times = [f"{1000 * under[at]:.1f} ms ({under[at] / quiet[at]:.1f} x)" for at in range(2)]
    seen = ", ".join(f"{status or 'cut'}: {count}" for status, count in sorted(counts.items()))
    return f"| {kind} | {seen} | {times[0]} | {times[1]} | {grown:+.0f} MB |"


@pytest.fixture(scope="module")
def door(running: Any) -> Door:
    return Door(running)


@pytest.mark.parametrize("kind", ATTACKS)
def test_a_cheap_request_holds_nobody_up(running: Any, door: Door, kind: str) -> None:
    attack, seen = ATTACKS[kind], list[Percentiles]()
    with probed(door, seen):
        threading.Event().wait(QUIET_S)
    attacked(door, kind, max(4, COUNT // 10))  # what the largest body took of memory stays with the process
    before = resident_mb(running.process.pid)
    with probed(door, seen):
        counts = attacked(door, kind, COUNT)
    grown = resident_mb(running.process.pid) - before
    quiet, under = seen
    print(row(kind, counts, quiet, under, grown), file=sys.stderr)
    assert sum(counts.values()) == COUNT
    if attack.manner == "whole":
        assert set(counts) <= attack.statuses
    assert grown < GROWTH_MB
    if MEASURED:
        assert max(under) < SLOW_S
        assert under.healthz < max(TIMES * quiet.healthz, UNNOTICED_S["healthz"])
        assert under.guarded < max(TIMES * quiet.guarded, UNNOTICED_S["guarded"])

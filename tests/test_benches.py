"""The benches measure what there is: each can be imported, and says how it is run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from patience import HANGS_S

BENCH = Path(__file__).parent / "bench"
BENCHES = sorted(file.stem for file in BENCH.glob("bench_*.py"))


def test_there_are_benches() -> None:
    assert len(BENCHES) > 10


@pytest.mark.parametrize("name", BENCHES)
def test_a_bench_finds_all_that_it_measures(name: str) -> None:
    code = f"import {name}; assert f'tests/bench/{name}.py' in {name}.__doc__"
    done = subprocess.run([sys.executable, "-c", code], cwd=BENCH, capture_output=True, text=True, timeout=HANGS_S)
    assert (done.returncode, done.stderr) == (0, "")

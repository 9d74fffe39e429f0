"""The demo as a newcomer runs it, and over real prompts where they are at hand."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.acceptance
DATA = Path(__file__).parents[3] / "shared" / "data"
FIELDS = {
    "requests",
    "admitted",
    "adjusted",
    "denied",
    "held",
    "resumed",
    "upstream_generations",
    "reserved_micros",
    "spent_micros",
    "presumed_micros",
    "by_surface",
    "by_reason",
}


def demo(folder: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "policyguard", "demo", "--format", "json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return demo(tmp_path_factory.mktemp("demo"))


def test_the_demo_reports_what_was_promised(report: Any) -> None:
    assert report.keys() >= FIELDS
    assert report["requests"] >= 200
    shown = ("admitted", "adjusted", "denied", "held", "resumed", "over_budget")
    shown += ("disguised", "inspected", "withheld", "held_answers", "released")
    assert min(report[name] for name in shown) > 0
    assert set(report["by_surface"]) == {"avatars", "marketing", "storefront", "id-photos"}
    assert set(report["by_door"]) == {"asgi", "client", "decorator", "proxy"}


def test_every_request_of_the_demo_is_accounted_for(report: Any) -> None:
    assert report["unaccounted"] == 0
    assert sum(report[name] for name in ("admitted", "denied", "held", "released")) == report["requests"]
    assert report["upstream_generations"] == report["admitted"]
    assert 0 < report["spent_micros"] <= report["reserved_micros"]
    assert sum(group["spent_micros"] for group in report["by_surface"].values()) == report["spent_micros"]


def test_the_demo_over_your_own_prompts(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("prompt,quality\na red kite,low\na blue kite,high\n")
    (tmp_path / "mine.txt").write_text("a red kite\n\na swordfight\n")
    assert demo(tmp_path, "--prompts", "mine.csv")["requests"] == 2
    report = demo(tmp_path, "--prompts", "mine.txt")
    assert (report["requests"], report["denied"]) == (2, 1)


def test_the_demo_over_a_sample_of_real_prompts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every tenth PartiPrompt; says so where the data is not at hand."""
    if not DATA.exists():
        with capsys.disabled():
            print("left out: the real prompts are not beside this checkout")
        return
    rows = [line for file in sorted((DATA / "parti-prompts").glob("*.jsonl")) for line in file.read_text().splitlines()]
    sample = tmp_path / "sample.jsonl"
    sample.write_text("\n".join(rows[::10]))
    report = demo(tmp_path, "--prompts", str(sample))
    assert (report["requests"] - report["resumed"], report["unaccounted"]) == (len(rows[::10]), 0)

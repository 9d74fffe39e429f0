"""What `doctor` says of telemetry: what the environment sets, by name."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pytest

from policyguard.cli.doctor import Diagnosis

doctor: Any = importlib.import_module("policyguard.cli.doctor")  # the package has the verb under this name


@pytest.fixture(autouse=True)
def _nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*doctor._OTEL, "PROMETHEUS_MULTIPROC_DIR"):
        monkeypatch.delenv(name, raising=False)


def test_settings_of_opentelemetry_are_named_and_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://user:word@collector.example.com")
    assert list(doctor._telemetry()) == [
        Diagnosis("ok", "opentelemetry", "SDK installed; the environment sets OTEL_EXPORTER_OTLP_ENDPOINT")
    ]


def test_an_sdk_without_settings_is_a_note() -> None:
    assert [finding.mark for finding in doctor._telemetry()] == ["note"]


def test_without_an_sdk_there_are_no_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor.importlib.util, "find_spec", lambda name: None)
    (finding,) = doctor._telemetry()
    assert finding.says.startswith("no SDK, so no spans and metrics")


def test_a_folder_for_metrics_that_is_not_there_is_a_problem(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    marks = []
    for folder in (tmp_path, tmp_path / "none"):
        monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", str(folder))
        marks.append([(finding.what, finding.mark) for finding in doctor._telemetry()][-1])
    assert marks == [("prometheus", "ok"), ("prometheus", "problem")]

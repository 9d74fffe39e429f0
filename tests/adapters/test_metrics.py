"""What Prometheus is told: names and labels, of one worker and of several, and of a store that is down."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient
from support import MODEL, SURFACE, caller, request

from policyguard.adapters.metrics import FOLDER, Metrics, shared_by
from policyguard.errors import StoreUnavailable
from policyguard.guard.guard import Guard
from policyguard.request import Outcome, Usage

BUDGETS = "budgets: [{id: day, limit: $1 / day}, {id: mine, per: caller.user, limit: 5 images / day}]\n"
USAGE = Outcome(status=200, usage=Usage(input_text_tokens=10, output_image_tokens=196), latency_ms=1500)


def spend(guard: Guard) -> None:
    ticket = guard.admit(request(), caller(), surface="avatars").ticket  # type: ignore[union-attr]
    guard.sent(ticket)
    guard.settle(ticket, USAGE)


def labels(*values: str) -> frozenset[str]:
    return frozenset(values)


def samples(text: str) -> dict[tuple[str, frozenset[str]], float]:
    return {
        (sample.name, labels(*sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


@pytest.fixture
def metrics(open_guard: Callable[..., Guard]) -> tuple[Guard, Metrics]:
    guard = open_guard(avatars=SURFACE + BUDGETS)
    return guard, Metrics(guard, registry=CollectorRegistry())


def read(metrics: Metrics) -> dict[tuple[str, frozenset[str]], float]:
    return samples(metrics.text()[0].decode())


def test_decisions_money_and_budgets_are_told(metrics: tuple[Guard, Metrics]) -> None:
    guard, endpoint = metrics
    spend(guard)
    guard.admit(request(n=7), caller(), surface="avatars")
    found = read(endpoint)
    expected = {
        ("policyguard_decisions_total", labels("avatars", "allow", "none")): 1,
        ("policyguard_decisions_total", labels("avatars", "deny", "parameter")): 1,
        ("policyguard_cost_charged_microdollars_total", labels("avatars", MODEL, "settled")): 5930,
        ("policyguard_images_total", labels("avatars", MODEL, "settled")): 1,
        ("policyguard_budget_spent", labels("avatars", "day", "usd", "enforce")): 5930,
        ("policyguard_budget_limit", labels("avatars", "day", "usd", "enforce")): 1_000_000,
        ("policyguard_budget_utilisation_ratio", labels("avatars", "mine", "images", "enforce")): 0.2,
        ("policyguard_store_up", labels()): 1,
    }
    assert {key: found.get(key) for key in expected} == expected
    assert ("policyguard_budget_limit", labels("avatars", "mine", "images", "enforce")) not in found
    assert found["policyguard_stage_duration_seconds_count", labels("moderate")] == 1


def test_no_caller_is_a_label(metrics: tuple[Guard, Metrics]) -> None:
    guard, endpoint = metrics
    guard.admit(request(model="a-model-of-ada"), caller(user="ada", tenant="ada-inc"), surface="avatars")
    spend(guard)
    assert "ada" not in endpoint.text()[0].decode()


def test_an_endpoint_made_twice_counts_once(metrics: tuple[Guard, Metrics]) -> None:
    guard, endpoint = metrics
    again = Metrics(guard, registry=endpoint._all._registry)
    guard.admit(request(), caller(), surface="avatars")
    assert read(again)["policyguard_decisions_total", labels("avatars", "allow", "none")] == 1


def test_a_store_that_is_down_is_told_and_what_was_counted_stays(
    metrics: tuple[Guard, Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, endpoint = metrics
    spend(guard)

    def down(now: Any) -> None:
        raise StoreUnavailable("is down")

    monkeypatch.setattr(guard.store, "gauges", down)
    found = read(endpoint)
    assert found["policyguard_store_up", labels()] == 0
    assert found["policyguard_decisions_total", labels("avatars", "allow", "none")] == 1
    assert not [key for key in found if key[0].startswith("policyguard_budget_")]


def test_the_store_is_looked_at_once_for_many_readers(
    metrics: tuple[Guard, Metrics], monkeypatch: pytest.MonkeyPatch
) -> None:
    guard, endpoint = metrics
    looks: list[Any] = []
    look = guard.store.gauges
    monkeypatch.setattr(guard.store, "gauges", lambda now: (looks.append(now), look(now))[1])
    for _ in range(5):
        endpoint.text()
    assert len(looks) == 1


def test_the_endpoint_answers_get_in_the_format_that_is_asked_for(metrics: tuple[Guard, Metrics]) -> None:
    client = TestClient(metrics[1])
    plain = client.get("/metrics")
    openmetrics = client.get("/metrics", headers={"accept": "application/openmetrics-text; version=1.0.0"})
    assert plain.headers["content-type"].startswith("text/plain; version=")
    assert openmetrics.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert openmetrics.text.endswith("# EOF\n")
    assert client.post("/metrics").status_code == 405


def test_a_folder_is_made_for_several_workers_only_and_one_of_your_own_stays(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv(FOLDER, raising=False)
    with shared_by(1):
        assert FOLDER not in os.environ
    with shared_by(2):
        made = Path(os.environ[FOLDER])
        assert made.is_dir()
    assert (FOLDER in os.environ, made.exists()) == (False, False)
    monkeypatch.setenv(FOLDER, str(tmp_path))
    with shared_by(2):
        assert os.environ[FOLDER] == str(tmp_path)


WORKER = """
import sys
from datetime import UTC, datetime
from policyguard.adapters.metrics import Metrics
from policyguard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Caller, ImageRequest
folder, store, count = sys.argv[1:]
with Guard.open(folder, store=store, moderator=ScriptedModerator()) as guard:
    metrics = Metrics(guard)
    for _ in range(int(count)):
        guard.admit(ImageRequest(prompt="a cat", n=1), Caller(user="u1", tenant="t", tier="free"), surface="avatars")
    sys.stdout.write(metrics.text()[0].decode())
"""


def test_workers_count_together_also_those_that_have_ended(
    open_guard: Callable[..., Guard], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_guard(avatars=SURFACE + BUDGETS).close()
    monkeypatch.delenv(FOLDER, raising=False)
    found = {}
    with shared_by(2):
        for count in ("2", "1"):
            arguments = [str(tmp_path / "policies0"), f"sqlite:///{tmp_path / 'record.sqlite3'}", count]
            done = subprocess.run(
                [sys.executable, "-c", WORKER, *arguments], capture_output=True, text=True, check=True
            )
            found = samples(done.stdout)
    assert found["policyguard_decisions_total", labels("avatars", "allow", "none")] == 3
    assert found["policyguard_stage_duration_seconds_count", labels("reserve")] == 3
    assert found["policyguard_budget_reserved", labels("avatars", "mine", "images", "enforce")] == 3

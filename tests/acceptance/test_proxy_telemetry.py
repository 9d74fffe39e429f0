"""What `policyguard serve` tells of its work: metrics of all workers, lines for machines, and no word of a prompt."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families
from support import AVATARS

pytestmark = pytest.mark.acceptance
BUDGET = "budgets: [{id: day, limit: $10 / day}]\n"


def counted(url: str, name: str) -> float:
    text = httpx2.get(f"{url}/metrics", trust_env=False).text
    families = text_string_to_metric_families(text)
    return sum(sample.value for family in families for sample in family.samples if sample.name == name)


def test_every_worker_tells_what_all_of_them_have_counted(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy("--workers", "2", avatars=AVATARS + BUDGET)
    client = app.sdk()

    def ask(number: int) -> None:
        client.images.generate(prompt=f"a cat {number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(ask, range(24)))
    names = ("policyguard_decisions_total", "policyguard_images_total", "policyguard_legs_total")
    seen = [[counted(app.url, name) for name in names] for _ in range(6)]  # of either worker, as it comes
    assert seen == [[24, 24, 24]] * 6
    assert counted(app.url, "policyguard_store_up") == 1


def test_metrics_are_shown_to_nobody_where_they_are_switched_off(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy("--no-metrics")
    assert httpx2.get(f"{app.url}/metrics", trust_env=False).status_code == 401


def test_metrics_are_shown_to_the_networks_that_are_named_and_no_other(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy("--metrics-from", "10.0.0.0/8", "--metrics-from", "fd00::/8")
    answer = httpx2.get(f"{app.url}/metrics", trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "not_allowed")
    assert httpx2.get(f"{app.url}/healthz", trust_env=False).status_code == 200


def test_the_log_is_lines_of_json_without_a_word_of_the_request(
    proxy: Callable[..., Any], sandbox: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    app = proxy("--log-format", "json", "--log-level", "debug", avatars=AVATARS + BUDGET)
    client = app.sdk(app.key(user="canaryuser"))
    client.images.generate(prompt="canaryprompt")
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt="canaryprompt", size="2048x2048")
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt="canaryprompt, a swordfight at dawn")
    sandbox.fault("/v1/images/generations", "cut")
    with pytest.raises(openai.APIError):
        client.images.generate(prompt="canaryprompt")
    app.stop()
    text = capfd.readouterr().err
    lines = [json.loads(line) for line in text.splitlines() if line.startswith("{")]
    told = [(line["event"], line["outcome"]) for line in lines if line["logger"] == "policyguard" and "outcome" in line]
    assert told == [
        ("request.decided", "allow"),
        ("leg.settled", "settled"),
        ("request.decided", "deny"),
        ("request.decided", "deny"),
        ("request.decided", "allow"),
        ("leg.presumed", "presumed"),
    ]
    assert "canary" not in text
    assert "sk-" not in text

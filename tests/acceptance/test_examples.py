"""The examples run as they stand, against the sandbox; the Celery worker in `test_tasks`."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

pytestmark = pytest.mark.acceptance
ROOT = Path(__file__).parents[2]


def environment(sandbox: Any, tmp_path: Path) -> dict[str, str]:
    return {
        "OPENAI_API_KEY": "sk-sandbox",
        "OPENAI_BASE_URL": f"{sandbox.url}/v1",
        "POLICYGUARD_POLICIES": str(ROOT / "policies"),
        "POLICYGUARD_STORE": f"sqlite:///{tmp_path / 'record.sqlite3'}",
    }


def run(sandbox: Any, tmp_path: Path, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, *command],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env={**os.environ, **environment(sandbox, tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_decorated_function_makes_a_picture_and_says_why_it_does_not(sandbox: Any, tmp_path: Path) -> None:
    script = "examples/decorated.py"
    assert run(sandbox, tmp_path, script, "a fox in a scarf") == "made a picture, 196 output tokens"
    assert (
        run(sandbox, tmp_path, script, "a swordfight")
        == "refused: moderation_blocked (moderation.violence, moderation.violence)"
    )


def test_the_guarded_client_is_forced_and_raises_the_sdks_errors(sandbox: Any, tmp_path: Path) -> None:
    script = "examples/guarded_client.py"
    adjusted = "moderation=low->auto,n=4->2"
    assert run(sandbox, tmp_path, script, "a fox") == f"made pictures, 392 output tokens, adjusted: {adjusted}"
    assert run(sandbox, tmp_path, script, "a swordfight") == "refused: 400 moderation_blocked"
    assert sandbox.counts()["images"] == 2


def test_code_without_a_door_settles_what_it_made(sandbox: Any, tmp_path: Path) -> None:
    printed = run(sandbox, tmp_path, "examples/by_hand.py")
    assert printed.startswith("{'state': 'settled', 'tokens': 343, ")


def test_the_fastapi_app_is_guarded(sandbox: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment(sandbox, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    import fastapi_app

    with TestClient(fastapi_app.app, client=("127.0.0.1", 50_000)) as client:
        path, user = "/avatars/v1/images/generations", {"x-user-id": "u1"}
        made = client.post(path, json={"prompt": "a fox", "n": 9, "moderation": "low"}, headers=user)
        denied = client.post(path, json={"prompt": "a fox", "quality": "high"}, headers=user)
        described = client.get("/openapi.json").json()["paths"][path]["post"]["responses"]
    assert (made.status_code, made.headers["x-policyguard-adjusted"]) == (200, "moderation=low->auto,n=9->2")
    assert (denied.status_code, denied.json()["error"]["message"]) == (400, "High quality is part of the Pro plan.")
    assert {"200", "400", "403", "413", "429", "503"} <= set(described)
    assert sandbox.counts()["images"] == 2


def test_the_moderator_scores_a_prompt(sandbox: Any, tmp_path: Path) -> None:
    assert run(sandbox, tmp_path, "examples/moderator.py", "a swordfight") == "{'violence': 0.9}"
    assert run(sandbox, tmp_path, "examples/moderator.py", "a fox") == "{}"

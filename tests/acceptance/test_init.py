"""What `policyguard init` writes, started as it says itself, word for word."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import pytest

pytestmark = pytest.mark.acceptance
BODY = {"prompt": "a fox in a scarf", "n": 9}


def environment(sandbox: Any) -> dict[str, str]:
    """As in a shell where the environment of the package is active."""
    here = str(Path(sys.executable).parent)
    settings = {"OPENAI_API_KEY": "sk-sandbox", "OPENAI_BASE_URL": f"{sandbox.url}/v1"}
    return {**os.environ, "PATH": f"{here}{os.pathsep}{os.environ['PATH']}", **settings}


def test_the_app_is_started_as_its_own_words_say(tmp_path: Path, sandbox: Any) -> None:
    command = [sys.executable, "-m", "policyguard", "init"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout
    (start,) = re.findall(r"`(uvicorn [^`]*)`", " ".join(said.split()))
    assert f"    {start}\n" in (tmp_path / "app.py").read_text()
    process = subprocess.Popen(
        f"exec {start} --port 0", shell=True, cwd=tmp_path, env=environment(sandbox), stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stderr is not None
        told = iter(process.stderr.readline, "")
        url = next(found[0] for line in told if (found := re.search(r"http://127\.0\.0\.1:\d+", line)))
        with httpx2.Client(base_url=url, trust_env=False, timeout=60) as http:
            made = http.post("/avatars/v1/images/generations", json=BODY, headers={"x-user-id": "u1"})
            forged = {"x-user-id": "u1", "x-forwarded-for": "203.0.113.9"}
            peer = http.post("/avatars/v1/images/generations", json=BODY, headers=forged)
            nobody = http.post("/avatars/v1/images/generations", json=BODY)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    assert (made.status_code, made.headers["x-policyguard-adjusted"]) == (200, "n=9->2")
    assert peer.status_code == 200  # a header does not say who the peer is
    assert (nobody.status_code, nobody.json()["error"]["code"]) == (403, "policy_caller_missing")

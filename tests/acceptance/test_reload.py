"""A policy file is edited while a real app serves: the next requests follow it, and a bad edit changes nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from acceptance.conftest import SERVED, Sandbox
from patience import HANGS_S, until
from policy.mounted import put
from support import AVATARS, write_policies

pytestmark = pytest.mark.acceptance
PATH = "/avatars/v1/images/generations"
STRICT = AVATARS.replace("max: 2", "max: 1")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_policies(tmp_path / "policies", avatars=AVATARS)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "app.log"


@pytest.fixture
def app(
    sandbox: Sandbox, folder: Path, log: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx2.Client]:
    """A client of a running app that looks at its folder every 50 ms and writes what it logs to `log`."""
    monkeypatch.setenv("POLICYGUARD_RELOAD", "0.05")
    command = [sys.executable, str(SERVED), str(folder), f"sqlite:///{tmp_path / 'r.sqlite3'}", f"{sandbox.url}/v1"]
    with (
        log.open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        with httpx2.Client(base_url=url, trust_env=False, headers={"x-user-id": "u1"}, timeout=HANGS_S) as client:
            yield client
        process.terminate()
        assert process.wait(timeout=HANGS_S) in (0, -15)


def asked(app: httpx2.Client) -> int:
    """The status of a request for two images."""
    return app.post(PATH, json={"prompt": "a cat", "n": 2}).status_code


def test_requests_follow_a_good_edit_and_a_bad_one_is_reported_and_changes_nothing(
    app: httpx2.Client, folder: Path, log: Path
) -> None:
    file = folder / "avatars.yaml"
    assert asked(app) == 200
    put(file, STRICT)
    until(lambda: asked(app) == 400)
    put(file, AVATARS + "moderaton: {}\n")
    until(lambda: "the policies do not load" in log.read_text())
    assert "PG201 at" in log.read_text()
    assert "moderaton" not in log.read_text()
    assert asked(app) == 400
    put(file, AVATARS)
    until(lambda: asked(app) == 200)


def test_a_new_surface_is_guarded_as_soon_as_its_file_is_there(app: httpx2.Client, folder: Path) -> None:
    body = {"prompt": "a cat"}
    assert app.post("/second/v1/images/generations", json=body).json()["error"]["code"] == "policy_no_surface"
    text = AVATARS.replace("surface: avatars", "surface: second").replace("/avatars/", "/second/")
    put(folder / "second.yaml", text + "rules: [{id: closed, when: 'true', then: deny}]\n")

    def refused() -> bool:
        error = app.post("/second/v1/images/generations", json=body).json()["error"]
        return [reason["id"] for reason in error["policy"]["reasons"]] == ["closed"]

    until(refused)

"""`policyguard keys`, as it is typed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import SURFACE, write_policies
from typer.testing import CliRunner, Result

from policyguard.cli.keys import app
from policyguard.errors import ConfigError


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a command beside a folder of policies and a store that is not there yet."""
    marketing = SURFACE.replace("surface: avatars", "surface: marketing").replace(" /v1/", " /m/v1/")
    policies = write_policies(tmp_path / "policies", avatars=SURFACE, marketing=marketing)
    monkeypatch.setenv("POLICYGUARD_POLICIES", str(policies))
    monkeypatch.setenv("POLICYGUARD_STORE", f"sqlite:///{tmp_path / 'record.sqlite3'}")
    monkeypatch.delenv("POLICYGUARD_KEY_FILE", raising=False)

    def run(*arguments: str, code: int = 0) -> Result:
        done = CliRunner().invoke(app, list(arguments))
        assert done.exit_code == code, done.output
        return done

    return run


CREATE = ("create", "--name", "web shop", "--surface", "avatars")


def test_a_key_is_shown_once_and_listed_without_its_secret(shell: Any) -> None:
    made = shell(*CREATE, "--caller", "tenant=acme", "--names-user")
    secret = made.stdout.strip()
    assert secret.startswith("sk-policyguard-")
    assert "not shown again" in made.stderr
    listed = shell("list").stdout
    assert "web shop" in listed
    assert "tenant=acme, names its user" in listed
    assert secret not in listed


def test_programs_read_it_as_json_and_revoke_it_by_its_id(shell: Any) -> None:
    made = json.loads(shell(*CREATE, "--caller", "user=u1", "--surface", "marketing", "--format", "json").stdout)
    assert (made["surfaces"], made["caller"]) == (["avatars", "marketing"], {"user": "u1"})
    revoked = shell("revoke", made["id"], "--why", "leaked", "--format", "json")
    assert json.loads(revoked.stdout) == {"id": made["id"], "result": "revoked"}
    (row,) = json.loads(shell("list", "--format", "json").stdout)
    assert row["revoked_at"] is not None
    assert "key" not in row


def test_revoking_what_is_not_there_ends_with_1(shell: Any) -> None:
    made = json.loads(shell(*CREATE, "--caller", "user=u1", "--format", "json").stdout)
    shell("revoke", made["id"], "--why", "leaked")
    assert "revoked before" in shell("revoke", made["id"], "--why", "leaked", code=1).stdout


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--surface", "avatarz"), "did you mean `avatars`?"),
        (("--caller", "tenent=acme"), "did you mean `tenant`?"),
        (("--caller", "tier=por"), "did you mean `pro`?"),
        (("--caller", "tenant"), "write it like `--caller tenant=acme`"),
        (("--caller", "tenant=acme"), "give `--caller user=...`, or --names-user"),
    ],
)
def test_what_the_policies_do_not_know_is_a_usage_error(shell: Any, arguments: tuple[str, ...], says: str) -> None:
    assert says in shell(*CREATE, *arguments, code=2).stderr


def test_a_key_is_for_one_user_or_names_its_user(shell: Any) -> None:
    done = CliRunner().invoke(app, [*CREATE, "--caller", "user=u1", "--names-user"])
    assert isinstance(done.exception, ConfigError)


def test_a_header_of_its_own_names_the_user(shell: Any) -> None:
    made = json.loads(shell(*CREATE, "--user-header", "X-OpenWebUI-User-Email", "--format", "json").stdout)
    assert (made["names_user"], made["user_header"]) == (True, "x-openwebui-user-email")
    assert "names its user in x-openwebui-user-email" in shell("list").stdout.replace("\n", " ")
    (row,) = json.loads(shell("list", "--format", "json").stdout)
    assert row["user_header"] == "x-openwebui-user-email"


@pytest.mark.parametrize(
    "name",
    [
        "Authorization",
        "api-key",
        "X-Api-Key",
        "Content-Type",
        "X-Forwarded-For",
        "X-Policyguard-User",
        "x y",
        "x-é",
        "x-",
    ],
)
def test_a_header_that_says_something_else_cannot_name_the_user(shell: Any, name: str) -> None:
    done = shell(*CREATE, "--user-header", name, code=1)
    assert isinstance(done.exception, ConfigError)

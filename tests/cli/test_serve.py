"""`policyguard serve`, as far as it goes before it serves; the rest is in the acceptance tests."""

from __future__ import annotations

import json
import socket
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
import uvicorn
from support import SURFACE, write_policies
from typer.testing import CliRunner, Result

from policyguard.cli.serve import serve
from policyguard.errors import ConfigError, PolicyError


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the verb without a server; the sockets that it would serve on are kept."""
    served: list[tuple[str, int]] = []

    def run(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        served.append(sockets[0].getsockname()[:2])
        server._started()  # type: ignore[attr-defined]

    monkeypatch.setattr(uvicorn.Server, "run", run)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    policies = write_policies(tmp_path / "policies", avatars=SURFACE)
    monkeypatch.setenv("POLICYGUARD_POLICIES", str(policies))
    monkeypatch.setenv("POLICYGUARD_STORE", f"sqlite:///{tmp_path / 'record.sqlite3'}")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream-canary")
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    app = typer.Typer()
    app.command()(serve)

    def invoke(*arguments: str) -> Result:
        result = CliRunner().invoke(app, ["--port", "0", *arguments])
        invoke.served = served  # type: ignore[attr-defined]
        return result

    return invoke


def test_it_says_where_it_listens_for_whom_and_for_which_surfaces(shell: Any) -> None:
    result = shell()
    ((host, port),) = shell.served
    assert host == "127.0.0.1"
    assert f"proxy on http://127.0.0.1:{port} for https://api.openai.com/v1" in result.stdout
    assert "surfaces: avatars" in result.stdout
    assert "canary" not in result.output


def test_programs_read_it_as_json(shell: Any) -> None:
    said = json.loads(shell("--format", "json", "--upstream", "http://127.0.0.1:9/v1").stdout)
    assert said["base_url"] == f"{said['url']}/v1"
    assert (said["upstream"], said["surfaces"]) == ("http://127.0.0.1:9/v1", ["avatars"])


def test_without_the_upstreams_key_it_does_not_start(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert "OPENAI_API_KEY" in str(shell().exception)
    assert shell.served == []


def test_policies_that_do_not_load_are_told_before_anything_listens(shell: Any, tmp_path: Path) -> None:
    (tmp_path / "policies" / "avatars.yaml").write_text(SURFACE + "moderaton: {}\n")
    assert isinstance(shell().exception, PolicyError)
    assert shell.served == []


@pytest.mark.parametrize("address", ["ftp://example.com", "api.openai.com/v1", "https://", "https://x/v1?key=1"])
def test_an_upstream_that_is_no_address_is_an_error(shell: Any, address: str) -> None:
    assert isinstance(shell("--upstream", address).exception, ConfigError)


def test_what_is_not_installed_is_named_with_what_installs_it(shell: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "policyguard.proxy.serving", raising=False)
    monkeypatch.delitem(sys.modules, "policyguard.proxy.upstream", raising=False)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    result = shell()
    assert result.exit_code == 2
    assert "pip install 'policyguard[serve]'" in result.stderr


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "[::1]", "0.0.0.0"])
def test_its_own_address_as_the_upstream_is_refused_at_the_start(shell: Any, host: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    result = shell("--upstream", f"http://{host}:{port}/v1", "--port", str(port))
    assert (result.exit_code, shell.served) == (2, [])
    assert "the upstream is this proxy itself" in result.stderr


@pytest.mark.parametrize("origin", ["app.example.com", "https://app.example.com/path", "ftp://x", "https://", ""])
def test_an_origin_that_no_browser_writes_is_refused(shell: Any, origin: str) -> None:
    result = shell("--cors-origin", origin)
    assert (result.exit_code, shell.served) == (2, [])
    assert "--cors-origin" in result.stderr


@pytest.mark.parametrize(
    "origin", ["https://app.example.com", "https://App.example.com:8443/", "http://localhost:3000", "*"]
)
def test_an_origin_is_taken(shell: Any, origin: str) -> None:
    assert shell("--cors-origin", origin).exit_code == 0


def test_a_key_with_a_line_end_serves_and_one_with_more_behind_it_does_not(
    shell: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream-canary\n# of the team")
    result = shell()
    assert "OPENAI_API_KEY" in str(result.exception)
    assert "canary" not in str(result.exception)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-upstream-canary\n")
    assert shell().exit_code == 0

from __future__ import annotations

import json
import socket
import sys

import pytest
import typer
import uvicorn
from typer.testing import CliRunner, Result

from policyguard.cli.sandbox import sandbox
from policyguard.errors import ConfigError


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Result, list[tuple[str, int]]]:
    """What is printed, and the addresses at which it would have served."""
    served: list[tuple[str, int]] = []

    def serve(server: uvicorn.Server, sockets: list[socket.socket]) -> None:
        served.append(sockets[0].getsockname()[:2])

    monkeypatch.setattr(uvicorn.Server, "run", serve)
    app = typer.Typer()
    app.command()(sandbox)
    return CliRunner().invoke(app, list(arguments)), served


@pytest.fixture
def port() -> int:
    """One that is free at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_it_says_where_it_listens_and_how_to_use_it(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    result, served = run(monkeypatch, "--port", str(port))
    assert result.exit_code == 0
    assert f"OPENAI_BASE_URL=http://127.0.0.1:{port}/v1 OPENAI_API_KEY=sk-sandbox" in result.output
    assert [("127.0.0.1", port)] == served


def test_programs_read_the_address_as_json(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    result, _ = run(monkeypatch, "--port", str(port), "--format", "json")
    assert json.loads(result.stdout) == {
        "url": f"http://127.0.0.1:{port}",
        "base_url": f"http://127.0.0.1:{port}/v1",
    }


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_it_refuses_to_listen_beyond_this_machine(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    result, served = run(monkeypatch, "--host", host)
    assert (result.exit_code, served) == (2, [])
    assert "--allow-remote" in result.output


def test_it_listens_beyond_this_machine_when_told(monkeypatch: pytest.MonkeyPatch, port: int) -> None:
    served = run(monkeypatch, "--host", "0.0.0.0", "--port", str(port), "--allow-remote")[1]
    assert [("0.0.0.0", port)] == served


def test_a_port_that_is_taken_is_said_before_the_address_is(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result, served = run(monkeypatch, "--port", str(port))
    assert served == []
    assert isinstance(result.exception, ConfigError)
    assert f"cannot listen on port {port} of `127.0.0.1`" in str(result.exception)
    assert "OPENAI_BASE_URL" not in result.output


def test_a_missing_extra_is_a_hint(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("policyguard.sandbox", "policyguard.sandbox.server"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    result, _ = run(monkeypatch)
    assert result.exit_code == 2
    assert "hint: this needs uvicorn: pip install 'policyguard[demo]'" in result.output

from __future__ import annotations

from typing import Any

import pytest
import typer
import uvicorn
from typer.testing import CliRunner, Result

from policyguard.cli.sandbox import sandbox


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> tuple[Result, list[dict[str, Any]]]:
    served: list[dict[str, Any]] = []
    monkeypatch.setattr(uvicorn, "run", lambda app, **options: served.append(options))
    app = typer.Typer()
    app.command()(sandbox)
    return CliRunner().invoke(app, list(arguments)), served


def test_it_says_where_it_listens_and_how_to_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    result, served = run(monkeypatch, "--port", "8123")
    assert result.exit_code == 0
    assert "OPENAI_BASE_URL=http://127.0.0.1:8123/v1 OPENAI_API_KEY=sk-sandbox" in result.output
    assert [(options["host"], options["port"]) for options in served] == [("127.0.0.1", 8123)]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "example.org"])
def test_it_refuses_to_listen_beyond_this_machine_unless_told(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    result, served = run(monkeypatch, "--host", host)
    assert result.exit_code != 0
    assert served == []
    assert run(monkeypatch, "--host", host, "--allow-remote")[1][0]["host"] == host

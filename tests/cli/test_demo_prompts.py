"""`policyguard demo --prompts` with a file of unknown columns: it asks at a terminal, and says so elsewhere."""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from policyguard.cli import app, demo
from policyguard.demo import run as running
from policyguard.sandbox.prompts import DemoPrompt


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Sent(Exception):
    """The prompts have been read; nothing is started in these tests."""


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    texts: list[str] = []

    def run(folder: Path, *, prompts: Sequence[DemoPrompt], **more: Any) -> None:
        texts.extend(prompt.text for prompt in prompts)
        raise Sent

    monkeypatch.setattr(running, "run", run)
    return texts


@pytest.fixture
def table(tmp_path: Path) -> str:
    file = tmp_path / "a.csv"
    file.write_text("id;title;what\n1;Boat;a boat at sea\n")
    return str(file)


def test_elsewhere_it_ends_with_the_columns_that_there_are(table: str, sent: list[str]) -> None:
    result = CliRunner().invoke(app, ["demo", "--prompts", table])
    assert (result.exit_code, sent) == (2, [])
    assert "there is `id`, `title`, `what`" in result.output
    assert "`--column NAME`" in result.output


def test_the_column_can_be_named(table: str, sent: list[str]) -> None:
    CliRunner().invoke(app, ["demo", "--prompts", table, "--column", "What"])
    assert sent == ["a boat at sea"]


def test_at_a_terminal_it_asks(table: str, sent: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def prompt(text: str, **options: Any) -> int:
        asked.append(text)
        assert (options["type"].min, options["type"].max) == (1, 3)
        return 3

    monkeypatch.setattr(typer, "prompt", prompt)
    monkeypatch.setattr(sys, "stdin", Terminal())
    with pytest.raises(Sent):
        demo(Path(table), None, Path("unused"), None, live=False, format="text")
    assert (sent, asked) == (["a boat at sea"], ["which column holds the prompts"])

"""What verbs share: progress for people who wait, and nothing of it where a program reads."""

from __future__ import annotations

import io
import sys
from collections import Counter
from pathlib import Path

import pytest
from support import SURFACE, write_policies

from policyguard.cli import output
from policyguard.cli.check import check
from policyguard.policy import load

ROOT = Path(__file__).parents[2]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with output.progress("surfaces") as progress:
        assert progress is not None
        progress(3, 7)
    assert "surfaces" in terminal.getvalue()
    assert "3/7" in terminal.getvalue()


def test_a_file_gets_none(capsys: pytest.CaptureFixture[str]) -> None:
    with output.progress("surfaces") as progress:
        assert progress is None
    assert capsys.readouterr().err == ""


def test_check_says_on_a_terminal_how_many_surfaces_it_has_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    terminal = Terminal()
    folder = write_policies(tmp_path, avatars=SURFACE)
    monkeypatch.setattr(sys, "stderr", terminal)
    check(str(folder), format="text", fail_on_warning=False, watch=False)
    assert "1/1" in terminal.getvalue()
    assert "1/1" not in capsys.readouterr().out


def test_check_reads_a_clean_folder_once(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    read, opened = load._bytes, Counter[str]()

    def counted(path: Path) -> bytes:
        opened[path.name] += 1
        return read(path)

    monkeypatch.setattr(load, "_bytes", counted)
    check(str(ROOT / "policies"), format="text", fail_on_warning=False, watch=False)
    assert opened == dict.fromkeys((path.name for path in (ROOT / "policies").glob("*.yaml")), 1)
    assert "no problems in 4 surfaces" in capsys.readouterr().out

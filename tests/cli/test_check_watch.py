"""`policyguard check --watch` as a person sees it: one report for each change, and a clean end."""

from __future__ import annotations

import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from patience import HANGS_S
from policy.mounted import put


class Watching:
    """A running `check --watch`; `line` waits for a line of its output, no longer than a deadline."""

    def __init__(self, folder: Path, *options: str) -> None:
        command = [sys.executable, "-m", "policyguard", "check", folder.name, "--watch", *options]
        self.process = subprocess.Popen(
            command,
            cwd=folder.parent,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=dict(os.environ),
        )
        self._lines: queue.Queue[str] = queue.Queue()
        self._reading = threading.Thread(target=self._read)
        self._reading.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._lines.put(line.rstrip("\n"))

    def line(self, part: str) -> str:
        while True:
            line = self._lines.get(timeout=HANGS_S)
            if part in line:
                return line

    def end(self) -> tuple[int, list[str]]:
        """Ctrl-C: the exit code, and what was printed since the last `line`."""
        self.process.send_signal(signal.SIGINT)
        code = self.process.wait(timeout=HANGS_S)
        self._reading.join(timeout=HANGS_S)
        return code, list(self._lines.queue)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(timeout=HANGS_S)
        self._reading.join(timeout=HANGS_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


SHIPPED = Path(__file__).parents[2] / "policies"
RIGHT = (SHIPPED / "avatars.yaml").read_text()
BROKEN = RIGHT.replace("moderation:\n", "moderaton:\n")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(SHIPPED, tmp_path / "policies"))


@pytest.fixture
def watching(folder: Path) -> Iterator[Watching]:
    running = Watching(folder)
    yield running
    running.close()


def test_each_change_is_checked_and_the_line_says_when_and_what(folder: Path, watching: Watching) -> None:
    assert re.fullmatch(r"\d\d:\d\d:\d\d policies: no problems, watching; Ctrl-C ends", watching.line("watching"))
    put(folder / "avatars.yaml", BROKEN)
    watching.line("error PG201: there is no key `moderaton` here")
    assert "policies: 1 error, 0 warnings after a change of avatars.yaml, watching" in watching.line("watching")
    put(folder / "avatars.yaml", RIGHT)
    assert "policies: no problems after a change of avatars.yaml, watching" in watching.line("watching")
    assert watching.end() == (0, [""])


def test_it_ends_with_1_where_the_last_check_found_a_problem(folder: Path, watching: Watching) -> None:
    watching.line("watching")
    put(folder / "avatars.yaml", BROKEN)
    watching.line("1 error")
    assert watching.end() == (1, [""])


def test_a_folder_may_come_later_and_go_again(folder: Path) -> None:
    away = folder.rename(folder.with_name("away"))
    running = Watching(folder)
    try:
        assert "policies: 1 error" in running.line("watching")
        away.rename(folder)
        assert "no problems after a change of avatars.yaml, id-photos.yaml, marketing.yaml and 2 more" in running.line(
            "watching"
        )
        folder.rename(away)
        assert "1 error" in running.line("watching")
        assert running.end() == (1, [""])
    finally:
        running.close()


def test_watching_is_for_people_only(folder: Path) -> None:
    running = Watching(folder, "--format", "json")
    assert running.process.wait(timeout=HANGS_S) == 2
    running.close()

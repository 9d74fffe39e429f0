"""A real guard on a real store, with a scripted moderator."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support import ORG, SURFACE, write_policies

from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator


@pytest.fixture
def moderator() -> ScriptedModerator:
    return ScriptedModerator()


@pytest.fixture
def open_guard(tmp_path: Path, moderator: ScriptedModerator) -> Iterator[Callable[..., Guard]]:
    opened: list[Guard] = []

    def make(*, avatars: str = SURFACE, org: str = ORG, **more: Any) -> Guard:
        folder = write_policies(tmp_path / f"policies{len(opened)}", org=org, avatars=avatars)
        more.setdefault("moderator", moderator)
        guard = Guard.open(folder, store=f"sqlite:///{tmp_path / 'record.sqlite3'}", **more)
        opened.append(guard)
        return guard

    yield make
    for guard in opened:
        guard.close()

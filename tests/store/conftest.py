"""One contract, every engine: tests take `store`, and run on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from store.books import open_sqlite

from policyguard.store import Store

OPENERS = {"sqlite": open_sqlite}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.sqlite3"


@pytest.fixture(params=sorted(OPENERS))
def store(request: pytest.FixtureRequest, path: Path) -> Iterator[Store]:
    opened = OPENERS[request.param](path)
    yield opened
    opened.close()

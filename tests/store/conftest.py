"""One contract, every engine: tests take `store`, and `url` where they look beside it, and run on each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Server
from store.books import ENGINES, open_at

from policyguard.store import Store


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The file of tests that are about SQLite."""
    return tmp_path / "store.sqlite3"


@pytest.fixture(params=ENGINES)
def url(request: pytest.FixtureRequest, path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{path}"
    else:
        server: Server = request.getfixturevalue("postgres")
        with server.database() as address:
            yield address


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = open_at(url)
    yield opened
    opened.close()

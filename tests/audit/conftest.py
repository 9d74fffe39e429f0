"""A sealed record to look at and to tamper with: `sealed` on an SQLite file, `record` on each engine."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from audit.sealing import Sealed
from databases import Server
from store.books import ENGINES, open_at


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Sealed]:
    url = f"sqlite:///{tmp_path / 'record.sqlite3'}"
    with closing(open_at(url)) as store:
        yield Sealed(url, store)


@pytest.fixture(params=ENGINES)
def record(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Sealed]:
    if request.param == "sqlite":
        yield request.getfixturevalue("sealed")
        return
    server: Server = request.getfixturevalue("postgres")
    with server.database() as url, closing(open_at(url)) as store:
        yield Sealed(url, store)

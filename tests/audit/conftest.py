"""A sealed record to look at and to tamper with, on an SQLite file."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from audit.sealing import Sealed
from store.books import open_sqlite


@pytest.fixture
def sealed(tmp_path: Path) -> Iterator[Sealed]:
    path = tmp_path / "record.sqlite3"
    store = open_sqlite(path)
    yield Sealed(path, store)
    store.close()

from __future__ import annotations

import multiprocessing
import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from patience import HANGS_S
from sqlalchemy import Connection
from store.books import NOW, VAULT, open_at, refused, rows
from store.workers import fill_the_disk, refuse_to_write

from policyguard.errors import ConfigError, StoreUnavailable
from policyguard.store import Store, key_beside, migrate, open_store
from policyguard.store.address import sqlite_path
from policyguard.store.db import sqlite
from policyguard.store.db.sql import Rollback
from policyguard.store.schema import status


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("sqlite:////data/a.db", "/data/a.db"),
        ("/data/a.db", "/data/a.db"),
        ("sqlite:///a.db", "a.db"),
        ("a.db", "a.db"),
        ("./sub/a.db", "sub/a.db"),
    ],
)
def test_a_store_is_a_url_or_a_path(url: str, expected: str) -> None:
    assert sqlite_path(url) == Path(expected).absolute()
    assert key_beside(url) == Path(expected + ".key").absolute()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+psycopg://u:hunter2@db/", "names no database"),
        ("postgresql+psycopg://u:hunter2@db:port/x", "cannot be read"),
        ("mysql://u:hunter2@db/x", "`mysql` is no store"),
        ("sqlite://", "outlives"),
        ("sqlite:///:memory:", "outlives"),
        (":memory:", "outlives"),
        ("", "outlives"),
        ("sqlite:///file:x?mode=memory", "outlives"),
    ],
)
def test_what_cannot_be_a_store_is_said_without_its_password(url: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message) as raised:
        open_store(url, vault=VAULT)
    assert "hunter2" not in str(raised.value)


@pytest.mark.parametrize("as_text", [False, True], ids=["store", "its text"])
@pytest.mark.parametrize(
    "opens", [partial(open_store, vault=VAULT), migrate, status], ids=["open", "migrate", "status"]
)
def test_a_store_where_its_url_is_due_makes_no_file(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opens: Callable[[Any], Any], as_text: bool
) -> None:
    """The text of an object would name a new and empty file in the working directory."""
    (elsewhere := tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(elsewhere)
    with pytest.raises(ConfigError, match="the store's URL must be a text that names a database"):
        opens(str(store) if as_text else store)
    with pytest.raises(TypeError, match="a URL or a path names a database"):
        rows(store, "SELECT 1")  # type: ignore[arg-type]
    assert list(elsewhere.iterdir()) == []


@pytest.fixture
def store(path: Path) -> Iterator[Store]:
    opened = open_at(path)
    yield opened
    opened.close()


def test_opening_touches_nothing_until_the_first_use(path: Path) -> None:
    open_at(path).close()
    assert not path.exists()


# ---- when it breaks ---------------------------------------------------------------------------------------


def unavailable(store: Store) -> str:
    with pytest.raises(StoreUnavailable) as raised:
        store.perform(refused("dec_1"), NOW)
    return str(raised.value)


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    store = open_at(tmp_path / "missing" / "store.sqlite3")
    assert "unable to open database file" in unavailable(store)
    (tmp_path / "missing").mkdir()
    store.perform(refused("dec_1"), NOW)
    assert len(store.events()) == 1
    store.close()


def test_a_folder_instead_of_a_file(tmp_path: Path) -> None:
    store = open_at(tmp_path)
    assert "unable to open database file" in unavailable(store)
    store.close()


def test_a_file_that_is_no_database(path: Path) -> None:
    path.write_bytes(b"this is a text, and not a database at all\n" * 100)
    store = open_at(path)
    assert "not a database" in unavailable(store)
    store.close()


def test_a_database_of_somebody_else_is_left_alone(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE events (x)")
    store = open_at(path)
    assert "already exists" in unavailable(store)
    store.close()
    assert rows(path, "SELECT name FROM sqlite_master") == [("events",)]


def test_a_locked_database_refuses_and_recovers(store: Store, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT_S", 0.01)
    store.check()
    with other_writer(path):
        assert "locked" in unavailable(store)
        assert store.events() == []
    store.perform(refused("dec_1"), NOW)
    assert len(store.events()) == 1


@contextmanager
def other_writer(path: Path) -> Iterator[None]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("ROLLBACK")


def test_a_full_disk_refuses_loses_nothing_and_recovers(store: Store, path: Path) -> None:
    store.check()
    store.close()
    process = multiprocessing.get_context("spawn").Process(target=fill_the_disk, args=(path,))
    process.start()
    process.join(HANGS_S)
    assert process.exitcode == 0
    written = len(store.events(limit=100_000))
    store.perform(refused("after"), NOW)
    assert len(store.events(limit=100_000)) == written + 1


def test_a_file_that_may_only_be_read_refuses() -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.sqlite3"
        store = open_at(path)
        store.perform(refused("dec_1"), NOW)
        store.close()
        path.chmod(0o444)
        ours, theirs = multiprocessing.get_context("spawn").Pipe()
        process = multiprocessing.get_context("spawn").Process(target=refuse_to_write, args=(folder, theirs))
        process.start()
        assert ours.poll(HANGS_S)
        said = ours.recv()
        process.join(HANGS_S)
        Path(folder).chmod(0o755)
        path.chmod(0o644)
        assert "the store cannot answer: " in said
        store.perform(refused("dec_3"), NOW)
        assert [s.event.decision_id for s in store.events()] == ["dec_1", "dec_3"]
        store.close()


def test_an_error_says_nothing_of_the_values(store: Store) -> None:
    store.check()

    def work(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO legs (leg_id) VALUES (:x)", {"x": "a secret value"})

    with pytest.raises(StoreUnavailable) as raised:
        store._database.write(work)
    assert "secret" not in f"{raised.value} {raised.value.__cause__}"


def test_an_operation_that_fails_leaves_no_transaction_open(store: Store) -> None:
    store.perform(refused("dec_1"), NOW)

    def work(connection: Connection) -> None:
        connection.exec_driver_sql("DELETE FROM events")
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        store._database.write(work)
    store.perform(refused("dec_2"), NOW)
    assert len(store.events()) == 2


def test_a_rollback_answers_and_undoes(store: Store) -> None:
    store.perform(refused("dec_1"), NOW)

    def work(connection: Connection) -> str:
        connection.exec_driver_sql("DELETE FROM events")
        raise Rollback("no")

    assert store._database.write(work) == "no"
    assert len(store.events()) == 1


def test_a_closed_store_opens_again(store: Store) -> None:
    store.perform(refused("dec_1"), NOW)
    store.close()
    store.close()
    assert len(store.events()) == 1


def test_a_forked_process_opens_its_own_connections(store: Store) -> None:
    store.perform(refused("parent"), NOW)
    child = os.fork()
    if child == 0:
        try:
            store.perform(refused("child"), NOW)
            os._exit(0 if len(store.events()) == 2 else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    store.perform(refused("parent again"), NOW)
    assert [s.event.decision_id for s in store.events()] == ["parent", "child", "parent again"]


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o277])
def test_a_new_database_is_its_owners_alone_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    path = tmp_path / "record.sqlite3"
    before = os.umask(umask)
    try:
        store = open_at(path)
        store.events(limit=1)
    finally:
        os.umask(before)
    modes = {each.name: each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    store.close()
    assert modes == dict.fromkeys(("record.sqlite3", "record.sqlite3-wal", "record.sqlite3-shm"), 0o600)


def test_a_database_that_a_group_shares_stays_so(tmp_path: Path) -> None:
    path = tmp_path / "record.sqlite3"
    path.touch()
    path.chmod(0o660)
    store = open_at(path)
    store.events(limit=1)
    modes = {each.stat().st_mode & 0o777 for each in tmp_path.iterdir()}
    store.close()
    assert modes == {0o660}

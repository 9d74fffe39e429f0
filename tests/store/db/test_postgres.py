from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from databases import Server, connect
from patience import HANGS_S
from sqlalchemy import Connection
from store.books import NOW, VAULT, balance, open_at, refused, reserve

from policyguard.errors import ConfigError, StoreUnavailable
from policyguard.flow.steps import Reserved
from policyguard.store import Store, key_path, open_store
from policyguard.store.db import postgres


@pytest.fixture
def url(postgres: Server) -> Iterator[str]:
    with postgres.database(fresh=True) as address:
        yield address


def unavailable(store: Store, name: str = "refused") -> str:
    with pytest.raises(StoreUnavailable) as raised:
        store.perform(refused(name), NOW)
    return str(raised.value)


def works(store: Store) -> bool:
    before = len(store.events())
    store.perform(refused("works"), NOW)
    return len(store.events()) == before + 1


def name(url: str) -> str:
    return url.partition("?")[0].rpartition("/")[2]


def cut_sessions(server: Server, url: str) -> None:
    server.run(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name(url)}'")


# ---- addresses and keys -----------------------------------------------------------------------------------


def test_a_shared_database_needs_a_key_file(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "postgresql+psycopg://u:hunter2@db/x"
    with pytest.raises(ConfigError, match="POLICYGUARD_KEY_FILE") as raised:
        key_path(address)
    assert "hunter2" not in str(raised.value)
    monkeypatch.setenv("POLICYGUARD_KEY_FILE", "/etc/policyguard.key")
    assert str(key_path(address)) == "/etc/policyguard.key"


def test_without_the_extra_it_is_said_what_to_install() -> None:
    code = """
import sys
sys.modules["psycopg"] = None
from policyguard.store.address import backend
try:
    backend("postgresql+psycopg://u@db/x")
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "ConfigError PostgreSQL needs psycopg: `pip install 'policyguard[postgres]'`\n"


def test_sqlite_needs_no_psycopg() -> None:
    code = """
import sys
from policyguard.store import open_store
from policyguard.audit.private import Vault
open_store("x.sqlite3", vault=Vault(bytes(32)))
sys.exit("psycopg" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# ---- when it breaks ---------------------------------------------------------------------------------------


def test_a_server_that_is_not_there_is_said_without_its_password() -> None:
    store = open_store("postgresql+psycopg://u:hunter2@127.0.0.1:1/x", vault=VAULT)
    said = unavailable(store)
    store.close()
    assert "the store cannot answer: connection" in said
    assert "hunter2" not in said


def test_a_server_that_goes_refuses_and_one_that_comes_back_works(store: Store, url: str, postgres: Server) -> None:
    assert works(store)
    postgres.run(f"ALTER DATABASE {name(url)} ALLOW_CONNECTIONS false")
    cut_sessions(postgres, url)
    for _ in range(2):
        assert "not currently accepting connections" in unavailable(store)
        with pytest.raises(StoreUnavailable):
            store.events()
    postgres.run(f"ALTER DATABASE {name(url)} ALLOW_CONNECTIONS true")
    store.perform(refused("after"), NOW)
    assert len(store.events()) == 2


def test_a_restart_between_calls_is_not_noticed(store: Store, url: str, postgres: Server) -> None:
    for i in range(3):
        store.perform(refused(f"dec_{i}"), NOW)
        assert len(store.events()) == i + 1
        cut_sessions(postgres, url)


def test_a_session_that_is_cut_in_a_group_is_done_again_on_a_new_one(store: Store, url: str, postgres: Server) -> None:
    seen = []

    def work(connection: Connection) -> str:
        seen.append(connection)
        if len(seen) == 1:
            cut_sessions(postgres, url)
        connection.exec_driver_sql("SELECT 1")
        return "done"

    assert store._database.write(work) == "done"
    assert len(seen) == 2


def test_all_readers_in_use_refuses_and_recovers(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "READERS", 1)
    monkeypatch.setattr(postgres, "WAIT_FOR_READER_S", 0.05)
    store = open_at(url)
    store.check()
    inside, leave = threading.Event(), threading.Event()

    def stay(_: Connection) -> None:
        inside.set()
        assert leave.wait(HANGS_S)

    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(store._database.read, stay)
        assert inside.wait(HANGS_S)
        with pytest.raises(StoreUnavailable, match="every connection is in use"):
            store.events()
        leave.set()
        reading.result(HANGS_S)
    assert store.events() == []
    store.close()


def test_a_writer_elsewhere_that_does_not_end_is_waited_for_and_then_refused(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_at(url)
    store.check()
    store.close()
    monkeypatch.setitem(postgres.LIMITS_S, "lock_timeout", 0.1)
    with connect(url) as other, other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(%s)", [postgres.TURN])
        assert "lock timeout" in unavailable(store)
        assert store.events() == []
    assert works(store)
    store.close()


def test_a_client_that_stops_in_its_turn_loses_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as hasty:
        hasty.setitem(postgres.LIMITS_S, "transaction_timeout", 1.0)
        stopped = open_at(url)
        stopped.check()
    other = open_at(url)
    entered, leave = threading.Event(), threading.Event()

    def stay(connection: Connection) -> str:
        if not entered.is_set():
            entered.set()
            assert leave.wait(HANGS_S)
        connection.exec_driver_sql("SELECT 1")
        return "again"

    with ThreadPoolExecutor(1) as pool:
        stuck = pool.submit(stopped._database.write, stay)
        assert entered.wait(HANGS_S)
        assert works(other)
        leave.set()
        assert stuck.result(HANGS_S) == "again"
    stopped.close()
    other.close()


@contextmanager
def raising(url: str, code: str, first: int) -> Iterator[None]:
    """The database raises an error at the first events that are written."""
    with connect(url) as server:
        server.execute("CREATE SEQUENCE attempts")
        server.execute(
            "CREATE FUNCTION raising() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
            f" IF nextval('attempts') <= {first} THEN RAISE EXCEPTION 'as if' USING ERRCODE = '{code}'; END IF;"
            " RETURN NEW; END $$"
        )
        server.execute("CREATE TRIGGER raising BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION raising()")
        yield


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_who_was_in_the_way_of_another_tries_again(store: Store, url: str, code: str) -> None:
    with raising(url, code, first=3):
        assert store.perform(reserve("leg_1"), NOW) == Reserved()
    assert balance(store) == (100_000, 0)


def test_a_full_disk_refuses_and_recovers(store: Store, url: str) -> None:
    with raising(url, "53100", first=1):
        assert unavailable(store) == "the store cannot answer: as if"
        assert works(store)


def test_a_database_that_may_only_be_read_refuses_and_recovers(store: Store, url: str, postgres: Server) -> None:
    store.check()
    postgres.run(f"ALTER DATABASE {name(url)} SET default_transaction_read_only = on")
    cut_sessions(postgres, url)
    assert "session is read-only" in unavailable(store)
    assert store.events() == []
    postgres.run(f"ALTER DATABASE {name(url)} RESET default_transaction_read_only")
    cut_sessions(postgres, url)
    assert works(store)


def test_an_error_says_nothing_of_the_values(store: Store) -> None:
    def work(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO keys (key_id) VALUES ('a secret value'), ('a secret value')")

    with pytest.raises(StoreUnavailable, match="UniqueViolation pk_keys") as raised:
        store._database.write(work)
    assert "secret" not in str(raised.value)


def test_numbers_of_the_record_grow_in_the_order_of_commits(url: str) -> None:
    """A reader that goes on from the last number it saw misses no row, whoever writes."""
    stores = [open_at(url) for _ in range(3)]
    seen: list[int] = []
    done = threading.Event()

    def follow() -> None:
        with_all = False
        while not with_all:
            with_all = done.is_set()
            seen.extend(s.seq for s in stores[0].events(after=seen[-1] if seen else 0, limit=1_000))

    def write(i: int) -> None:
        stores[i % 3].perform(refused(f"dec_{i}"), NOW)

    with ThreadPoolExecutor(9) as pool:
        following = pool.submit(follow)
        list(pool.map(write, range(300)))
        done.set()
        following.result(HANGS_S)
    assert len(seen) == len(set(seen)) == 300
    for store in stores:
        store.close()

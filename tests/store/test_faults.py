"""A database that goes mute, is cut, read-only, replaced or locked: nobody hangs, nothing is lost, it recovers."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import anyio
import pytest
from databases import Server, connect
from forwarder import Forwarder
from sqlalchemy import Connection
from store.books import HOUR, NOW, assert_books_balance, balance, hold, open_at, refused, reserve, rows, settle
from store.db.test_sqlite import other_writer

from policyguard.errors import ConfigError, StoreUnavailable
from policyguard.flow.steps import Reserved
from policyguard.store import Store, open_store
from policyguard.store.db import postgres, sqlite
from policyguard.store.db.group import Unanswered
from policyguard.store.db.patience import Patience, current, patience, request_s
from policyguard.store.db.watchdog import MARGIN_S

SHORT_S = 0.3
_numbers = count()
pytestmark = pytest.mark.anyio


def works(store: Store) -> bool:
    before = len(store.events(limit=1_000))
    store.perform(refused(f"works_{next(_numbers)}"), NOW)
    return len(store.events(limit=1_000)) == before + 1


# ---- a server behind a network ------------------------------------------------------------------------------------


@pytest.fixture
def own(postgres: Server) -> Iterator[str]:
    with postgres.database() as url:
        yield url


@pytest.fixture
def network(own: str) -> Iterator[Forwarder]:
    forwarder, through = Forwarder.before(own)
    forwarder.url = through  # type: ignore[attr-defined]
    with forwarder:
        yield forwarder


@pytest.fixture
def was_cut() -> threading.Event:
    """Whether a connection was cut."""
    return threading.Event()


@pytest.fixture
def far(network: Forwarder, was_cut: threading.Event) -> Iterator[Store]:
    """A store whose server is behind a network."""
    opened = open_at(network.url)  # type: ignore[attr-defined]
    opened.on_cut.append(was_cut.set)
    opened.check()
    yield opened
    network.heal()
    opened.close()


ASKING: dict[str, Callable[[Store], object]] = {
    "write": lambda store: store.perform(refused("dec_1"), NOW),
    "read": lambda store: store.events(),
    "reserve": lambda store: store.perform(reserve("leg_1"), NOW),
}


@pytest.mark.parametrize("ask", ASKING.values(), ids=ASKING)
def test_a_mute_server_holds_nobody_and_its_connection_is_replaced(
    far: Store, network: Forwarder, was_cut: threading.Event, ask: Callable[[Store], object]
) -> None:
    assert works(far)
    network.mute()
    with patience(SHORT_S), pytest.raises(StoreUnavailable):
        ask(far)
    wait_until(was_cut.is_set)
    network.heal()
    assert works(far)


async def test_tasks_are_released_from_a_mute_server_together(
    far: Store, network: Forwarder, was_cut: threading.Event
) -> None:
    await far.aperform(refused("dec_0"), NOW)
    network.mute()
    refusals = []

    async def ask(i: int) -> None:
        with patience(SHORT_S):
            try:
                await far.aperform(reserve(f"leg_{i}"), NOW)
            except StoreUnavailable as error:
                refusals.append(error)

    began = time.monotonic()
    async with anyio.create_task_group() as tasks:
        for i in range(50):
            tasks.start_soon(ask, i)
    assert len(refusals) == 50
    assert time.monotonic() - began < 50 * SHORT_S / 2  # not one after the other
    await anyio.to_thread.run_sync(wait_until, was_cut.is_set)
    network.heal()
    await far.aperform(refused("dec_1"), NOW)


def test_a_store_whose_server_is_mute_closes(far: Store, network: Forwarder) -> None:
    works(far)
    network.mute()

    def ask() -> None:
        with pytest.raises(StoreUnavailable):
            far.perform(refused("dec_1"), NOW)

    asking = threading.Thread(target=ask)
    asking.start()
    wait_until(lambda: bool(far._database._process().watchdog._running))
    far.close()
    asking.join(30)
    assert not asking.is_alive()


@pytest.mark.parametrize("cut", ["reset", "refuse"])
def test_a_network_that_cuts_is_recovered_from(far: Store, network: Forwarder, cut: str) -> None:
    assert works(far)
    getattr(network, cut)()
    if cut == "refuse":
        with pytest.raises(StoreUnavailable):
            far.perform(refused("dec_1"), NOW)
        network.heal()
    assert works(far)


def test_whether_a_commit_passed_that_had_no_answer_is_said_to_be_unknown(
    far: Store, network: Forwarder, was_cut: threading.Event, own: str
) -> None:
    far.perform(reserve("leg_0"), NOW)

    def work(connection: Connection) -> None:
        connection.exec_driver_sql("INSERT INTO leases (name, holder, until_us) VALUES ('x', '', 0)")
        network.mute()

    with patience(SHORT_S), pytest.raises(Unanswered):
        far._database.write(work)
    wait_until(was_cut.is_set)
    network.heal()
    assert far.perform(reserve("leg_0"), NOW) == Reserved()  # once
    assert balance(far) == (100_000, 0)
    assert_books_balance(own)


def test_a_reservation_of_which_nobody_was_told_is_given_back(store: Store, url: str) -> None:
    store.perform(reserve("leg_1"), NOW)
    assert store.give_back("leg_1", NOW)
    assert not store.give_back("leg_1", NOW)
    assert not store.give_back("leg_never", NOW)
    assert balance(store) == (0, 0)
    assert rows(url, "SELECT state FROM legs") == [("released",)]
    assert_books_balance(url)


def test_what_nobody_waits_for_any_more_is_not_done(store: Store) -> None:
    store.check()
    began, go_on = threading.Event(), threading.Event()

    def stay(_: Connection) -> None:
        began.set()
        assert go_on.wait(30)

    staying = threading.Thread(target=store._database.write, args=(stay,))
    staying.start()
    assert began.wait(30)
    with patience(SHORT_S), pytest.raises(StoreUnavailable) as raised:
        store.perform(reserve("leg_1"), NOW)
    go_on.set()
    staying.join(30)
    assert not isinstance(raised.value, Unanswered)
    store.perform(refused("dec_1"), NOW)
    assert balance(store) == (0, 0)


def test_a_queue_that_nobody_empties_has_an_end(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.check()
    monkeypatch.setattr("policyguard.store.db.group.WAITING", 0)
    with pytest.raises(StoreUnavailable, match="calls wait for it"):
        store.perform(refused("dec_1"), NOW)


# ---- one patience -------------------------------------------------------------------------------------------------


@contextmanager
def postgres_turn(url: str) -> Iterator[None]:
    with connect(url) as other, other.transaction():
        other.execute("SELECT pg_advisory_xact_lock(%s)", [postgres.TURN])
        yield


def turn(url: str) -> AbstractContextManager[None]:
    """Somebody else writes, and does not end."""
    return postgres_turn(url) if url.startswith("postgresql") else other_writer(Path(url.removeprefix("sqlite:///")))


def test_the_steps_of_a_request_share_one_patience(store: Store, url: str) -> None:
    store.check()
    with turn(url), patience(SHORT_S):
        for i in range(3):
            with pytest.raises(StoreUnavailable):
                store.perform(reserve(f"leg_{i}"), NOW)
            assert current().left_s <= MARGIN_S
    assert works(store)
    assert balance(store) == (0, 0)


def test_who_waits_for_a_turn_gives_up_with_those_who_wait(store: Store, url: str) -> None:
    """The transaction itself: it is not begun later, for nobody."""
    store.check()
    with turn(url), patience(SHORT_S), pytest.raises(StoreUnavailable):
        store.perform(reserve("leg_1"), NOW)
    assert works(store)
    assert rows(url, "SELECT count(*) FROM legs") == [(0,)]


def test_a_patience_inside_another_is_its_own_or_that_one() -> None:
    with patience(2), patience(1, within=True):
        assert current().left_s == 2
    with patience(2), patience(1):
        assert current().left_s == 1
    assert current().left_s > 2


def test_only_waiting_uses_patience_up() -> None:
    mine = Patience(10)
    mine.waited(mine.deadline())
    assert 9 < mine.left_s <= 10


@pytest.mark.parametrize("given", ["0", "-1", "soon", "inf", "nan"])
def test_a_timeout_is_a_number_of_seconds(given: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYGUARD_STORE_TIMEOUT", given)
    with pytest.raises(ConfigError, match="POLICYGUARD_STORE_TIMEOUT"):
        request_s()


# ---- servers that may only be read, poolers, addresses -----------------------------------------------------------


def test_a_connection_that_may_only_read_is_not_kept(far: Store) -> None:
    far._database.write(lambda c: c.exec_driver_sql("SET default_transaction_read_only = on"))
    with pytest.raises(StoreUnavailable, match="read-only"):
        far.perform(refused("dec_1"), NOW)
    assert works(far)


def test_readers_leave_a_server_with_the_writer(far: Store) -> None:
    def me(connection: Connection) -> int:
        return int(connection.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())

    before = far._read(me)
    assert far._read(me) == before
    far._database.write(lambda c: c.exec_driver_sql("SET default_transaction_read_only = on"))
    with pytest.raises(StoreUnavailable):
        far.perform(refused("dec_1"), NOW)
    assert far._read(me) != before


def test_behind_a_pooler_a_session_keeps_nothing(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYGUARD_POSTGRES_POOLER", "transaction")
    store = open_at(own)
    for i in range(10):
        store.perform(reserve(f"leg_{i}"), NOW)
        store.perform(settle(f"leg_{i}"), NOW)
        store.events()

    def look(connection: Connection) -> tuple[object, ...]:
        prepared = connection.exec_driver_sql("SELECT count(*) FROM pg_prepared_statements").scalar_one()
        limit = connection.exec_driver_sql("SHOW statement_timeout").scalar_one()
        connection.exec_driver_sql("COMMIT")
        return prepared, limit, connection.exec_driver_sql("SHOW statement_timeout").scalar_one()

    assert store._read(look) == (0, "15s", "0")
    assert store._database.write(look) == (0, "15s", "0")
    assert not store.erase("u1", why="asked", by="dpo", now=NOW).scrubbed  # a lock could be waited for without end
    store.close()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sslmod=require", "`sslmod` is no parameter of a PostgreSQL address; did you mean `sslmode`"),
        ("sslmode=yes", "`sslmode` in the store's address is one of disable"),
        ("connect_timeout=soon", "`connect_timeout` in the store's address is a whole number"),
        ("target_session_attrs=master", "is one of any, read-write"),
    ],
)
def test_a_wrong_parameter_of_an_address_is_said_at_once(query: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        open_store(f"postgresql+psycopg://u:hunter2@db/x?{query}", vault=open_at("x.sqlite3")._cipher)  # type: ignore[arg-type]


def test_a_pooler_is_one_that_we_know(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("POLICYGUARD_POSTGRES_POOLER", "session")
    with pytest.raises(ConfigError, match="`transaction` or not set"):
        open_at("postgresql+psycopg://u@db/x")


def test_what_the_server_may_take_back_is_told(own: str, store: Store) -> None:
    assert store.durability() is None
    with connect(own) as beside:
        beside.execute(
            "ALTER DATABASE {} SET synchronous_commit = off".format(own.partition("?")[0].rpartition("/")[2])
        )
    other = open_at(own)
    assert "synchronous_commit is off" in (other.durability() or "")
    other.close()
    with connect(own) as beside:
        beside.execute("ALTER DATABASE {} RESET synchronous_commit".format(own.partition("?")[0].rpartition("/")[2]))


# ---- files of SQLite ----------------------------------------------------------------------------------------------


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """By a copy, as a restored backup is."""
    shutil.copy(path, path.with_name("copy"))
    path.with_name("copy").rename(path)


def lose(part: str) -> Callable[[Path], None]:
    return lambda path: path.with_name(path.name + part).unlink()


def move_away(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


@pytest.mark.parametrize("fault", [delete, replace, move_away, lose("-wal"), lose("-shm")])
def test_a_file_that_is_not_the_one_that_was_opened_is_used_no_more(path: Path, fault: Callable[[Path], None]) -> None:
    stores = [open_at(path), open_at(path)]
    for store in stores:
        assert works(store)
    fault(path)
    for store in stores:
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match="deleted or replaced while it was in use"):
                store.perform(reserve("leg_1"), NOW)
            with pytest.raises(StoreUnavailable, match="deleted or replaced"):
                store.events()
            with pytest.raises(StoreUnavailable, match="deleted or replaced"):
                store.probe(NOW)
    for store in stores:
        store.close()


def test_after_the_right_file_is_back_a_new_start_goes_on_with_it(path: Path) -> None:
    store = open_at(path)
    store.perform(reserve("leg_1"), NOW)
    away = path.with_name("elsewhere")
    path.rename(away)
    with pytest.raises(StoreUnavailable):
        store.perform(reserve("leg_2"), NOW)
    store.close()
    away.rename(path)
    store = open_at(path)
    assert balance(store) == (100_000, 0)
    assert works(store)
    store.close()


def test_a_connection_that_is_opened_anew_is_on_the_same_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an error there may be no connection at all for a while."""
    store = open_at(path)
    assert works(store)
    process = store._database._process()
    process._leave()
    process.readers.dispose()
    replace(path)
    with pytest.raises(StoreUnavailable, match="deleted or replaced"):
        store.perform(refused("dec_1"), NOW)
    store.close()


def test_a_log_that_a_long_reader_made_grow_is_cut_when_it_has_gone(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite, "LOG_BYTES", 100_000)
    store = open_at(path)
    store.check()
    log = path.with_name(path.name + "-wal")
    inside, leave = threading.Event(), threading.Event()

    def stay(connection: Connection) -> None:
        connection.exec_driver_sql("SELECT count(*) FROM events").scalar_one()
        inside.set()
        assert leave.wait(60)

    reading = threading.Thread(target=store._read, args=(stay,))
    reading.start()
    assert inside.wait(30)
    store._database.write(fill)
    grown = log.stat().st_size
    leave.set()
    reading.join(30)
    for i in range(3):
        store.perform(refused(f"dec_{i}"), NOW)
    assert grown > 4_000_000
    assert log.stat().st_size <= 100_000
    store.close()


def fill(connection: Connection) -> None:
    for i in range(500):
        values = {"name": f"x{i}", "holder": "x" * 10_000}
        connection.exec_driver_sql("INSERT INTO leases (name, holder, until_us) VALUES (:name, :holder, 0)", values)


def test_what_has_run_out_is_not_offered_for_review(store: Store) -> None:
    store.perform(hold("rev_1"), NOW)
    assert len(store.reviews(now=NOW + HOUR)) == 1
    assert store.reviews(now=NOW + 5 * HOUR) == []
    assert len(store.reviews()) == 1


def wait_until(true: Callable[[], bool]) -> None:
    while not true():
        threading.Event().wait(0.01)

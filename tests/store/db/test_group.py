from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import anyio
import pytest
from patience import HANGS_S
from sqlalchemy import Connection
from store.books import HOUR, NOW, assert_books_balance, balance, charge, refused, reserve, settle

from policyguard.errors import StoreUnavailable
from policyguard.flow.steps import OverBudget, Reserved
from policyguard.store import Store
from policyguard.store.db import database
from policyguard.store.db.group import MOST
from policyguard.store.db.sql import Rollback

pytestmark = pytest.mark.anyio


@pytest.fixture
def groups(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many calls each transaction from now on does."""
    store.check()
    sizes: list[int] = []
    perform = database.perform

    def counted(connection: Connection, works: Any) -> list[Any]:
        sizes.append(len(works))
        return perform(connection, works)

    monkeypatch.setattr(database, "perform", counted)
    return sizes


@contextmanager
def busy(store: Store) -> Iterator[Callable[[], None]]:
    """The writer is in a transaction until it is told to go on."""
    began, go_on = threading.Event(), threading.Event()

    def work(_: Connection) -> None:
        began.set()
        assert go_on.wait(HANGS_S)

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(store._database.write, work)
        assert began.wait(HANGS_S)
        yield go_on.set
        go_on.set()
        running.result()


def together(store: Store, calls: list[Callable[[], Any]]) -> list[Future[Any]]:
    """Calls of as many threads that wait for the same transaction, in this order."""
    queue = store._database._process().writer._queue
    with ThreadPoolExecutor(len(calls)) as pool, busy(store) as go_on:
        futures = []
        for i, call in enumerate(calls):
            futures.append(pool.submit(call))
            while queue.qsize() <= i:
                threading.Event().wait(0.001)
        go_on()
    return futures


def test_calls_that_wait_together_are_one_transaction(store: Store, groups: list[int]) -> None:
    calls = [lambda i=i: store.perform(reserve(f"leg_{i}"), NOW) for i in range(10)]
    assert [future.result() for future in together(store, calls)] == [Reserved()] * 10
    assert groups == [1, 10]


def test_a_lone_call_waits_for_nobody(store: Store, groups: list[int]) -> None:
    for i in range(3):
        store.perform(refused(f"dec_{i}"), NOW)
    assert groups == [1, 1, 1]


def test_a_group_has_an_end(store: Store, groups: list[int]) -> None:
    calls = [lambda i=i: store.perform(refused(f"dec_{i}"), NOW) for i in range(MOST + 1)]
    assert len(together(store, calls)) == MOST + 1
    assert groups == [1, MOST, 1]
    assert len(store.events(limit=1_000)) == MOST + 1


def test_each_call_of_a_group_succeeds_or_is_refused_on_its_own(store: Store, url: str, groups: list[int]) -> None:
    calls = [lambda i=i: store.perform(reserve(f"leg_{i}", charge(30, 100)), NOW) for i in range(5)]
    answers = [future.result() for future in together(store, calls)]
    over = OverBudget(charge(30, 100), spent=0, reserved=90)
    assert answers == [Reserved()] * 3 + [over] * 2
    assert groups == [1, 5]
    assert_books_balance(url)


def test_calls_about_one_leg_in_one_group_are_done_once(store: Store, url: str) -> None:
    store.perform(reserve("leg_1"), NOW)
    sent = together(store, [lambda: store.mark_sent("leg_1", NOW + HOUR, NOW)] * 3)
    assert [future.result() for future in sent] == [True, False, False]
    ends = [lambda cost=cost: store.perform(settle("leg_1", cost=cost), NOW) for cost in (1, 2, 3)]
    answers = [future.result() for future in together(store, ends)]
    assert [(a.changed, a.charged_micros) for a in answers] == [(True, 1), (False, 1), (False, 1)]
    again = [lambda: store.perform(reserve("leg_2", charge(5, 10, key="x")), NOW)] * 3
    assert [future.result() for future in together(store, again)] == [Reserved()] * 3
    assert balance(store, "x") == (5, 0)
    assert_books_balance(url)


def broken(_: Connection) -> None:
    raise ZeroDivisionError


def undone(connection: Connection) -> None:
    connection.exec_driver_sql("DELETE FROM events")
    raise Rollback("no")


def impossible(connection: Connection) -> None:
    connection.exec_driver_sql("UPDATE budget_windows SET reserved = -1")


def test_one_that_fails_takes_nobody_with_it(store: Store, url: str) -> None:
    store.perform(reserve("leg_0"), NOW)
    write = store._database.write
    works = [lambda work=work: write(work) for work in (broken, undone, impossible)]
    good = [lambda i=i: store.perform(reserve(f"leg_{i}"), NOW) for i in (1, 2)]
    first, zero, rolled_back, rejected, last = together(store, [good[0], *works, good[1]])
    assert (first.result(), last.result(), rolled_back.result()) == (Reserved(), Reserved(), "no")
    assert isinstance(zero.exception(), ZeroDivisionError)
    assert isinstance(rejected.exception(), StoreUnavailable)
    assert balance(store) == (300_000, 0)
    assert len(store.events()) == 3
    assert_books_balance(url)


def test_what_waits_when_the_store_closes_is_done(store: Store) -> None:
    with ThreadPoolExecutor(2) as pool, busy(store) as go_on:
        waiting = pool.submit(store.perform, refused("dec_1"), NOW)
        while store._database._process().writer._queue.qsize() < 1:
            threading.Event().wait(0.001)
        closing = pool.submit(store.close)
        go_on()
        assert (waiting.result(HANGS_S), closing.result(HANGS_S)) == ((), None)
    assert len(store.events()) == 1


def test_a_store_that_nobody_closed_leaves_no_thread(url: str) -> None:
    from store.books import open_at

    def writers() -> set[threading.Thread]:
        return {thread for thread in threading.enumerate() if thread.name == "policyguard-store"}

    before = writers()
    store = open_at(url)
    store.check()
    (thread,) = writers() - before
    del store
    gc.collect()
    thread.join(HANGS_S)
    assert not thread.is_alive()


# ---- async ------------------------------------------------------------------------------------------------


async def waiting(store: Store, calls: int) -> None:
    """Until so many calls wait for the writer."""
    while store._database._process().writer._queue.qsize() < calls:
        await anyio.lowlevel.checkpoint()


async def test_tasks_that_wait_together_are_one_transaction_without_threads(store: Store, groups: list[int]) -> None:
    answers: list[Any] = []

    async def call(i: int) -> None:
        answers.append(await store.aperform(reserve(f"leg_{i}", charge(30, 100)), NOW))

    store.check()
    with busy(store) as go_on:
        threads = threading.active_count()
        async with anyio.create_task_group() as tasks:
            for i in range(5):
                tasks.start_soon(call, i)
            await waiting(store, 5)
            assert threading.active_count() == threads
            go_on()
    assert sorted(type(answer).__name__ for answer in answers) == ["OverBudget"] * 2 + ["Reserved"] * 3
    assert groups == [1, 5]
    assert await store.amark_sent("leg_0", NOW + HOUR, NOW)


async def test_a_task_first_frees_what_ran_out_too(store: Store) -> None:
    store.perform(reserve("leg_1", charge(100, 100)), NOW)
    assert isinstance(await store.aperform(reserve("leg_2", charge(100, 100)), NOW), OverBudget)
    later = NOW + HOUR
    step = reserve("leg_3", charge(100, 100), expires_at=later + HOUR)
    assert await store.aperform(step, later) == Reserved()


async def test_a_store_that_is_not_open_yet_is_opened_off_the_loop(store: Store) -> None:
    assert await store.aperform(reserve("leg_1"), NOW) == Reserved()
    assert await store.amark_sent("leg_1", NOW + HOUR, NOW)


async def test_an_error_reaches_the_task(store: Store) -> None:
    store.check()
    with pytest.raises(Exception, match="no leg `leg_9`"):
        await store.aperform(settle("leg_9"), NOW)


async def test_a_cancelled_task_leaves_its_call_to_be_done(store: Store) -> None:
    store.check()
    with busy(store) as go_on:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.aperform, reserve("leg_1"), NOW)
            await waiting(store, 1)
            tasks.cancel_scope.cancel()
        go_on()
    assert await store.amark_sent("leg_1", NOW + HOUR, NOW)


def test_a_loop_that_was_closed_keeps_nobody_from_being_answered(store: Store) -> None:
    store.check()
    with busy(store) as go_on:
        loop = asyncio.new_event_loop()
        task = loop.create_task(store.aperform(reserve("leg_1"), NOW))
        loop.call_later(0.05, task.cancel)
        with pytest.raises(asyncio.CancelledError):
            loop.run_until_complete(task)
        loop.close()
        go_on()
    assert store.mark_sent("leg_1", NOW + HOUR, NOW)

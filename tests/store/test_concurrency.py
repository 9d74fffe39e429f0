from __future__ import annotations

import multiprocessing
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from patience import HANGS_S
from store.books import CENTS, HOUR, MINUTE, NOW, assert_books_balance, balance, charge, reserve, settle
from store.workers import die_between, reserve_many

from policyguard.errors import PolicyguardError
from policyguard.flow.steps import OverBudget, Reserved
from policyguard.store import Store, Swept

spawn = multiprocessing.get_context("spawn")


def test_fifty_threads_get_exactly_what_there_is_room_for(store: Store, url: str) -> None:
    start = threading.Barrier(50)

    def attempt(i: int) -> object:
        start.wait(HANGS_S)
        return store.perform(reserve(f"leg_{i}", charge(3, 40), charge(1, 1_000, key="wide")), NOW)

    with ThreadPoolExecutor(50) as pool:
        answers = [type(answer) for answer in pool.map(attempt, range(50))]
    assert (answers.count(Reserved), answers.count(OverBudget)) == (13, 37)
    assert (balance(store), balance(store, "wide")) == ((39, 0), (13, 0))
    assert_books_balance(url)


def test_a_leg_settled_by_many_threads_is_settled_once(store: Store, url: str) -> None:
    store.perform(reserve("leg_1"), NOW)
    store.mark_sent("leg_1", NOW + HOUR, NOW)
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda i: store.perform(settle("leg_1", cost=i), NOW), range(1, 17)))
    assert sum(answer.changed for answer in answers) == 1
    assert {answer.charged_micros for answer in answers} == {balance(store)[1]}
    assert_books_balance(url)


def test_six_hundred_attempts_of_four_processes_get_exactly_what_there_is_room_for(url: str) -> None:
    """And no error of any kind reaches a caller, a deadlock least of all."""
    pipes, processes = [], []
    for i in range(4):
        ours, theirs = spawn.Pipe()
        process = spawn.Process(target=reserve_many, args=(url, f"p{i}", 150, 8, 50, theirs))
        process.start()
        pipes.append(ours)
        processes.append(process)
    answers = [pipe.recv() if pipe.poll(HANGS_S) else None for pipe in pipes]
    for process in processes:
        process.join(HANGS_S)
    assert [process.exitcode for process in processes] == [0, 0, 0, 0]
    assert sum(answers) == 50
    assert_books_balance(url)


def test_a_killed_process_leaves_money_that_time_accounts_for(store: Store, url: str) -> None:
    store.perform(reserve("live", expires_at=NOW + 2 * HOUR), NOW)
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=die_between, args=(url, "dead", theirs))
    process.start()
    assert ours.poll(HANGS_S)
    process.kill()
    process.join(HANGS_S)
    assert balance(store) == (30 * CENTS, 0)
    assert store.sweep(NOW + MINUTE - MINUTE / 60) == Swept()
    assert store.sweep(NOW + MINUTE) == Swept(released=1)
    assert store.sweep(NOW + HOUR) == Swept(presumed=1)
    assert balance(store) == (10 * CENTS, 10 * CENTS)
    assert store.mark_sent("live", NOW + 3 * HOUR, NOW + HOUR)
    assert_books_balance(url)


def test_the_books_are_checked_by_the_database_as_well(store: Store) -> None:
    """A bug that would make a balance negative is refused, whatever the code above it does."""
    store.perform(reserve("leg_1"), NOW)
    with pytest.raises(PolicyguardError, match=r"ck_budget_windows_reserved|CHECK constraint failed: reserved"):
        store._database.write(lambda c: c.exec_driver_sql("UPDATE budget_windows SET reserved = -1"))
    assert balance(store) == (10 * CENTS, 0)

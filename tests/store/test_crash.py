"""Killed at random points under load: nothing that the store acknowledged is lost, and time accounts for the rest.

`make crash` runs a hundred rounds of each; the suite some. A failure names its seed.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from databases import Server, start
from patience import HANGS_S, until
from sqlalchemy.engine import make_url
from store.books import HOUR, MINUTE, NOW, VAULT, assert_books_balance, charge, open_at, reserve, rows, settle
from store.workers import work_until_killed

from policyguard.audit.seal import seal
from policyguard.audit.verify import verify
from policyguard.errors import StoreUnavailable
from policyguard.flow.steps import Reserved
from policyguard.store import Swept

ROUNDS = int(os.environ.get("POLICYGUARD_CRASH", "5"))
AFTER = {"reserved": {"held", "sent", "settled"}, "sent": {"sent", "settled"}, "settled": {"settled"}}
spawn = multiprocessing.get_context("spawn")


def assert_nothing_is_lost(url: str, acknowledged: list[tuple[str, str]]) -> None:
    states = dict(rows(url, "SELECT leg_id, state FROM legs"))
    assert [(step, leg) for step, leg in acknowledged if states.get(leg) not in AFTER[step]] == []
    assert_books_balance(url)


def assert_the_record_is_whole(url: str) -> None:
    """What was sealed before a kill still stands, and the rest can be sealed on top of it."""
    store = open_at(url)
    assert verify(store, VAULT, NOW).findings == ()
    seal(store, VAULT, NOW + MINUTE)  # whoever sealed when it was killed had the lease
    report = verify(store, VAULT, NOW)
    store.close()
    assert (report.findings, report.unsealed) == ((), 0)
    assert rows(url, "SELECT count(*) FROM events") == [(report.rows,)]


def assert_time_accounts_for_the_rest(url: str) -> None:
    store = open_at(url)
    store.sweep(NOW + 2 * HOUR)
    assert store.sweep(NOW + 2 * HOUR) == Swept()
    store.close()
    assert rows(url, "SELECT leg_id FROM legs WHERE state NOT IN ('settled', 'released', 'presumed')") == []
    sent = "SELECT leg_id FROM legs WHERE sent_us IS NOT NULL AND state NOT IN ('settled', 'presumed')"
    assert rows(url, sent) == []
    assert_books_balance(url)


def test_a_client_that_is_killed_loses_nothing_it_was_told(url: str) -> None:
    open_at(url).close()
    acknowledged: list[tuple[str, str]] = []
    for seed in range(ROUNDS):
        print("seed", seed)  # shown with a failure
        acknowledged += killed(url, f"round{seed}", after=random.Random(seed).randrange(1, 400))
        assert_nothing_is_lost(url, acknowledged)
        assert_the_record_is_whole(url)
    assert_time_accounts_for_the_rest(url)
    assert_the_record_is_whole(url)


def killed(url: str, name: str, after: int) -> list[tuple[str, str]]:
    """What a process was told before it was killed, after so many answers."""
    ours, theirs = spawn.Pipe(duplex=False)
    process = spawn.Process(target=work_until_killed, args=(url, name, theirs))
    process.start()
    theirs.close()
    told = []
    try:
        while True:
            assert ours.poll(HANGS_S)
            told.append(ours.recv())
            if len(told) == after:
                process.kill()
    except EOFError:
        process.join(HANGS_S)
    return told


@pytest.fixture
def own_server(postgres: Server) -> Iterator[Server]:
    """A server that may be killed without taking it from others."""
    del postgres  # started before it, because the folder of the package's lock is chosen once
    folder = Path(tempfile.mkdtemp(prefix="policyguard-crash-"))
    folder.chmod(0o755)
    handle = start(folder / "data")
    yield Server(make_url(handle.get_uri(driver="psycopg")), handle)
    handle.cleanup()
    shutil.rmtree(folder)


def test_a_server_that_is_killed_loses_nothing_it_acknowledged(own_server: Server) -> None:
    acknowledged: list[tuple[str, str]] = []
    with own_server.database() as url:
        for seed in range(ROUNDS):
            print("seed", seed)
            acknowledged += killed_server(own_server, url, f"round{seed}", random.Random(seed).randrange(50, 400))
            assert_nothing_is_lost(url, acknowledged)
            assert_the_record_is_whole(url)
        assert_time_accounts_for_the_rest(url)
        assert_the_record_is_whole(url)


def killed_server(server: Server, url: str, name: str, after: int) -> list[tuple[str, str]]:
    """What clients were told while the server was killed and started anew. They go on by themselves."""
    store = open_at(url)
    told: list[tuple[str, str]] = []
    refused, stop = threading.Event(), threading.Event()

    def client(thread: int) -> None:
        i = 0
        while not stop.is_set():
            i += 1
            try:
                work(f"{name}_{thread}_{i}")
            except StoreUnavailable:
                refused.set()

    def work(leg: str) -> None:
        if store.perform(reserve(leg, charge(2, 10**9), ceiling=2), NOW) == Reserved():
            told.append(("reserved", leg))
        if store.mark_sent(leg, NOW + HOUR, NOW):
            told.append(("sent", leg))
            if store.perform(settle(leg, cost=1), NOW).changed:
                told.append(("settled", leg))

    clients = [threading.Thread(target=client, args=(thread,), daemon=True) for thread in range(6)]
    for thread in clients:
        thread.start()
    until(lambda: len(told) >= after)
    server.kill()
    assert refused.wait(HANGS_S)
    server.restart()
    count = len(told)
    until(lambda: len(told) >= count + 20)
    stop.set()
    for thread in clients:
        thread.join(HANGS_S)
    store.close()
    return told

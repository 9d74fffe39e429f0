"""What tests run in processes of their own. Each opens the store by itself, as a server's workers do."""

from __future__ import annotations

import itertools
import os
import resource
import signal
import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.connection import Connection

from store.books import HOUR, NOW, VAULT, charge, open_at, refused, reserve, settle

from policyguard.audit.seal import seal
from policyguard.errors import StoreUnavailable
from policyguard.flow.steps import Reserved


def fill_the_disk(url: str) -> None:
    """Write until the file may not grow any more; the store must refuse then, and keep refusing without an error."""
    room = 2_000_000
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))
    store = open_at(url)
    refusals = 0
    for i in range(4_000):
        try:
            store.perform(refused(f"dec_{i}", body={"filler": "x" * 2_000}), NOW)
        except StoreUnavailable:
            refusals += 1
            if refusals == 3:
                break
    os._exit(0 if refusals == 3 else 1)


def reserve_many(url: str, name: str, attempts: int, threads: int, limit: int, results: Connection) -> None:
    """Reserve one at a time until told no; answers how often it was told yes."""
    store = open_at(url)

    def attempt(i: int) -> bool:
        budgets = [charge(1, limit, key=key) for key in ("company", "surface", "user")]
        return bool(store.perform(reserve(f"{name}_{i}", *budgets, ceiling=1), NOW) == Reserved())

    with ThreadPoolExecutor(threads) as pool:
        results.send(sum(pool.map(attempt, range(attempts))))
    store.close()


def die_between(url: str, name: str, ready: Connection) -> None:
    """Reserve two legs, send one, and wait to be killed."""
    store = open_at(url)
    for leg in (f"{name}_held", f"{name}_sent"):
        store.perform(reserve(leg), NOW)
    store.mark_sent(f"{name}_sent", NOW + HOUR, NOW)
    ready.send("reserved")
    signal.pause()


def work_until_killed(url: str, name: str, acknowledged: Connection) -> None:
    """Reserve, send, settle and seal without an end, saying after each step what the store has answered."""
    store = open_at(url)
    lock = threading.Lock()

    def say(step: str, leg: str) -> None:
        with lock:
            acknowledged.send((step, leg))

    def client(thread: int) -> None:
        for i in itertools.count():
            leg = f"{name}_{thread}_{i}"
            budgets = [charge(2, 10**9, key=key) for key in ("company", "surface", f"user-{thread}")]
            if store.perform(reserve(leg, *budgets, ceiling=2), NOW) == Reserved():
                say("reserved", leg)
            if i % 3 and store.mark_sent(leg, NOW + HOUR, NOW):
                say("sent", leg)
                if i % 5 and store.perform(settle(leg, cost=1), NOW).changed:
                    say("settled", leg)

    def sealer() -> None:
        while True:
            seal(store, VAULT, NOW, most=20)

    for thread in range(6):
        threading.Thread(target=client, args=(thread,)).start()
    threading.Thread(target=sealer).start()


def refuse_to_write(folder: str, answers: Connection) -> None:
    """A file that this process may only read: what the store says, and whether it reads. Root may write anything."""
    os.chmod(folder, 0o555)
    if os.getuid() == 0:
        os.setuid(65534)
    store = open_at(f"{folder}/store.sqlite3")
    said = ""
    try:
        store.perform(refused("dec_2"), NOW)
    except StoreUnavailable as error:
        said = str(error)
    answers.send(said)

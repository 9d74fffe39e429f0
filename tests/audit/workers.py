"""What tests of the sealed record run in processes of their own."""

from __future__ import annotations

import itertools
import resource
from multiprocessing.connection import Connection
from pathlib import Path

from store.books import NOW, VAULT, event, open_at

from policyguard.audit.export import export
from policyguard.audit.seal import seal
from policyguard.audit.sinks import open_sink
from policyguard.audit.verify import verify
from policyguard.flow.steps import Record
from policyguard.store import Store
from policyguard.store.leases import give_back


def write(store: Store, name: str, count: int) -> None:
    body = {"mode": "enforce", "filler": "x" * 500}
    for start in range(0, count, 500):
        rows = range(start, min(start + 500, count))
        store.perform(Record(tuple(event("request.decided", f"{name}_{i}", body=body) for i in rows)), NOW)


def work_until_killed(url: str, file: Path, name: str, ready: Connection) -> None:
    """Write, seal and export, over and over, and say so. The lease of one that was killed is given back."""
    store = open_at(url)
    store._write(
        lambda c: [give_back(c, row[0], row[1]) for row in c.exec_driver_sql("SELECT name, holder FROM leases").all()]
    )
    for round_ in itertools.count():
        ready.send("write")
        write(store, f"{name}_{round_}", 40)
        ready.send("seal")
        seal(store, VAULT, NOW, most=30)
        ready.send("export")
        cursor = store.exports.begin("archive", str(file), background=True, now=NOW)
        with open_sink(str(file)) as sink:
            export(store, VAULT, cursor, sink, NOW, holder=name)


def most_memory(path: Path, rows: int, results: Connection) -> None:
    """Megabytes that this process ever held, after a few rows and after many."""
    store = open_at(path)
    seen = []
    for name, count in (("few", 4_000), ("many", rows)):
        write(store, name, count)
        seal(store, VAULT, NOW)
        assert verify(store, VAULT, NOW).clean
        seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    store.close()
    results.send(tuple(seen))

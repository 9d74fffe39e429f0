from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from store.books import NOW, USER, VAULT, event, open_at, private, refused

from policyguard.errors import ConfigError
from policyguard.flow.steps import Record
from policyguard.store import Store


def test_an_event_comes_back_as_it_was_written(store: Store) -> None:
    written = event(
        "request.decided", "dec_1", decision_id="dec_1", outcome="deny", body={"b": [1, {"x": None}], "a": "ä"}
    )
    store.perform(Record((written,)), NOW)
    (stored,) = store.events()
    assert stored.event == written


def test_the_same_event_twice_is_one_row(store: Store) -> None:
    for _ in range(2):
        store.perform(refused("dec_1"), NOW)
    assert len(store.events()) == 1


def test_the_tail_is_the_last_rows_in_their_order(store: Store) -> None:
    for i in range(5):
        store.perform(refused(f"dec_{i}"), NOW)
    assert [s.event.decision_id for s in store.events(limit=2)] == ["dec_3", "dec_4"]


def test_a_cursor_reads_on_without_gaps(store: Store) -> None:
    seen: list[str | None] = []
    cursor = 0
    for i in range(7):
        store.perform(refused(f"dec_{i}"), NOW)
        for stored in store.events(after=cursor, limit=1 if i % 2 else 3):
            seen.append(stored.event.decision_id)
            cursor = stored.seq
    seen += [s.event.decision_id for s in store.events(after=cursor)]
    assert seen == [f"dec_{i}" for i in range(7)]


def test_rows_are_found_by_what_they_are_about(store: Store) -> None:
    store.perform(refused("dec_1", at=NOW), NOW)
    store.perform(refused("dec_2", at=NOW + timedelta(hours=1), dimensions={"surface": "marketing"}), NOW)

    def found(**query: object) -> list[str | None]:
        return [s.event.decision_id for s in store.events(**query)]  # type: ignore[arg-type]

    assert found(decision_id="dec_1") == ["dec_1"]
    assert found(id="request.decided:dec_2") == ["dec_2"]
    assert found(surface="marketing", outcome="deny") == ["dec_2"]
    assert found(surface=None) == ["dec_1", "dec_2"]
    assert found(since=NOW + timedelta(minutes=1)) == ["dec_2"]
    assert found(until=NOW + timedelta(minutes=1)) == ["dec_1"]


def test_an_unknown_filter_is_said(store: Store) -> None:
    with pytest.raises(ConfigError, match="no such filter `body`"):
        store.events(body="x")


def test_a_number_is_never_given_twice(store: Store) -> None:
    store.perform(refused("dec_1", keep_days=0), NOW)
    first = store.events()[-1].seq
    assert store.sweep(NOW).deleted == 1
    store.perform(refused("dec_2"), NOW)
    assert store.events()[-1].seq == first + 1


# ---- private ----------------------------------------------------------------------------------------------


def test_private_data_stands_in_no_byte_of_the_database(path: Path) -> None:
    store = open_at(path)
    canary = b"canary-7f3a: a portrait of my neighbour"
    step = replace(refused("dec_1"), private=(private("prompt:dec_1", canary),))
    store.perform(step, NOW)
    store.pause("user", "u1", why="the canary-7f3a", by="canary-name", now=NOW)
    files = b"".join(file.read_bytes() for file in path.parent.iterdir())
    assert (b"canary" in files, b"neighbour" in files, USER.encode() in files) == (False, False, True)
    assert store.private("prompt:dec_1", by="ada", now=NOW) == canary
    store.close()


def test_reading_private_data_is_recorded_every_time(store: Store) -> None:
    store.perform(replace(refused("dec_1"), private=(private("prompt:dec_1", b"x"),)), NOW)
    for _ in range(2):
        store.private("prompt:dec_1", by="ada", now=NOW)
    reads = [s.event.body for s in store.events(type="access.read")]
    expected = {"private_id": "prompt:dec_1", "kind": "prompt", "subject": USER, "by": VAULT.pseudonym("user", "ada")}
    assert reads == [expected, expected]


def test_what_is_not_there_is_not_read(store: Store) -> None:
    assert store.private("prompt:dec_9", by="ada", now=NOW) is None
    assert store.events() == []


def test_an_altered_private_row_is_noticed(store: Store) -> None:
    pair = (private("prompt:dec_1", b"one"), private("prompt:dec_2", b"two"))
    store.perform(replace(refused("dec_1"), private=pair), NOW)
    swap = "SELECT nonce, ciphertext FROM private WHERE id = 'prompt:dec_2'"
    store._database.write(lambda c: c.exec_driver_sql(f"UPDATE private SET (nonce, ciphertext) = ({swap})").rowcount)
    with pytest.raises(ConfigError, match="was altered"):
        store.private("prompt:dec_1", by="ada", now=NOW)
    assert store.events(type="access.read") == []

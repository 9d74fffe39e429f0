"""Data keys of subjects, and erasure: what is gone, what stays, and what is left in the files."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from databases import Server, connect
from store.books import NOW, USER, VAULT, hold, open_at, private, refused, rows

from policyguard.audit.private import Vault
from policyguard.errors import ConfigError
from policyguard.store import Erased, Store
from policyguard.store.db import postgres as store_postgres

LEGACY = "c20c82f13de9ed6471ac623be512088108470ca09337a6d2ecfb403dc2"
OTHER = VAULT.pseudonym("user", "u2")


def keep(store: Store, decision: str, subject: str = USER, text: bytes = b"a cat") -> None:
    prompt = private(f"prompt:{decision}", text, subject=subject)
    store.perform(replace(refused(decision), private=(prompt,)), NOW)


def wrapped(url: str, subject: str = USER) -> list[bytes]:
    return [row[0] for row in rows(url, f"SELECT wrapped FROM data_keys WHERE subject = '{subject}'")]


def secrets(url: str, subject: str = USER) -> set[bytes]:
    """Every key and ciphertext of a subject as they stand in the file."""
    texts = rows(url, f"SELECT ciphertext FROM private WHERE subject = '{subject}'")
    return {*wrapped(url, subject), *(row[0] for row in texts)}


def left(files: Iterable[Path], secrets: Iterable[bytes]) -> list[bytes]:
    """Which of them are still in a file of the database, whole or in a part that a page's end cut off."""
    content = b"".join(file.read_bytes() for file in files if file.is_file())
    return [secret for secret in secrets if secret[:16] in content or secret[-16:] in content]


def change(url: str, sql: str, values: Sequence[Any]) -> None:
    """Beside the store."""
    if url.startswith("postgres"):
        with connect(url) as beside:
            beside.execute(sql.replace("?", "%s"), values)
        return
    connection = sqlite3.connect(url.removeprefix("sqlite:///"))
    with connection:
        connection.execute(sql, values)
    connection.close()


def test_a_subject_has_one_key_for_all_of_its_rows_and_no_other_has_it(store: Store, url: str) -> None:
    for decision in ("dec_1", "dec_2"):
        keep(store, decision)
    keep(store, "dec_3", OTHER)
    keys = [row[0] for row in rows(url, "SELECT key_id FROM private ORDER BY id")]
    assert keys[0] == keys[1] != keys[2]
    assert (len(wrapped(url)), len(wrapped(url, OTHER))) == (1, 1)


def test_equal_texts_of_two_subjects_share_no_byte(store: Store, url: str) -> None:
    keep(store, "dec_1")
    keep(store, "dec_2", OTHER)
    one, two = (row[0] for row in rows(url, "SELECT ciphertext FROM private ORDER BY id"))
    assert one != two


def test_a_row_from_before_there_were_data_keys_is_read(store: Store, url: str) -> None:
    keep(store, "dec_1")
    legacy = bytes.fromhex(LEGACY)
    change(url, "UPDATE private SET key_id = ?, nonce = ?, ciphertext = ?", (VAULT.key_id, bytes(12), legacy))
    assert store.private("prompt:dec_1", by="ada", now=NOW) == b"an old secret"


# ---- erasure ----------------------------------------------------------------------------------------------


def test_erasing_destroys_rows_and_key_of_the_subject_alone(store: Store, url: str) -> None:
    keep(store, "dec_1")
    store.perform(hold(), NOW)
    keep(store, "dec_2", OTHER, b"a dog")
    assert store.erase("u1", why="asked for it", by="ada", now=NOW) == Erased(rows=2, keys=1, scrubbed=True)
    assert secrets(url) == set()
    for id_ in ("prompt:dec_1", "request:rev_1"):
        assert store.private(id_, by="ada", now=NOW) is None
    assert store.private("prompt:dec_2", by="ada", now=NOW) == b"a dog"


def test_a_subject_is_named_by_name_or_by_pseudonym(store: Store) -> None:
    for name in ("u1", USER):
        keep(store, f"dec_{name}")
        assert store.erase(name, why="", by="ada", now=NOW).rows == 1
    assert store.erase("nobody", why="", by="ada", now=NOW) == Erased(0, 0, scrubbed=True, known=False)


def test_what_others_wrote_about_the_subject_goes_as_well(store: Store) -> None:
    store.perform(hold(), NOW)
    request = private("request:rev_2", b"another", kind="request", subject=OTHER)
    store.perform(hold("rev_2", subject=OTHER, private=(request,)), NOW)
    for review in ("rev_1", "rev_2"):
        store.vote(review, "ada", "reject", f"because of {review}", NOW)
    store.pause("user", "u1", why="unpaid", by="ada", now=NOW)
    store.pause("user", "u2", why="rude", by="ada", now=NOW)
    store.unpause("user", "u1", why="paid", by="ada", now=NOW)
    store.pause("user", "u1", why="again", by="ada", now=NOW)
    assert store.erase("u1", why="", by="grace", now=NOW).rows == 5  # request, vote, three notes of pauses
    one, two = (store.review(r) for r in ("rev_1", "rev_2"))
    assert one is not None
    assert two is not None
    assert [(v.reviewer, v.reason) for v in one.votes] == [(VAULT.pseudonym("user", "ada"), "")]
    assert [(v.reviewer, v.reason) for v in two.votes] == [("ada", "because of rev_2")]
    assert sorted((p.value, p.why) for p in store.pauses()) == sorted([(USER, ""), (OTHER, "rude")])


def test_the_record_says_who_erased_whom_and_why(store: Store) -> None:
    keep(store, "dec_1")
    store.erase("u1", why="asked for it", by="ada", now=NOW)
    (stored,) = store.events(type="audit.erased", user=USER)
    note = stored.event.body["note_id"]
    expected = {"subject": USER, "rows": 1, "keys": 1, "by": VAULT.pseudonym("user", "ada"), "note_id": note}
    assert stored.event.body == expected
    assert stored.event.keep_days is None
    assert store.private(note, by="grace", now=NOW) == b'["ada","asked for it"]'


def test_rows_after_an_erasure_have_a_new_key_in_every_process(store: Store, url: str) -> None:
    other = open_at(url)
    keep(other, "dec_1")
    before = wrapped(url)
    store.erase("u1", why="", by="ada", now=NOW)
    keep(other, "dec_2", text=b"new")
    assert (len(wrapped(url)), wrapped(url) == before) == (1, False)
    assert store.private("prompt:dec_2", by="ada", now=NOW) == b"new"
    other.close()


def test_a_copy_of_the_rows_is_of_no_use_without_the_key(store: Store, url: str) -> None:
    """As in a backup of `private` that outlived the erasure."""
    keep(store, "dec_1")
    (copy,) = rows(url, "SELECT * FROM private")
    store.erase("u1", why="", by="ada", now=NOW)
    change(url, f"INSERT INTO private VALUES ({', '.join('?' * len(copy))})", copy)
    with pytest.raises(ConfigError, match="another key"):
        store.private("prompt:dec_1", by="ada", now=NOW)


@pytest.mark.parametrize("count", [1, 40, 900])
def test_no_byte_of_key_or_text_is_left_in_the_file(path: Path, count: int) -> None:
    """Rows of many subjects, large and small, so that pages split, overflow and are given back."""
    store, url = open_at(path), f"sqlite:///{path}"
    fill(store, count)
    gone = secrets(url)
    assert len(left(files(path), gone)) == len(gone)
    assert store.erase("u1", why="", by="ada", now=NOW).scrubbed
    assert left(files(path), gone) == []
    others = {row[0] for row in rows(url, "SELECT wrapped FROM data_keys")}
    assert len(left(files(path), others)) == len(others)
    store.close()


def fill(store: Store, count: int) -> None:
    for i in range(count):
        keep(store, f"dec_{i}", USER if i % 10 == 0 else VAULT.pseudonym("user", str(i)), bytes(i * 37 % 9_000))


def files(path: Path) -> list[Path]:
    return list(path.parent.glob(path.name + "*"))


def test_no_byte_of_the_key_is_left_in_the_files_of_the_server(postgres: Server) -> None:
    """The log of the server is another thing, and said so."""
    with postgres.database() as url, closing(open_at(url)) as store:
        fill(store, 200)
        with connect(url) as beside:
            beside.execute("CHECKPOINT")
            (data,), (database,) = (
                beside.execute(sql).fetchone() or ()
                for sql in ("SHOW data_directory", "SELECT oid FROM pg_database WHERE datname = current_database()")
            )
        folder, keys = Path(data) / "base" / str(database), wrapped(url)
        assert left(folder.iterdir(), keys) == keys
        with connect(url) as beside:
            beside.execute("ANALYZE data_keys")  # as the server does by itself, which keeps samples of most columns
        assert store.erase("u1", why="", by="ada", now=NOW).scrubbed
        with connect(url) as beside:
            beside.execute("CHECKPOINT")
        assert left(folder.iterdir(), keys) == []


def test_a_reader_in_the_way_is_said(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = open_at(path)
    keep(store, "dec_1")
    monkeypatch.setattr("policyguard.store.db.sqlite.BUSY_TIMEOUT_S", 0.0)
    reader = sqlite3.connect(path, isolation_level=None)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM private").fetchone()
    assert store.erase("u1", why="", by="ada", now=NOW).scrubbed is False
    reader.close()
    assert store.erase("u1", why="", by="ada", now=NOW) == Erased(0, 0, scrubbed=True)
    store.close()


def test_a_transaction_in_another_database_of_the_server_is_in_the_way_too(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps what was deleted after it began, wherever it is, and so would a table written anew."""
    monkeypatch.setitem(store_postgres.LIMITS_S, "lock_timeout", 0.3)
    with postgres.database() as url, postgres.database() as other, closing(open_at(url)) as store:
        keep(store, "dec_1")
        keep(store, "dec_2", OTHER)
        with connect(other) as beside:
            beside.execute("BEGIN")
            beside.execute("CREATE TABLE busy (n INTEGER)")
            assert not store.erase("u1", why="", by="ada", now=NOW).scrubbed
            beside.execute("ROLLBACK")
        assert store.erase("u1", why="", by="ada", now=NOW).scrubbed


# ---- rotation ---------------------------------------------------------------------------------------------


def test_after_a_rotation_every_key_is_wrapped_anew_and_everything_is_read(store: Store, url: str) -> None:
    keep(store, "dec_1")
    keep(store, "dec_2", OTHER)
    before = wrapped(url) + wrapped(url, OTHER)
    ring = open_at(url, Vault((bytes(32), b"2" * 32)))
    assert ring.rewrap(why="yearly", by="ada", now=NOW) == 2
    assert ring.rewrap(why="again", by="ada", now=NOW) == 0
    assert {row[0] for row in rows(url, "SELECT key_id FROM data_keys")} == {ring._cipher.newest_id}
    assert set(before).isdisjoint(wrapped(url) + wrapped(url, OTHER))
    assert ring.private("prompt:dec_1", by="ada", now=NOW) == b"a cat"
    with pytest.raises(ConfigError, match="is the key file complete"):
        store.private("prompt:dec_2", by="ada", now=NOW)
    assert [s.event.body["rewrapped"] for s in ring.events(type="audit.key_added")] == [2, 0]
    ring.close()

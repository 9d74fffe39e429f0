from __future__ import annotations

import sqlite3

import pytest
from audit.sealing import DAYS, Sealed, written
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from store.books import NOW

from policyguard.audit import verify as module
from policyguard.audit.private import Vault
from policyguard.audit.seal import signed
from policyguard.errors import StoreUnavailable
from policyguard.store.seals import ROW

TEXT = ("id", "type", "decision_id", "leg_id", "review_id", "outcome", "surface", "tenant", "user", "body")
NUMBERS = ("seq", "at_us", "delete_after_us")
EMPTY = ("tier", "cohort", "feature", "engineer")


def test_what_was_sealed_verifies_and_says_how_much(sealed: Sealed) -> None:
    written(sealed)
    sealed.write("dec_a")
    report = sealed.verify()
    assert (report.clean, report.sealed, report.rows, report.removed) == (True, 9, 9, 0)
    assert (report.unsealed, report.checkpoints) == (1, 3)
    assert report.newest is not None
    assert report.newest.size == 9


def test_progress_is_told(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    written(sealed)
    monkeypatch.setattr(module, "BATCH", 4)
    seen: list[tuple[int, int]] = []
    sealed.verify(progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4, 9), (8, 9), (9, 9)]


# ---- rows -------------------------------------------------------------------------------------------------


def test_every_column_of_a_row_is_covered() -> None:
    assert {*TEXT, *NUMBERS, *EMPTY} == set(ROW)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(column=st.sampled_from((*TEXT, *EMPTY)), seq=st.integers(1, 9), data=st.data())
def test_any_byte_of_any_text_that_is_changed_is_found(
    sealed: Sealed, column: str, seq: int, data: st.DataObject
) -> None:
    if not sealed.path.exists() or not sealed.store.seals.extent()[1]:
        written(sealed)
    connection = sqlite3.connect(sealed.path, isolation_level=None)
    connection.text_factory = bytes
    before = connection.execute(f'SELECT "{column}" FROM events WHERE seq = {seq}').fetchone()[0]
    after = bytearray(before or b"")
    if after:
        after[data.draw(st.integers(0, len(after) - 1))] ^= data.draw(st.integers(1, 255))
    ids = {id_ for (id_,) in connection.execute("SELECT id FROM events")}
    assume(column != "id" or bytes(after) not in ids)  # the database takes no id twice
    change = f'UPDATE events SET "{column}" = CAST(? AS TEXT) WHERE seq = ?'
    connection.execute(change, (bytes(after), seq))
    try:
        assert sealed.found() == [("altered", seq)]
    finally:
        connection.execute(change if before is not None else change.replace("CAST(? AS TEXT)", "?"), (before, seq))
        connection.close()
    assert sealed.found() == []


@pytest.mark.parametrize("column", ["at_us", "delete_after_us"])
@pytest.mark.parametrize("value", ["NULL", "0", "1.5", "'text'", "x'00'", "{0} + 1", "-{0}"])
def test_any_change_of_a_number_is_found(sealed: Sealed, column: str, value: str) -> None:
    if (column, value) == ("at_us", "NULL"):
        value = "''"  # the schema has no null there
    written(sealed)
    sealed.execute(f"UPDATE events SET {column} = {value.format(column)} WHERE seq = 5")
    assert sealed.found() == [("altered", 5)]


def test_a_row_that_cannot_be_read_is_named_among_those_that_can(sealed: Sealed) -> None:
    written(sealed)
    sealed.execute("UPDATE events SET body = CAST(x'ff' AS TEXT) WHERE seq IN (2, 7)")
    assert sealed.found() == [("altered", 2), ("altered", 7)]


def test_a_store_that_cannot_be_read_is_no_finding(sealed: Sealed) -> None:
    written(sealed)
    sealed.execute("ALTER TABLE leaves RENAME COLUMN mac TO other")
    with pytest.raises(StoreUnavailable):
        sealed.verify()


@pytest.mark.parametrize("seq", [1, 3, 4, 9])
def test_a_removed_row_is_named(sealed: Sealed, seq: int) -> None:
    written(sealed)
    sealed.execute(f"DELETE FROM events WHERE seq = {seq}")
    (finding,) = sealed.verify().findings
    assert (finding.what, finding.seq, finding.leaf) == ("missing", seq, seq - 1)
    assert "to be kept until 2027-12-29" in finding.message


def test_rows_that_changed_places_are_named(sealed: Sealed) -> None:
    written(sealed)
    sealed.execute(
        "UPDATE events SET seq = 100 WHERE seq = 2",
        "UPDATE events SET seq = 2 WHERE seq = 8",
        "UPDATE events SET seq = 8 WHERE seq = 100",
    )
    assert sealed.found() == [("altered", 2), ("altered", 8)]


COPY = "INSERT INTO events (seq, {names}) SELECT {seq}, {copied} FROM events WHERE seq = 1"
NAMES = ", ".join(f'"{name}"' for name in ROW if name != "seq")


@pytest.mark.parametrize("seq", [-5, 0, 4])
def test_a_row_that_was_added_among_sealed_ones_is_named(sealed: Sealed, seq: int) -> None:
    written(sealed)
    if seq == 4:  # where retention has left a gap
        sealed.execute("DELETE FROM events WHERE seq = 4")
    copied = NAMES.replace('"id"', "'forged'")
    sealed.execute(COPY.format(names=NAMES, seq=seq, copied=copied))
    (finding,) = sealed.verify().findings
    assert (finding.what, finding.seq, finding.event_id) == ("altered" if seq == 4 else "added", seq, "forged")


@pytest.mark.parametrize("leaf", [-1, 9, 50])
def test_an_added_row_with_a_leaf_of_its_own_is_named(sealed: Sealed, leaf: int) -> None:
    written(sealed)
    copied = NAMES.replace('"id"', "'forged'")
    sealed.execute(
        COPY.format(names=NAMES, seq=-5, copied=copied),
        f"INSERT INTO leaves SELECT {leaf}, -5, delete_after_us, digest, mac FROM leaves WHERE leaf = 0",
    )
    assert ("added", -5) in sealed.found()


CHANGES = {
    "UPDATE events SET tenant = 'other' WHERE seq = 5": [("altered", 5)],
    "UPDATE events SET body = replace(body, 'enforce', 'shadow ') WHERE seq = 5": [("altered", 5)],
    "UPDATE events SET at_us = at_us + 1 WHERE seq = 9": [("altered", 9)],
    "UPDATE events SET delete_after_us = NULL WHERE seq = 1": [("altered", 1)],
    "UPDATE events SET seq = 100 WHERE seq = 3": [("missing", 3)],
    "UPDATE events SET seq = 0 WHERE seq = 3": [("missing", 3), ("added", 0)],
    "DELETE FROM events WHERE seq > 7": [("missing", 8), ("missing", 9)],
    "UPDATE leaves SET digest = zeroblob(32) WHERE leaf = 4": [("leaf_altered", 5), ("altered", 5), ("root", None)],
    "DELETE FROM leaves WHERE leaf = 4": [("leaf_missing", None), ("root", None), ("added", 5)],
    "DELETE FROM checkpoints WHERE size = 6": [("checkpoint_missing", None)],
    "UPDATE checkpoints SET signature = zeroblob(64) WHERE size = 9": [("checkpoint_altered", None)],
}


@pytest.mark.parametrize("statement", CHANGES)
def test_each_engine_tells_what_was_changed(record: Sealed, statement: str) -> None:
    written(record)
    record.execute(statement)
    assert record.found() == CHANGES[statement]


# ---- retention --------------------------------------------------------------------------------------------


def test_rows_that_retention_removed_are_told_and_no_finding(sealed: Sealed) -> None:
    sealed.write("dec_1", "dec_2", keep_days=30)
    sealed.write("dec_3")
    sealed.seal()
    assert sealed.store.sweep(NOW + 30 * DAYS).deleted == 2
    report = sealed.verify(NOW + 30 * DAYS)
    assert (report.clean, report.sealed, report.rows, report.removed) == (True, 3, 1, 2)


def test_a_row_that_went_before_its_time_is_a_finding_whatever_its_leaf_says(sealed: Sealed) -> None:
    written(sealed, 3, 3)
    sealed.execute("DELETE FROM events WHERE seq = 2")
    assert sealed.found(now=NOW + 399 * DAYS) == [("missing", 2)]
    assert sealed.found(now=NOW + 400 * DAYS) == []
    sealed.execute("UPDATE leaves SET delete_after_us = 0 WHERE seq = 2")
    assert sealed.found(now=NOW + 399 * DAYS) == [("leaf_altered", 2), ("root", None)]


def test_a_row_that_is_kept_for_ever_may_never_go(sealed: Sealed) -> None:
    sealed.write("dec_1", keep_days=None)
    sealed.seal()
    sealed.execute("DELETE FROM events")
    (finding,) = sealed.verify(NOW + 36_500 * DAYS).findings
    assert finding.message == "row 1 is gone; it is to be kept for ever"


def test_rows_that_went_before_they_were_sealed_leave_no_trace(sealed: Sealed) -> None:
    sealed.write("dec_1", keep_days=0)
    sealed.store.sweep(NOW)
    sealed.write("dec_2")
    assert sealed.seal() == 1
    assert sealed.verify().clean


# ---- leaves and checkpoints -------------------------------------------------------------------------------


@pytest.mark.parametrize("column", ["seq", "delete_after_us", "digest", "mac"])
@pytest.mark.parametrize("leaf", [0, 4, 8])
def test_a_changed_leaf_is_named(sealed: Sealed, column: str, leaf: int) -> None:
    written(sealed)
    value = "seq + 100" if column == "seq" else "1" if column == "delete_after_us" else f"zeroblob(length({column}))"
    sealed.execute(f"UPDATE leaves SET {column} = {value} WHERE leaf = {leaf}")
    findings = sealed.verify().findings
    assert ("leaf_altered", leaf) in [(f.what, f.leaf) for f in findings]


@pytest.mark.parametrize("value", ["'text'", "1.5", "x'00'", "NULL"])
@pytest.mark.parametrize("column", ["digest", "delete_after_us", "mac"])
def test_a_leaf_of_another_kind_is_named(sealed: Sealed, column: str, value: str) -> None:
    written(sealed)
    if value == "NULL" and column != "delete_after_us":
        value = "''"
    sealed.execute(f"UPDATE leaves SET {column} = {value} WHERE leaf = 4")
    assert ("leaf_altered", 4) in [(f.what, f.leaf) for f in sealed.verify().findings]


def test_a_row_that_was_changed_together_with_its_leaf_is_named(sealed: Sealed) -> None:
    from policyguard.audit.seal import digest_of

    written(sealed)
    sealed.execute("UPDATE events SET tenant = 'other' WHERE seq = 5")
    digest = digest_of(sealed.store.seals.sealed(4, 5)[0][5:])
    sealed.execute(f"UPDATE leaves SET digest = x'{digest.hex()}' WHERE leaf = 4")
    assert sealed.found() == [("leaf_altered", 5), ("root", None)]


@pytest.mark.parametrize("leaf", [0, 4, 8])
def test_a_removed_leaf_is_named_and_its_row_as_well(sealed: Sealed, leaf: int) -> None:
    written(sealed)
    sealed.execute(f"DELETE FROM leaves WHERE leaf = {leaf}")
    findings = sealed.verify().findings
    assert (findings[0].what, findings[0].leaf) == ("leaf_missing", leaf)
    assert [f.what for f in findings[1:]] == (["root"] if leaf == 8 else ["root", "added"])


def test_an_added_leaf_is_a_finding(sealed: Sealed) -> None:
    written(sealed)
    sealed.execute("INSERT INTO leaves SELECT 9, 77, NULL, digest, mac FROM leaves WHERE leaf = 0")
    assert [f.what for f in sealed.verify().findings] == ["leaf_added"]


@pytest.mark.parametrize("column", ["root", "signature", "frontier", "previous", "at_us", "key_id"])
@pytest.mark.parametrize("size", [3, 6, 9])
def test_a_changed_checkpoint_is_found(sealed: Sealed, column: str, size: int) -> None:
    written(sealed)
    value = {"previous": "previous + 1", "at_us": "at_us + 1", "key_id": "'0000'"}.get(
        column, f"zeroblob(length({column}))"
    )
    sealed.execute(f"UPDATE checkpoints SET {column} = {value} WHERE size = {size}")
    findings = sealed.verify().findings
    assert findings[0].what == "checkpoint_altered"
    assert str(size) in findings[0].message


def test_a_checkpoint_of_another_key_is_found(sealed: Sealed) -> None:
    written(sealed)
    newest = sealed.store.seals.newest()
    assert newest is not None
    forged = signed(newest, Vault(b"x" * 32))
    sealed.execute(f"UPDATE checkpoints SET signature = x'{forged.signature.hex()}' WHERE size = 9")
    assert sealed.found() == [("checkpoint_altered", None)]


@pytest.mark.parametrize("size", [3, 6])
def test_a_removed_checkpoint_is_found(sealed: Sealed, size: int) -> None:
    written(sealed)
    sealed.execute(f"DELETE FROM checkpoints WHERE size = {size}")
    (finding,) = sealed.verify().findings
    assert (finding.what, f"over {size} rows" in finding.message) == ("checkpoint_missing", True)


def test_an_old_checkpoint_cannot_pass_for_the_newest(sealed: Sealed) -> None:
    written(sealed)
    sealed.execute("DELETE FROM checkpoints WHERE size = 9")
    assert sealed.found() == [("leaf_added", None)]
    columns = "root, previous, at_us, key_id, signature, frontier"
    sealed.execute(f"INSERT INTO checkpoints SELECT 9, {columns} FROM checkpoints WHERE size = 6")
    assert ("checkpoint_altered", None) in sealed.found()


def test_one_change_is_told_once_and_what_comes_after_is_judged_by_itself(sealed: Sealed) -> None:
    written(sealed, 30, 3)
    sealed.execute("UPDATE leaves SET digest = zeroblob(32) WHERE leaf = 4", "DELETE FROM events WHERE seq = 20")
    assert sealed.found() == [("leaf_altered", 5), ("altered", 5), ("root", None), ("missing", 20)]


# ---- set back as a whole ----------------------------------------------------------------------------------

CUT = (
    "DELETE FROM events WHERE seq > 6",
    "DELETE FROM leaves WHERE leaf >= 6",
    "DELETE FROM checkpoints WHERE size > 6",
)


def test_a_record_that_was_cut_back_is_found_by_a_published_checkpoint(sealed: Sealed) -> None:
    written(sealed)
    newest = sealed.store.seals.newest()
    assert newest is not None
    published = {newest.size: newest.root}
    assert sealed.found(published=published) == []
    sealed.execute(*CUT)
    assert sealed.found() == []  # by itself it is the older record
    assert sealed.found(published=published) == [("cut", None)]


def test_a_record_that_went_another_way_is_found_by_a_published_checkpoint(sealed: Sealed) -> None:
    written(sealed)
    published = {c.size: c.root for c in sealed.checkpoints()}
    sealed.execute(*CUT)
    sealed.write("other_1", "other_2", "other_3")
    sealed.seal()
    assert sealed.found() == []
    assert sealed.found(published=published) == [("replaced", None)]


@pytest.mark.parametrize("table", ["leaves", "checkpoints", "events"])
def test_a_cut_that_forgets_a_table_is_found_by_itself(sealed: Sealed, table: str) -> None:
    written(sealed)
    sealed.execute(*(statement for statement in CUT if table not in statement))
    assert sealed.verify().clean == (table == "events")  # then they are rows that wait to be sealed


def test_many_findings_are_counted_and_not_all_kept(sealed: Sealed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_FINDINGS", 4)
    written(sealed)
    sealed.execute("UPDATE events SET outcome = 'allow'")
    report = sealed.verify()
    assert (len(report.findings), report.more, report.clean) == (4, 5, False)


def test_another_key_file_finds_everything_unsigned(sealed: Sealed) -> None:
    written(sealed, 2, 2)
    found = {f.what for f in sealed.verify(vault=Vault(b"x" * 32)).findings}
    assert found == {"checkpoint_altered", "leaf_altered"}

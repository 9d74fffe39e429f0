from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from store.books import HOUR, NOW, balance, hold, private, refused, reserve, rows, settle

from policyguard.flow.states import ReviewState
from policyguard.store import Store, Swept

DAYS = timedelta(days=1)


def count(url: str, table: str) -> int:
    return int(rows(url, f"SELECT COUNT(*) FROM {table}")[0][0])


def test_rows_go_when_their_time_has_passed_and_not_before(store: Store) -> None:
    store.perform(refused("dec_1", keep_days=30), NOW)
    store.perform(refused("dec_2", keep_days=None), NOW)
    assert store.sweep(NOW + 30 * DAYS - HOUR) == Swept()
    assert store.sweep(NOW + 30 * DAYS) == Swept(deleted=1)
    assert [s.event.decision_id for s in store.events()] == ["dec_2"]


def test_private_data_goes_by_its_own_time(store: Store) -> None:
    store.perform(replace(refused("dec_1"), private=(private("prompt:dec_1", b"x", keep_days=7),)), NOW)
    assert store.sweep(NOW + 7 * DAYS) == Swept(deleted=1)
    assert store.private("prompt:dec_1", by="ada", now=NOW) is None
    assert len(store.events()) == 1


def test_the_key_of_a_subject_goes_with_its_last_private_row(store: Store, url: str) -> None:
    kept = (private("prompt:dec_1", b"x", keep_days=7), private("prompt:dec_2", b"x", keep_days=9))
    store.perform(replace(refused("dec_1"), private=kept), NOW)
    store.perform(replace(refused("dec_3"), private=(private("prompt:dec_3", b"x", subject="another"),)), NOW)
    assert store.sweep(NOW + 7 * DAYS) == Swept(deleted=1)
    assert (count(url, "data_keys"), store.private("prompt:dec_2", by="ada", now=NOW)) == (2, b"x")
    assert store.sweep(NOW + 9 * DAYS) == Swept(deleted=1)
    assert rows(url, "SELECT subject FROM data_keys") == [("another",)]


def test_a_leg_goes_with_its_charges_once_it_has_ended_and_its_money_stays(store: Store, url: str) -> None:
    store.perform(reserve("leg_1", keep_days=1), NOW)
    store.mark_sent("leg_1", NOW + 3 * DAYS, NOW)
    assert store.sweep(NOW + 2 * DAYS) == Swept()
    store.perform(settle("leg_1"), NOW + 2 * DAYS)
    assert store.sweep(NOW + 2 * DAYS) == Swept(deleted=1)
    assert (count(url, "legs"), count(url, "leg_charges")) == (0, 0)
    assert balance(store) == (0, 40_000)


def test_a_review_goes_with_its_votes_and_never_while_it_is_open(store: Store, url: str) -> None:
    step = hold(due_at=NOW + 500 * DAYS, escalate=())
    store.perform(replace(step, events=tuple(replace(e, keep_days=0) for e in step.events), private=()), NOW)
    store.sweep(NOW + 499 * DAYS)
    assert count(url, "reviews") == 1
    store.vote("rev_1", "ada", "reject", "", NOW)
    store.sweep(NOW + 500 * DAYS)
    assert (count(url, "reviews"), count(url, "review_votes")) == (0, 0)
    assert store.reviews(ReviewState) == []


def test_more_than_one_batch_is_removed(store: Store) -> None:
    record = refused("dec")
    many = tuple(replace(record.events[0], id=f"request.decided:{i}", keep_days=0) for i in range(1_100))
    store.perform(replace(record, events=many), NOW)
    assert store.sweep(NOW) == Swept(deleted=1_100)


def test_what_was_refused_goes_with_its_decision(store: Store, url: str) -> None:
    store.perform(refused("dec_1", ceiling=5, keep_days=1), NOW)
    assert store.sweep(NOW + timedelta(days=1)).deleted == 2
    assert rows(url, "SELECT * FROM refusals") == []

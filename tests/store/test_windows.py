"""One statement for a group does what it would do for each in turn: the same answers, the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import pytest
from databases import Server
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Connection
from store.books import DAY, MINUTE, NOW, assert_books_balance, charge, open_at, reserve, rows
from store.ledger_machine import Databases, file

from policyguard.errors import StoreUnavailable
from policyguard.flow.steps import Charge, OverBudget, Reserved
from policyguard.store import Store, ledger, operations, windows
from policyguard.store.db.group import GroupCall, GroupWork
from policyguard.store.db.sql import Bulk, ByKey, Query, Rows, ask, drive, drive_all, us

LEGS = [f"leg_{i}" for i in range(8)]


def in_one(store: Store, works: Sequence[GroupWork]) -> list[Any]:
    """As the writing thread performs calls that waited together."""
    calls = [GroupCall(work) for work in works]
    store._database._process().writer._perform(calls)
    assert not [call.error for call in calls if call.error]
    return [call.answer for call in calls]


@st.composite
def charges(draw: st.DrawFn) -> tuple[Charge, ...]:
    """Of one request: each window once, its terms mostly those that everybody says."""
    keys = draw(st.sets(st.sampled_from(["company", "images", "shadow", "user-1", "user-2"]), min_size=1, max_size=4))
    return tuple(
        charge(
            draw(st.sampled_from([1, 2, 10])),
            draw(st.sampled_from([1040, 1040, 1040, 1040, 1025])),
            key=key,
            unit="images" if key == "images" else "usd",
            mode="shadow" if key == "shadow" else "enforce",
            starts=draw(st.sampled_from([DAY, DAY, DAY, DAY - timedelta(days=1)])),
            alert_at=(50, 100) if key == "company" else (),
        )
        for key in sorted(keys)
    )


taken = st.builds(
    lambda leg, charges, upstream, due: {
        "leg_id": leg,
        "charges": windows.charge_rows(charges),
        "upstream": upstream,
        "due": us(due),
    },
    leg=st.sampled_from(LEGS),
    charges=charges(),
    upstream=st.sampled_from([None, "up", "up", "up", "up", "up", "down"]),
    due=st.sampled_from([DAY, DAY, DAY, DAY, DAY, DAY, NOW + MINUTE]),
)
sent = st.builds(
    lambda leg, now: {"leg_id": leg, "now": us(now), "expires": us(now + MINUTE)},
    leg=st.sampled_from(LEGS),
    now=st.sampled_from([NOW, NOW + MINUTE]),
)
ended = st.builds(
    lambda leg, source, target, charge: {
        "leg_id": leg,
        "source": source,
        "target": target,
        "charge": charge,
        "presumes": int(target == "presumed"),
        "now": us(NOW),
        "due": us(NOW + MINUTE),
        "fault": None,
    },
    leg=st.sampled_from(LEGS),
    source=st.sampled_from(["held", "sent", "presumed"]),
    target=st.sampled_from(["settled", "released", "presumed"]),
    charge=st.sampled_from([None, 0, 5]),
)
moved = st.builds(
    lambda leg, live, usd, images: {"leg_id": leg, "live": live, "usd": usd, "images": images},
    leg=st.sampled_from(LEGS),
    live=st.integers(0, 1),
    usd=st.integers(0, 9),
    images=st.integers(0, 1),
)
Round = tuple[Bulk, list[Any]]
rounds = st.lists(
    st.one_of(
        *(
            st.tuples(st.just(bulk), st.lists(values, min_size=2, max_size=8, unique_by=unique))
            for bulk, values, unique in (
                (windows.take, taken, id),
                (ByKey("leg_id", ledger._SEND), sent, id),
                (ByKey("leg_id", ledger._END), ended, id),
                (windows.move, moved, lambda value: value["leg_id"]),  # a leg ends once
            )
        )
    ),
    max_size=5,
)


def at_once(connection: Connection, bulk: Bulk, values: list[Any]) -> list[Rows]:
    return drive_all(connection, [ask(bulk, one) for one in values])


def in_turn(connection: Connection, bulk: Bulk, values: list[Any]) -> list[Rows]:
    return [drive(connection, ask(bulk, one)) for one in values]


def played(databases: Databases, run: Any, rounds: list[Round]) -> Any:
    """The answers, and what stands in the tables after it."""
    tables = ("budget_windows ORDER BY key, starts_us", "legs ORDER BY leg_id", "breakers ORDER BY upstream")
    with databases() as url:
        store = open_at(url)
        for i in range(3):
            store.perform(reserve(LEGS[i], charge(9, key="company"), charge(1, key=f"user-{i}")), NOW)
        store.perform(reserve(LEGS[3], charge(9, key="company")), NOW)
        store.mark_sent(LEGS[3], NOW + MINUTE, NOW)

        def work(connection: Connection) -> list[Any]:
            connection.exec_driver_sql("INSERT INTO breakers VALUES ('down', 0, 4102444800000000, 0, NULL)")
            connection.exec_driver_sql("UPDATE budget_windows SET reserved = 1000")  # as others have reserved it
            return [[sorted(map(tuple, rows)) for rows in run(connection, *one)] for one in rounds]

        answers = store._write(work)
        store.close()
        return answers, [rows(url, f"SELECT * FROM {table}") for table in tables]


def agree(databases: Databases, examples: int) -> None:
    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(rounds)
    def check(rounds: list[Round]) -> None:
        assert played(databases, in_turn, rounds) == played(databases, at_once, rounds)

    check()


def test_a_statement_for_many_does_what_it_does_for_each_in_turn_on_sqlite() -> None:
    agree(file, 100)


def test_a_statement_for_many_does_what_it_does_for_each_in_turn_on_postgres(postgres: Server) -> None:
    agree(postgres.database, 12)


# ---- one statement for a group ----------------------------------------------------------------------------


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many reservations each statement that takes money is for."""
    counts: list[int] = []
    ask = windows._ask

    def counted(total: Any, values: Sequence[Any]) -> Query:
        counts.append(len(values))
        return ask(total, values)

    monkeypatch.setattr(windows, "_ask", counted)
    return counts


def test_a_group_takes_its_money_in_one_statement(store: Store, asked: list[int]) -> None:
    works = [store._work(reserve(f"leg_{i}", charge(1, 40)), NOW) for i in range(40)]
    assert in_one(store, works) == [Reserved()] * 40
    assert asked == [40]


def test_where_not_all_have_room_each_asks_for_itself(store: Store, asked: list[int], url: str) -> None:
    works = [store._work(reserve(f"leg_{i}", charge(15, 40)), NOW) for i in range(3)]
    answers = in_one(store, works)
    assert [type(answer) for answer in answers] == [Reserved, Reserved, OverBudget]
    assert answers[2] == OverBudget(charge(15, 40), 0, 30)
    assert asked[:4] == [3, 1, 1, 1]
    assert_books_balance(url)


def test_each_of_a_group_sees_the_balance_of_its_own_turn(store: Store) -> None:
    in_one(store, [store._work(reserve(f"leg_{i}", charge(10, 100)), NOW) for i in range(3)])
    budgets = [stored.event.body["budgets"][0] for stored in store.events(type="request.decided")]
    assert sorted((b["before"], b["after"]) for b in budgets) == [(0, 10), (10, 20), (20, 30)]


def test_a_threshold_in_the_middle_of_a_group_is_told_to_whom_it_belongs(store: Store) -> None:
    steps = [reserve(f"leg_{i}", charge(10, 40, alert_at=(50,))) for i in range(3)]
    answers = in_one(store, [store._work(step, NOW) for step in steps])
    assert [len(answer.alerts) for answer in answers] == [0, 1, 0]


def test_the_same_leg_twice_in_a_group_is_sent_once(store: Store) -> None:
    store.perform(reserve("leg"), NOW)
    works = [operations.sent("leg", NOW + MINUTE, NOW)] * 3
    assert in_one(store, works) == [True, False, False]


def test_the_same_reservation_twice_in_a_group_is_taken_once(store: Store, url: str) -> None:
    works = [store._work(reserve("leg"), NOW)] * 2
    assert in_one(store, works) == [Reserved(), Reserved()]
    assert_books_balance(url)


def test_a_key_that_the_database_reads_otherwise_takes_no_money(store: Store, url: str) -> None:
    """No such key comes out of a policy; what cannot be found again must not be taken."""
    with pytest.raises(StoreUnavailable):
        store.perform(reserve("leg", charge(key="a\0b")), NOW)
    assert (store.budget_windows(), rows(url, "SELECT leg_id FROM legs")) == ([], [])


def test_rows_go_to_the_driver_as_they_are(store: Store) -> None:
    """What JSON can carry between us and the database comes back unchanged."""
    odd = 'a "quoted" \\ word, a line\nand ünïcode 🎈'
    in_one(store, [store._work(reserve(f"leg_{i}", model=odd), NOW) for i in range(2)])
    connection_rows = store._read(lambda c: c.exec_driver_sql("SELECT model FROM legs").all())
    assert [tuple(row) for row in connection_rows] == [(odd,), (odd,)]

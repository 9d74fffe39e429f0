"""Two hosts with other versions of the zone table, or one whose table changes during a day, take from one window."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine
from store.books import MINUTE, assert_books_balance, charge, open_at, rows, settle
from store.books import reserve as reserve_until
from store.test_windows import in_one
from zone_tables import vancouver_at

from policyguard.flow.steps import Charge, OverBudget, Reserve, Reserved
from policyguard.policy.budget import WindowSpan, window
from policyguard.policy.model import Period
from policyguard.store import Store, migrate

ZONE = "America/Vancouver"
KEY = f"avatars|day|usd|day|{ZONE}|"
NOON = datetime(2026, 12, 15, 20, tzinfo=UTC)  # in Vancouver, by any table
HOSTS = [(-8, -7), (-7, -8)]  # Debian 12's table and the one of 2026, who comes first


def reserve(leg: str, asked: Charge) -> Reserve:
    return reserve_until(leg, asked, expires_at=NOON + timedelta(days=2))


def span(hours: int, now: datetime, period: Period = "day") -> WindowSpan:
    with vancouver_at(hours):
        return window(period, ZONE, now)


def charged(hours: int, now: datetime = NOON, amount: int = 30, limit: int = 40, period: Period = "day") -> Charge:
    """What a host asks for whose table has Vancouver so many hours ahead of UTC."""
    starts, ends, local = span(hours, now, period)
    made = charge(amount, limit, key=KEY.replace("|day|A", f"|{period}|A"), starts=starts)
    return Charge(**{name: getattr(made, name) for name in made.__slots__} | {"ends": ends, "local": local})


@pytest.mark.parametrize("period", ["day", "week", "month", "year"])
def test_the_tables_differ_and_the_name_of_the_window_does_not(period: Period) -> None:
    old, new = (span(hours, NOON, period) for hours in (-8, -7))
    assert (old.starts - new.starts, old.local) == (timedelta(hours=1), new.local)


@pytest.mark.parametrize(("first", "second"), HOSTS)
def test_two_hosts_with_other_tables_admit_a_daily_limit_once(store: Store, url: str, first: int, second: int) -> None:
    assert isinstance(store.perform(reserve("leg_1", charged(first)), NOON), Reserved)
    refused = store.perform(reserve("leg_2", charged(second)), NOON + MINUTE)
    assert isinstance(refused, OverBudget)
    assert (refused.spent, refused.reserved) == (0, 30)
    store.perform(settle("leg_1", cost=25), NOON)
    (found,) = store.budget_windows(NOON)
    assert (found.spent, found.reserved, found.starts) == (25, 0, span(first, NOON).starts)
    assert isinstance(store.perform(reserve("leg_3", charged(second, amount=15)), NOON), Reserved)
    assert_books_balance(url)


@pytest.mark.parametrize(("first", "second"), HOSTS)
def test_a_day_stays_used_up_until_the_last_host_says_that_it_is_over(store: Store, first: int, second: int) -> None:
    store.perform(reserve("leg_1", charged(first)), NOON)
    between = datetime(2026, 12, 16, 7, 30, tzinfo=UTC)  # half past eleven, or half past midnight
    old, new = charged(-8, between), charged(-7, between)
    assert isinstance(store.perform(reserve("leg_2", old), between), OverBudget)
    assert isinstance(store.perform(reserve("leg_3", new), between), Reserved)
    later = between + timedelta(hours=1)
    assert isinstance(store.perform(reserve("leg_4", charged(-8, later)), later), OverBudget)
    assert isinstance(store.perform(reserve("leg_5", charged(-7, later)), later), OverBudget)


def test_a_group_of_both_tables_takes_from_one_window(store: Store, url: str) -> None:
    works = [store._work(reserve(f"leg_{i}", charged((-8, -7)[i % 2], amount=15)), NOON) for i in range(4)]
    answers = in_one(store, works)
    assert [type(answer) for answer in answers] == [Reserved, Reserved, OverBudget, OverBudget]
    assert len(store.budget_windows()) == 1
    assert_books_balance(url)


def test_the_first_requests_of_a_day_race_for_one_window(url: str) -> None:
    stores = [open_at(url) for _ in range(2)]
    charges = [charged(-8, amount=3), charged(-7, amount=3)]

    def attempt(i: int) -> Any:
        return stores[i % 2].perform(reserve(f"leg_{i}", charges[i % 2]), NOON)

    with ThreadPoolExecutor(8) as pool:
        answers = [type(answer) for answer in pool.map(attempt, range(24))]
    assert (answers.count(Reserved), answers.count(OverBudget)) == (13, 11)
    assert_books_balance(url)
    for store in stores:
        store.close()


# ---- databases from before ---------------------------------------------------------------------------------


def moved_to(url: str, revision: str) -> None:
    engine, config = create_engine(url), Config()
    config.set_main_option("script_location", "policyguard.store:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, revision)
    engine.dispose()


def names(url: str) -> list[Any]:
    windows = rows(url, "SELECT starts_us, reserved, spent FROM budget_windows ORDER BY key, starts_us")
    return [windows, rows(url, "SELECT leg_id, starts_us, amount FROM leg_charges ORDER BY leg_id, starts_us")]


@pytest.mark.usefixtures("migrations")
def test_an_open_window_goes_on_after_the_upgrade(url: str) -> None:
    migrate(url)
    with_money = open_at(url)
    for leg, asked in {"a": charged(-7), "b": charge(1, key="avatars|x|usd|day|UTC|"), "c": charge(1)}.items():
        with_money.perform(reserve(leg, asked), NOON)
    with_money.perform(reserve("hour", charged(-7, period="hour")), NOON)
    with_money.close()
    after = names(url)
    moved_to(url, "0005")
    assert names(url) != after
    migrate(url)
    assert names(url) == after
    store = open_at(url)
    assert isinstance(store.perform(reserve("d", charged(-8)), NOON), OverBudget)
    store.perform(settle("a", cost=25), NOON)
    store.close()
    assert_books_balance(url)


@pytest.mark.usefixtures("migrations")
def test_two_windows_that_two_tables_had_opened_for_a_day_become_one(url: str) -> None:
    migrate(url)
    store = open_at(url)
    store.perform(reserve("a", charged(-7)), NOON)
    store.close()
    moved_to(url, "0005")
    before = create_engine(url)
    with before.begin() as connection:
        later = "starts_us + 3600000000"
        connection.exec_driver_sql(
            f"INSERT INTO budget_windows SELECT key, {later}, ends_us, budget_id, unit, mode, limit_amount, 0, 5,"
            " alert_at, alerted FROM budget_windows"
        )
        connection.exec_driver_sql(
            "INSERT INTO legs (leg_id, state, ceiling_micros, charged_micros, presumed_micros, created_us, expires_us,"
            " n) VALUES ('b', 'settled', 9, 5, 0, 0, 0, 1)"
        )
        connection.exec_driver_sql(f"INSERT INTO leg_charges SELECT 'b', key, {later}, 9 FROM leg_charges")
    before.dispose()
    migrate(url)
    store = open_at(url)
    (found,) = store.budget_windows()
    assert (found.spent, found.reserved, found.starts) == (5, 30, span(-7, NOON).starts)
    store.close()
    assert [row[1] for row in names(url)[1]] == [names(url)[0][0][0]] * 2

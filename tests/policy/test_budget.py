from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyguard import zones
from policyguard.decision import Place
from policyguard.policy.budget import charged, window, windows
from policyguard.policy.model import Budget
from policyguard.policy.units import PERIODS, budget_limit, days, duration, path_in, per_cent, route, size_in_bytes

ZONES = ["UTC", "Europe/Berlin", "America/New_York", "Asia/Kolkata", "Pacific/Apia", "Australia/Lord_Howe"]
moments = st.datetimes(datetime(2020, 1, 1), datetime(2035, 1, 1)).map(lambda t: t.replace(tzinfo=UTC))  # noqa: DTZ001
periods = st.sampled_from([p for p in PERIODS if p != "total"])


@given(periods, st.sampled_from(ZONES), moments)
def test_now_is_in_its_window_and_windows_meet_without_gaps(period: Any, zone: str, now: datetime) -> None:
    starts, ends, _ = span = window(period, zone, now)
    assert ends is not None
    assert starts <= now < ends
    assert window(period, zone, ends)[0] == ends
    assert window(period, zone, starts) == span


@given(st.sampled_from(["day", "week", "month", "year"]), st.sampled_from(ZONES), moments)
def test_windows_begin_at_local_midnight(period: Any, zone: str, now: datetime) -> None:
    local = window(period, zone, now)[0].astimezone(zones.zone(zone))
    assert (local.hour, local.minute) in ((0, 0), (1, 0))  # 1:00 where midnight does not exist that day
    assert window(period, zone, now).local == local.replace(hour=0, tzinfo=UTC)
    if period == "month":
        assert local.day == 1


@pytest.mark.parametrize("period", ["minute", "hour", "total"])
def test_windows_without_a_calendar_are_named_by_their_start(period: Any) -> None:
    span = window(period, "Asia/Kolkata", datetime(2026, 1, 1, 12, 34, tzinfo=UTC))
    assert span.local == span.starts


@pytest.mark.parametrize(
    ("now", "hours"), [("2026-03-29T12:00Z", 23), ("2026-10-25T12:00Z", 25), ("2026-11-24T12:00Z", 24)]
)
def test_a_day_has_23_to_25_hours_where_clocks_change(now: str, hours: int) -> None:
    starts, ends, _ = window("day", "Europe/Berlin", datetime.fromisoformat(now))
    assert cast(datetime, ends) - starts == timedelta(hours=hours)


def test_a_total_has_no_end() -> None:
    assert window("total", "UTC", datetime(2026, 1, 1, tzinfo=UTC)).ends is None


def budget(id_: str, per: str | None = None) -> Budget:
    return Budget(
        id=id_,
        unit="usd",
        limit=1,
        period="day",
        time_zone="UTC",
        per=per,
        mode="enforce",
        place=Place("a.yaml", 1),
        identity=f"avatars|{id_}",
    )


def test_keys_carry_the_value_of_per_and_come_in_order() -> None:
    found = windows((budget("z"), budget("a", "user")), {"user": "user_1"}, datetime(2026, 1, 1, tzinfo=UTC))
    assert [w.key for w in found] == ["avatars|a|user_1", "avatars|z"]


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("$2000 / month", ("usd", 2_000_000_000, "month")),
        ("$0.5/day", ("usd", 500_000, "day")),
        ("20 images / day", ("images", 20, "day")),
        ("1 image / total", ("images", 1, "total")),
    ],
)
def test_limits_are_read_as_people_write_them(text: str, limit: tuple[str, int, str]) -> None:
    assert tuple(budget_limit(text)) == limit


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (budget_limit, "2000 / month"),
        (budget_limit, "$1 / fortnight"),
        (budget_limit, "$0 / day"),
        (budget_limit, "$1.1234567 / day"),
        (budget_limit, 5),
        (duration, "0m"),
        (duration, "1.5h"),
        (days, "36h"),
        (size_in_bytes, "10 MB"),
        (size_in_bytes, True),
        (route, "DELETE /x"),
        (route, "POST //x"),
        (route, "POST /x%2e"),
        (route, "POST x"),
    ],
)
def test_what_is_written_otherwise_says_how_it_is_written(read: Any, text: Any) -> None:
    with pytest.raises(ValueError, match=r"written|budget|whole days|plain"):
        read(text)


def test_paths_are_tuples() -> None:
    assert path_in("response.data[].b64_json", "response") == ("data", "[]", "b64_json")
    assert (duration("30m"), days("2d"), size_in_bytes("10MB")) == (timedelta(minutes=30), 2, 10_000_000)


@given(
    st.sampled_from(["day", "week", "month", "year"]),
    st.sampled_from(sorted(zones.names())),
    st.datetimes(datetime(1975, 1, 1), datetime(2035, 1, 1)).map(lambda t: t.replace(tzinfo=UTC)),  # noqa: DTZ001
)
def test_calendar_windows_meet_without_gaps_in_every_zone(period: Any, zone: str, now: datetime) -> None:
    starts, ends, _ = span = window(period, zone, now)
    assert ends is not None
    assert starts <= now < ends
    assert window(period, zone, ends)[0] == ends
    assert window(period, zone, ends - timedelta(microseconds=1)) == span


@pytest.mark.parametrize("now", ["2010-11-07T02:30Z", "2010-11-07T02:45Z", "2010-11-07T03:29Z", "2010-11-07T03:30Z"])
def test_clocks_that_are_set_back_over_midnight_open_no_second_day(now: str) -> None:
    """In St. John's 0:01 became 23:01: the hour that comes twice counts to the day that has begun."""
    day = datetime(2010, 11, 7, tzinfo=UTC)
    expected = (day + timedelta(hours=2.5), day + timedelta(days=1, hours=3.5), day)
    assert window("day", "America/St_Johns", datetime.fromisoformat(now)) == expected


@pytest.mark.parametrize(("text", "unit"), [("7 requests / minute", "requests"), ("1 request / total", "requests")])
def test_requests_are_counted_as_well(text: str, unit: str) -> None:
    assert budget_limit(text).unit == unit


@pytest.mark.parametrize(("unit", "amount"), [("usd", 4_000), ("images", 3), ("requests", 1)])
def test_what_a_request_takes_depends_on_the_unit(unit: Any, amount: int) -> None:
    assert charged(replace(budget("a"), unit=unit), 4_000, 3) == amount


@pytest.mark.parametrize("text", ["0%", "101%", "50", "5.5%", "080%", 50])
def test_a_threshold_is_a_whole_share_of_the_limit(text: object) -> None:
    with pytest.raises(ValueError, match="written like `80%`"):
        per_cent(text)

"""Zones come from the `tzdata` package, whatever the system's table says."""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from zone_tables import table_file

from policyguard import zones
from policyguard.policy.budget import window
from policyguard.policy.expr.written import zone as zone_in_a_condition

WINTER = datetime(2026, 12, 15, 12, tzinfo=UTC)


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[None]:
    """The system's table has Vancouver where it is not."""
    (tmp_path / "America").mkdir()
    (tmp_path / "America" / "Vancouver").write_bytes(table_file(-3))
    zoneinfo.reset_tzpath([tmp_path])
    zoneinfo.ZoneInfo.clear_cache()
    yield
    zoneinfo.reset_tzpath()
    zoneinfo.ZoneInfo.clear_cache()


@pytest.mark.usefixtures("elsewhere")
def test_the_systems_table_is_not_asked() -> None:
    zones.zone.cache_clear()
    made = zones.zone("America/Vancouver")
    assert WINTER.astimezone(zoneinfo.ZoneInfo("America/Vancouver")).utcoffset() == timedelta(hours=-3)
    assert WINTER.astimezone(made).utcoffset() == timedelta(hours=-7)  # as it is from 2026 on
    assert (str(made), made.key, zone_in_a_condition("America/Vancouver")) == ("America/Vancouver",) * 2 + (made,)
    assert window("day", "America/Vancouver", WINTER).starts == datetime(2026, 12, 15, 7, tzinfo=UTC)


def test_every_zone_of_the_table_can_be_read() -> None:
    for name in zones.names():
        assert WINTER.astimezone(zones.zone(name)).utcoffset() is not None
    assert {"UTC", "Europe/Berlin"} <= zones.names()


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("Berlin", "did you mean `Europe/Berlin`?"),
        ("berlin", "did you mean `Europe/Berlin`?"),
        ("Europe/Berln", "did you mean `Europe/Berlin`?"),
        ("America/Vancouvr", "did you mean `America/Vancouver`?"),
        ("Asia/Kathmando", "did you mean `Asia/Kathmandu`?"),
        ("Elsewhere", ""),
        ("", ""),
    ],
)
def test_a_zone_that_does_not_exist_has_a_hint(name: str, hint: str) -> None:
    with pytest.raises(ValueError, match="no such time zone"):
        zones.zone(name)
    assert zones.near(name) == hint


@pytest.mark.parametrize(
    "name", ["../zoneinfo/UTC", "/etc/localtime", "UTC\0", "America", "utc/", "__init__.py", "zone.tab"]
)
def test_only_names_of_the_table_are_read(name: str) -> None:
    with pytest.raises(ValueError, match="no such time zone"):
        zones.zone(name)


def test_the_table_is_as_new_as_what_it_is_locked_to() -> None:
    assert zones.VERSION >= "2026a"

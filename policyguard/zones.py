"""Time zones, from the `tzdata` package alone, so that every host begins a day at the same time.

`zoneinfo.ZoneInfo(name)` asks the operating system's table first, and those tables differ. Nobody else makes a zone: an
import contract sees to it.
"""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Final
from zoneinfo import ZoneInfo

import tzdata

from policyguard.text.suggest import did_you_mean

VERSION: Final[str] = tzdata.IANA_VERSION  # of the table, like `2026f`


@cache
def names() -> frozenset[str]:
    """Every zone that there is."""
    return frozenset((files(tzdata) / "zones").read_text("utf-8").split())


@cache
def zone(name: str) -> ZoneInfo:
    """Raises ValueError for a name that is not in the table; `near` has a hint."""
    if name not in names():
        raise ValueError("there is no such time zone")
    with files(tzdata).joinpath("zoneinfo", *name.split("/")).open("rb") as table:
        return ZoneInfo.from_file(table, key=name)


def near(name: str) -> str:
    """What was probably meant; empty where nothing is near."""
    city = name.rpartition("/")[2].casefold()
    same = sorted(f"`{known}`" for known in names() if known.rpartition("/")[2].casefold() == city)
    if same:
        return f"did you mean {' or '.join(same)}?"
    region = name.partition("/")[0] + "/"
    return did_you_mean(name, sorted(names(), key=lambda known: (not known.startswith(region), known)))

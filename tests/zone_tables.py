"""Another version of the zone table: files of made-up zones, and a host that has them."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from zoneinfo import ZoneInfo

import pytest

from policyguard.policy import budget


def table_file(hours: int) -> bytes:
    """A zone that is so many hours ahead of UTC, all year, in the format of RFC 8536."""
    header = b"TZif2" + bytes(15) + struct.pack(">6L", 0, 0, 0, 0, 1, 4)
    kind = struct.pack(">lBB", hours * 3600, 0, 0) + b"LMT\0"
    return (header + kind) * 2 + f"\n<{hours:+03}>{-hours}\n".encode()


@contextmanager
def vancouver_at(hours: int) -> Iterator[None]:
    """Budgets of this process are on a host whose table has Vancouver so many hours ahead of UTC."""
    made = ZoneInfo.from_file(io.BytesIO(table_file(hours)), key="America/Vancouver")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(budget, "zone", lambda name: made)
        budget._calendar.cache_clear()
        yield
    budget._calendar.cache_clear()

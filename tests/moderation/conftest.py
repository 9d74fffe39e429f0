from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import pytest
from moderation.upstream import LINES, Line, Side, over


@pytest.fixture(params=["sync", "async"])
def side(request: pytest.FixtureRequest) -> Side:
    return cast(Side, request.param)


@pytest.fixture(params=LINES)
def line(request: pytest.FixtureRequest) -> Iterator[Line]:
    """The line over which moderators of a test ask."""
    chosen = cast(Line, request.param)
    with over(chosen):
        yield chosen

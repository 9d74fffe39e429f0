from __future__ import annotations

from typing import cast

import pytest
from moderation.upstream import Side


@pytest.fixture(params=["sync", "async"])
def side(request: pytest.FixtureRequest) -> Side:
    return cast(Side, request.param)

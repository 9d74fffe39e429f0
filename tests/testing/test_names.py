"""The reasons that a test may name are those that the product gives."""

from __future__ import annotations

import re
from pathlib import Path

from testing.suites import loaded

import policyguard
from policyguard.request import CATEGORIES
from policyguard.testing.names import OTHER_REASONS, REQUEST_REASONS, names

PACKAGE = Path(policyguard.__file__).parent


def test_every_reason_about_a_request_is_known() -> None:
    source = "".join(file.read_text() for file in (PACKAGE / "engine").glob("*.py"))
    denied = {f"request.{name}" for name in re.findall(r'deny\(\s*"([a-z_]+)"', source)}
    written = set(re.findall(r'"(request\.[a-z_]+)"', source)) - {"request.prompt"}
    assert set(REQUEST_REASONS) == denied | written


def test_every_other_built_in_reason_is_known() -> None:
    source = "".join(file.read_text() for folder in ("engine", "flow") for file in (PACKAGE / folder).glob("*.py"))
    found = set(re.findall(r'id="([a-z]+\.[a-z]+)"', source))
    doors_only = {"surface.unknown", "surface.none", "request.malformed", "request.price"}
    doors_only |= {"surface.key", "output.unreadable", "upstream.unavailable"}
    assert found - doors_only <= set(OTHER_REASONS)


def test_names_are_those_of_the_surface_and_the_organisation(tmp_path: Path) -> None:
    found = names(loaded(tmp_path), "avatars")
    assert found.callers == ("user", "tenant", "tier", "feature")
    assert found.budgets == {"user-day": "images", "month": "usd", "tried": "images"}
    assert {"pro-quality", "budget.month", "caller.tier"} <= set(found.reasons)
    assert {f"moderation.{category}" for category in CATEGORIES} <= set(found.reasons)

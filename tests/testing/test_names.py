"""The reasons that a test may name are those that the product gives."""

from __future__ import annotations

import re
from pathlib import Path

from testing.suites import loaded

from policyguard import engine, fit
from policyguard.request import CATEGORIES
from policyguard.testing.names import OTHER_REASONS, REQUEST_REASONS, names


def test_every_reason_about_a_request_is_known() -> None:
    source = Path(fit.__file__).read_text() + Path(engine.__file__).read_text()
    denied = {f"request.{name}" for name in re.findall(r'deny\(\s*"([a-z_]+)"', source)}
    written = set(re.findall(r'"(request\.[a-z_]+)"', source)) - {"request.prompt"}
    assert set(REQUEST_REASONS) == denied | written


def test_every_other_built_in_reason_is_known() -> None:
    folder = Path(engine.__file__).parent
    source = "".join((folder / name).read_text() for name in ("engine.py", "flow.py", "refusal.py"))
    found = set(re.findall(r'id="([a-z]+\.[a-z]+)"', source))
    doors_only = {"surface.unknown", "surface.none", "request.malformed", "request.price"}
    doors_only.add("upstream.unavailable")
    assert found - doors_only <= set(OTHER_REASONS)


def test_names_are_those_of_the_surface_and_the_organisation(tmp_path: Path) -> None:
    found = names(loaded(tmp_path), "avatars")
    assert found.callers == ("user", "tenant", "tier", "feature")
    assert found.budgets == {"user-day": "images", "month": "usd", "tried": "images"}
    assert {"pro-quality", "budget.month", "caller.tier"} <= set(found.reasons)
    assert {f"moderation.{category}" for category in CATEGORIES} <= set(found.reasons)

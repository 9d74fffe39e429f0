"""`policyguard doctor` says which moderators are installed, and which of them is broken."""

from __future__ import annotations

from importlib.metadata import EntryPoint

import pytest

from policyguard.cli.doctor import Diagnosis, _moderators
from policyguard.policy import moderators


def test_each_model_is_listed_with_who_declares_it(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = EntryPoint("acme-shield-2", "acme_not_there:Shield", moderators.GROUP)
    found = {**moderators.installed(), broken.name: (broken,)}
    monkeypatch.setattr(moderators, "installed", lambda: found)
    moderators.declared.cache_clear()
    listed = list(_moderators())
    moderators.declared.cache_clear()
    assert listed[:3] == [
        Diagnosis("ok", "moderation model omni-moderation-latest", "by policyguard, 13 of 13 categories"),
        Diagnosis("ok", "moderation model omni-moderation-2024-09-26", "by policyguard, 13 of 13 categories"),
        Diagnosis("ok", "moderation model keyword", "by policyguard, 13 of 13 categories; sees no pictures"),
    ]
    assert (listed[3].mark, "cannot be imported" in listed[3].says) == ("note", True)

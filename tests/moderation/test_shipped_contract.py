"""The contract that others run on their moderators, run on ours and on the example."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from moderation.upstream import answer, error, ok, over_sdk, over_upstream

from policyguard.moderation import KeywordModerator, ScriptedModerator
from policyguard.policy import moderators
from policyguard.testing.moderators import ModeratorContract


class TestOpenAI(ModeratorContract):
    model = "omni-moderation-latest"

    def make(self) -> Any:
        return over_sdk(lambda request: ok(answer(request)))

    def make_broken(self) -> Any:
        return over_sdk(lambda request: error(500))


class TestOpenAIOfADay(TestOpenAI):
    model = "omni-moderation-2024-09-26"


class TestUpstream(ModeratorContract):
    model = "omni-moderation-latest"

    def make(self) -> Any:
        return over_upstream(lambda request: ok(answer(request)))

    def make_broken(self) -> Any:
        return over_upstream(lambda request: error(500))


class TestKeyword(ModeratorContract):
    model = "keyword"
    harmful = "a murder"

    def make(self) -> Any:
        return KeywordModerator()


class TestExample(ModeratorContract):
    model = "acme-shield-2"
    harmful = "a swordfight"

    @pytest.fixture(autouse=True)
    def _installed(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
        monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "examples"))
        sys.modules.pop("moderator", None)
        entry = moderators.EntryPoint(self.model, "moderator:Shield", moderators.GROUP)
        monkeypatch.setattr(moderators, "installed", lambda: {self.model: (entry,)})
        moderators.declared.cache_clear()
        yield
        moderators.declared.cache_clear()

    def make(self) -> Any:
        from moderator import Shield  # type: ignore[import-not-found]

        return Shield()


def test_a_moderator_that_scores_what_it_does_not_declare_fails_the_contract() -> None:
    class Blind(TestKeyword):
        def make(self) -> Any:
            made = ScriptedModerator()
            made.assesses = moderators.Assesses()
            return made

    with pytest.raises(AssertionError, match="never 0"):
        Blind().test_a_picture_gets_a_score_in_every_declared_category()


def test_every_model_of_ours_is_tested() -> None:
    tested = {one.model for one in (TestOpenAI, TestOpenAIOfADay, TestKeyword)}
    assert {entry.name for entry in moderators._OURS} == tested

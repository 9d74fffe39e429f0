"""What every moderator owes, as tests that a moderator of your own inherits:

    from policyguard.testing.moderators import ModeratorContract

    class TestShield(ModeratorContract):
        model = "acme-shield-2"

        def make(self):
            return Shield()

With `harmful`, a prompt that it scores at 0.5 or more, hidden letters are tested; with `make_broken`, one whose service
is down. No plugin is needed, and nothing goes over a network but what `make` returns does itself.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from typing import TypeVar

import anyio
import pytest

from policyguard.flow.steps import Moderate
from policyguard.moderation.protocols import Moderator
from policyguard.policy import moderators
from policyguard.policy.moderators import Assesses
from policyguard.request import CATEGORIES, ImageRequest, InputImage, Verdict

CANARY = "canary-4711"
_PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360606060000000050001"
    "a5f645400000000049454e44ae426082"
)  # one transparent pixel
T = TypeVar("T")


class ModeratorContract:
    """Inherit it, name the `model`, and return a moderator from `make`: a new one each time, which is closed."""

    model: str
    harmful: str | None = None

    def make(self) -> Moderator:
        """One whose service works."""
        raise NotImplementedError("return a moderator")

    def make_broken(self) -> Moderator | None:
        """One whose service is down; None where it has none."""
        return None

    # ---- what is declared -------------------------------------------------------------------------------------

    def test_an_entry_point_declares_the_model(self) -> None:
        found = moderators.declared(self.model)
        assert not isinstance(found, moderators.Unusable), found.message
        with closed(self.make()) as made:
            assert found.assesses == _assesses(made)

    def test_it_is_a_moderator_that_serves_the_model(self) -> None:
        with closed(self.make()) as made:
            assert isinstance(made, Moderator)
            assert self.model in made.models

    # ---- what is scored ---------------------------------------------------------------------------------------

    def test_a_prompt_gets_a_score_in_every_declared_category(self) -> None:
        for made, verdict in self._both(self._step()):
            assert verdict.error is None
            assert [c for c in sorted(_assesses(made).prompt) if verdict.score(c) is None] == []

    def test_a_picture_gets_a_score_in_every_declared_category(self) -> None:
        for made, verdict in self._both(self._step(prompt=False, images=True)):
            assert [c for c in sorted(_assesses(made).images) if verdict.score(c) is None] == []
            assert verdict.scores.keys() <= _assesses(made).images, "what is not declared is left out, never 0"

    def test_nothing_to_look_at_is_nothing_assessed(self) -> None:
        for _, verdict in self._both(self._step(prompt=False)):
            assert verdict.scores == {}

    def test_a_prompt_that_hides_its_letters_is_scored_as_it_is_read(self) -> None:
        if self.harmful is None:
            pytest.skip("there is no `harmful` prompt")
        for text in (self.harmful, "\u200b".join(self.harmful)):
            for _, verdict in self._both(self._step(text)):
                assert max(verdict.scores.values(), default=0.0) >= 0.5

    # ---- what goes wrong --------------------------------------------------------------------------------------

    def test_a_service_that_is_down_is_a_word_and_never_a_score(self) -> None:
        for verdict in self._broken():
            assert verdict.error is not None
            assert [c for c in CATEGORIES if verdict.score(c) is not None] == []

    def test_no_verdict_repeats_the_prompt(self) -> None:
        said = [repr((made, verdict)) for made, verdict in self._both(self._step(images=True))]
        assert not any(CANARY in text for text in said)

    def test_many_threads_may_ask_at_once(self) -> None:
        with closed(self.make()) as made, ThreadPoolExecutor(8) as pool:
            found = list(pool.map(made.moderate, [self._step()] * 16))
        assert {verdict.error for verdict in found} == {None}

    def test_closing_twice_is_closing_once(self) -> None:
        made = self.make()
        for _ in range(2):
            made.close()
            anyio.run(made.aclose)

    # ---- how it is asked --------------------------------------------------------------------------------------

    def _step(self, text: str = f"a cat {CANARY}", *, prompt: bool = True, images: bool = False) -> Moderate:
        pictures = (InputImage(_PNG, "image/png"),) if images else ()
        request = ImageRequest(prompt=text, operation="edit" if images else "generate", images=pictures)
        return Moderate(self.model, request, prompt, images, 10.0)

    def _both(self, step: Moderate) -> Iterator[tuple[Moderator, Verdict]]:
        """What it says to sync and to async code, which must be the same."""
        with closed(self.make()) as made:
            verdict = _plain(made.moderate(step))
            yield made, verdict
            other = self.make()
            assert _plain(in_loop(other, lambda: other.amoderate(step))) == verdict

    def _broken(self) -> Iterator[Verdict]:
        made, other = self.make_broken(), self.make_broken()
        if made is None or other is None:
            pytest.skip("there is nothing that can be down")
        with closed(made):
            yield made.moderate(self._step())
        yield in_loop(other, lambda: other.amoderate(self._step()))


def _assesses(moderator: Moderator) -> Assesses:
    found: Assesses = moderator.assesses  # type: ignore[attr-defined]
    return found


def _plain(verdict: Verdict) -> Verdict:
    assert isinstance(verdict, Verdict)
    return replace(verdict, latency_ms=0, request_ids=())


@contextmanager
def closed(moderator: Moderator) -> Iterator[Moderator]:
    """Closed at the end, whatever happens."""
    try:
        yield moderator
    finally:
        moderator.close()


def in_loop(moderator: Moderator, ask: Callable[[], Awaitable[T]]) -> T:
    """What async code hears, on an event loop of its own; closed in it."""

    async def run() -> T:
        try:
            return await ask()
        finally:
            await moderator.aclose()

    return anyio.run(run)

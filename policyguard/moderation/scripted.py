"""A moderator with a script, for tests of policies and of applications."""

from __future__ import annotations

import threading
from collections.abc import Mapping

from policyguard.request import CATEGORIES, Verdict
from policyguard.steps import Moderate


class ScriptedModerator:
    """Answers every request with the same scores, 0 where none is given; `error` makes it unavailable.

    Change `scores` and `error` at any time; `calls` counts what it was asked. Serves every model name in `models`.
    """

    def __init__(
        self,
        scores: Mapping[str, float] | None = None,
        *,
        error: str | None = None,
        models: frozenset[str] = frozenset({"omni-moderation-latest", "omni-moderation-2024-09-26", "keyword"}),
    ) -> None:
        self.scores = dict(scores or {})
        self.error = error
        self.models = models
        self.calls = 0
        self._counting = threading.Lock()

    def moderate(self, step: Moderate) -> Verdict:
        """The script's verdict."""
        with self._counting:
            self.calls += 1
        if self.error is not None:
            return Verdict(model=step.model, error=self.error, calls=1)
        return Verdict(model=step.model, scores={**dict.fromkeys(CATEGORIES, 0.0), **self.scores}, calls=1)

    async def amoderate(self, step: Moderate) -> Verdict:
        """`moderate`; there is nothing to wait for."""
        return self.moderate(step)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

"""A moderator with a script, for tests of policies and of applications.

It is part of the product: `policyguard test`, the demo and tests of applications use it.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping

from policyguard.flow.steps import Inquire, Moderate
from policyguard.policy.moderators import OPENAI_ASSESSES
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Answers, Verdict


class ScriptedModerator:
    """Answers every request with the same scores, 0 where none is given; `error` makes it unavailable.

    `answers` are probabilities by question, 0 where none is given; None for one that is refused. `output_scores`
    and `output_error` are for the images that come out. Change any of them at any time; `calls` counts what it was
    asked. Serves every model name in `models`.
    """

    assesses = OPENAI_ASSESSES

    def __init__(
        self,
        scores: Mapping[str, float] | None = None,
        *,
        answers: Mapping[str, float | None] | None = None,
        error: str | None = None,
        output_scores: Mapping[str, float] | None = None,
        output_error: str | None = None,
        models: frozenset[str] = frozenset({"omni-moderation-latest", "omni-moderation-2024-09-26", "keyword"}),
    ) -> None:
        self.scores = dict(scores or {})
        self.answers = dict(answers or {})
        self.error = error
        self.output_scores = dict(output_scores or {})
        self.output_error = output_error
        self.models = models
        self.calls = 0
        self._counting = threading.Lock()

    def moderate(self, step: Moderate) -> Verdict:
        """The script's verdict."""
        with self._counting:
            self.calls += 1
        out = step.stage == "output"
        error, scores = (self.output_error, self.output_scores) if out else (self.error, self.scores)
        if error is not None:
            return Verdict(model=step.model, error=error, calls=1)
        none = dict.fromkeys(IMAGE_CATEGORIES if out else CATEGORIES, 0.0)
        return Verdict(model=step.model, scores={**none, **scores}, calls=1)

    async def amoderate(self, step: Moderate) -> Verdict:
        """`moderate`; there is nothing to wait for."""
        return self.moderate(step)

    def answer(self, step: Inquire) -> Answers:
        """The script's answers."""
        with self._counting:
            self.calls += 1
        if self.error is not None:
            return Answers(model="scripted", error=self.error, calls=1)
        found = {question.name: self.answers.get(question.name, 0.0) for question in step.questions}
        refused = frozenset(name for name, value in found.items() if value is None)
        given = {name: value for name, value in found.items() if value is not None}
        error = "refused" if refused else None
        return Answers(model="scripted", probabilities=given, refused=refused, error=error, calls=1)

    async def aanswer(self, step: Inquire) -> Answers:
        """`answer`; there is nothing to wait for."""
        return self.answer(step)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

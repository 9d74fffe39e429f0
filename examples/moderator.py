"""A moderator of your own: a distribution with this module and an entry point, and policies may name its model.

[project.entry-points."policyguard.moderators"]     # in its pyproject.toml
acme-shield-2 = "acme_shield:Shield"

python examples/moderator.py "a swordfight"          # asks it by hand; docs/moderators.md has the rest
"""

from __future__ import annotations

import sys

import anyio.to_thread

from policyguard.moderation import CATEGORIES, Assesses, Moderate, Verdict
from policyguard.request import ImageRequest


def classify(text: str) -> dict[str, float]:
    """Stands for a call of your model or service: a score from 0 to 1 for each category that it knows."""
    return {**dict.fromkeys(CATEGORIES, 0.0), "violence": 0.9 if "swordfight" in text.casefold() else 0.0}


class Shield:
    """Made without arguments, once in a process. What it needs to know comes from settings of its own."""

    models = frozenset({"acme-shield-2"})
    assesses = Assesses(prompt=frozenset(CATEGORIES))  # no `images`: what a picture may show counts as unavailable

    def moderate(self, step: Moderate) -> Verdict:
        """Score the prompt as it was written, and as a person reads it; the higher score holds."""
        if not step.prompt:
            return Verdict(model=step.model, error="images_not_assessed" if step.images else None)
        try:
            found = [classify(text) for text in step.texts]
        except OSError:  # one word, never the text of an error: it may hold the prompt
            return Verdict(model=step.model, error="connection", calls=1)
        scores = {category: max(one[category] for one in found) for category in CATEGORIES}
        return Verdict(model=step.model, scores=scores, calls=len(found))

    async def amoderate(self, step: Moderate) -> Verdict:
        """In a thread: nothing may block the event loop, and at the time-out nobody waits for it."""
        return await anyio.to_thread.run_sync(self.moderate, step, abandon_on_cancel=True)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""


if __name__ == "__main__":
    prompt = " ".join(sys.argv[1:]) or "a swordfight"
    asked = Moderate("acme-shield-2", ImageRequest(prompt=prompt), prompt=True, images=False, timeout_s=5.0)
    verdict = Shield().moderate(asked)
    print({category: score for category, score in verdict.scores.items() if score})

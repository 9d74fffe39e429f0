"""A plain word list for trials without a key. It is no safety control: it knows a few English words and no meaning.

It serves the moderation model `keyword` only, so a policy that names omni-moderation never gets it by accident. Images
are not assessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from policyguard.moderation.merge import IMAGE_CATEGORIES, Part, merge
from policyguard.request import CATEGORIES, Verdict
from policyguard.steps import Moderate

MODEL = "keyword"
WORDS: Mapping[str, tuple[str, ...]] = {
    "harassment": ("insult", "humiliate", "mock"),
    "harassment/threatening": ("threaten", "intimidate"),
    "hate": ("slur", "inferior race"),
    "hate/threatening": ("exterminate", "ethnic cleansing"),
    "illicit": ("counterfeit", "shoplift", "fake passport"),
    "illicit/violent": ("pipe bomb", "build a weapon"),
    "self-harm": ("self-harm", "suicide"),
    "self-harm/instructions": ("how to harm myself",),
    "self-harm/intent": ("harm myself", "end my life"),
    "sexual": ("nude", "naked", "erotic", "porn"),
    "sexual/minors": ("nude child", "naked child"),
    "violence": ("blood", "murder", "stab", "massacre"),
    "violence/graphic": ("gore", "dismember", "entrails"),
}
_PATTERNS = {
    category: re.compile(r"\b(?:" + "|".join(map(re.escape, words)) + r")", re.IGNORECASE)
    for category, words in WORDS.items()
}


class KeywordModerator:
    """Scores 1 where a listed word starts a word of the prompt, else 0."""

    models = frozenset({MODEL})

    def moderate(self, step: Moderate) -> Verdict:
        parts = []
        if step.prompt:
            text = step.request.prompt
            scores = {category: float(bool(_PATTERNS[category].search(text))) for category in CATEGORIES}
            parts.append(Part(expected=frozenset(CATEGORIES), scores=scores))
        if step.images:
            parts.append(Part(expected=IMAGE_CATEGORIES, scores={}, error="images_not_assessed"))
        return merge(MODEL, parts, 0)

    async def amoderate(self, step: Moderate) -> Verdict:
        return self.moderate(step)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

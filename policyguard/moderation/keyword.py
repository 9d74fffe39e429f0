"""A plain word list for trials without a key. It is no safety control: it knows a few English words and no meaning.

It serves the moderation model `keyword` only, so a policy that names omni-moderation never gets it by accident. Images
are not assessed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from policyguard.flow.steps import Moderate
from policyguard.moderation.merge import PartialVerdict, merge
from policyguard.policy.moderators import Assesses
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Verdict

MODEL = "keyword"
WORDS: Mapping[str, tuple[str, ...]] = {
    "harassment": ("insult", "insulting", "humiliate", "humiliating"),
    "harassment/threatening": ("threaten", "threatening", "intimidate"),
    "hate": ("slur", "slurs", "inferior race"),
    "hate/threatening": ("exterminate", "ethnic cleansing"),
    "illicit": ("counterfeit", "shoplift", "shoplifting", "fake passport"),
    "illicit/violent": ("pipe bomb", "build a weapon"),
    "self-harm": ("self-harm", "suicide"),
    "self-harm/instructions": ("how to harm myself",),
    "self-harm/intent": ("harm myself", "end my life"),
    "sexual": ("nude", "nudes", "naked", "erotic", "porn"),
    "sexual/minors": ("nude child", "naked child"),
    "violence": ("murder", "stabbing", "massacre", "bloodshed"),
    "violence/graphic": ("gore", "gory", "dismembered", "entrails"),
}


def _pattern(words: tuple[str, ...]) -> re.Pattern[str]:
    """Whole words only, so that a mockup is no mocking; any white space between them."""
    return re.compile(r"(?<!\w)(?:" + "|".join(r"\s+".join(map(re.escape, w.split())) for w in words) + r")(?!\w)")


_PATTERNS = {category: _pattern(WORDS[category]) for category in CATEGORIES}


class KeywordModerator:
    """Scores 1 where a listed word stands in the prompt, else 0."""

    models = frozenset({MODEL})
    assesses = Assesses()

    def moderate(self, step: Moderate) -> Verdict:
        """Score the prompt; images are left unassessed."""
        parts = []
        if step.prompt:
            texts = [text.casefold() for text in step.texts]
            scores = {c: float(any(pattern.search(text) for text in texts)) for c, pattern in _PATTERNS.items()}
            parts.append(PartialVerdict(expected=frozenset(CATEGORIES), scores=scores, calls=0))
        if step.images and any(step.request.input_images):
            parts.append(
                PartialVerdict(expected=frozenset(IMAGE_CATEGORIES), scores={}, error="images_not_assessed", calls=0)
            )
        return merge(MODEL, parts, 0)

    async def amoderate(self, step: Moderate) -> Verdict:
        """`moderate`; there is nothing to wait for."""
        return self.moderate(step)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

"""Moderators: text and images in, scores out. One of the two plug-in protocols.

A moderator never raises for what is wrong upstream: it answers with a `Verdict` that says what was not assessed, and
why. Anything that it leaves out counts as unavailable, never as 0. Installed ones declare what they assess with
`Assesses`, and policies name their models.
"""

from __future__ import annotations

from policyguard.flow.steps import Moderate
from policyguard.moderation.keyword import KeywordModerator
from policyguard.moderation.protocols import Answerer, Moderator
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.policy.moderators import Assesses
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Verdict

__all__ = [
    "CATEGORIES",
    "IMAGE_CATEGORIES",
    "Answerer",
    "Assesses",
    "KeywordModerator",
    "Moderate",
    "Moderator",
    "ScriptedModerator",
    "Verdict",
]

"""Moderators: text and images in, scores out. One of the two plug-in protocols.

A moderator never raises for what is wrong upstream: it answers with a `Verdict` that says what was not assessed, and
why. Anything that it leaves out counts as unavailable, never as 0.
"""

from __future__ import annotations

from typing import Protocol

from policyguard.moderation.keyword import KeywordModerator
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Verdict
from policyguard.steps import Moderate

__all__ = ["KeywordModerator", "Moderator", "ScriptedModerator"]


class Moderator(Protocol):
    """Scores requests. `models` are the names in policies that it serves."""

    @property
    def models(self) -> frozenset[str]: ...

    def moderate(self, step: Moderate) -> Verdict:
        """Score what `step` asks for, within `step.timeout_s`."""

    async def amoderate(self, step: Moderate) -> Verdict:
        """`moderate` for async code."""

    def close(self) -> None: ...

    async def aclose(self) -> None: ...

"""What a moderator is, and what one can do beside.

`Moderator` has to be there, `Answerer` may. Whoever writes one needs nothing else of this package.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from policyguard.flow.steps import Inquire, Moderate
from policyguard.request import Answers, Verdict


@runtime_checkable
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


@runtime_checkable
class Answerer(Protocol):
    """What a moderator can do beside: answer the questions of policies. Policies with questions need one that does.

    As with scores nothing is raised for what is wrong upstream: a question without an answer is left out.
    """

    def answer(self, step: Inquire) -> Answers:
        """Answer the questions of `step`, within `step.timeout_s`."""

    async def aanswer(self, step: Inquire) -> Answers:
        """`answer` for async code."""

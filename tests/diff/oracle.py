"""A guard as the oracle of what policies decide: requests go through it on a real store, to the very end.

What is held is approved and sent, and what comes out is looked at. Nothing is decided here: effects are read from the
kind of answer that the guard gives, and reasons from its answers and its record.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from policyguard.audit.keys import open_vault
from policyguard.audit.private import Vault
from policyguard.decision import Admitted, Effect, Held, Reason, Refused, Ticket
from policyguard.flow.rows import reason_row
from policyguard.flow.steps import Inquire, Moderate
from policyguard.guard.guard import Guard
from policyguard.policy import world as worlds
from policyguard.policy.model import PolicySet
from policyguard.policy.world import NOON, World
from policyguard.request import Answer, Answers, ImageRequest, InputImage, Outcome, Output, Verdict
from policyguard.store import Store, open_store

SURFACE = "avatars"
MADE = Output(images=(InputImage(b"png", "image/png"),), answer=Answer(status=200, content_type="a/b", body=b"{}"))
UNBILLED = Outcome(status=400, definite=True)  # the reservation is released: no case spends what another one has
Said = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Heard:
    """What the guard did. `at_once`: when the request came; `in_all`: a held one's answer included.

    Reasons are rows as the record has them, sorted. `sent` is what goes upstream, None where nothing does.
    """

    at_once: Effect
    said_at_once: Said
    in_all: Effect
    said: Said
    sent: ImageRequest | None
    was_held: bool


def said(reasons: tuple[Reason, ...]) -> Said:
    return told(map(reason_row, reasons))


def told(rows: Any) -> Said:
    return tuple(sorted(orjson.dumps(row, option=orjson.OPT_SORT_KEYS).decode() for row in rows))


class Oracle:
    """One store; a guard for each set of policies. It is also the moderator: it says what the world has."""

    models = frozenset({"omni-moderation-latest"})

    def __init__(self, store: Store, vault: Vault) -> None:
        self.store, self.vault = store, vault
        self.world: World = {"now": NOON}

    def guard(self, policies: PolicySet) -> Guard:
        return Guard(policies, store=self.store, moderator=self, vault=self.vault, clock=lambda: self.world["now"])

    # ---- as a moderator ---------------------------------------------------------------------------------------

    def moderate(self, step: Moderate) -> Verdict:
        if step.stage == "output":
            return worlds.output_verdict(self.world, step.model)
        seen = worlds.verdict(self.world, step.model, prompt=step.prompt, images=step.images)
        assert seen is not None
        return seen

    def answer(self, step: Inquire) -> Answers:
        known = worlds.answers(self.world)
        return Answers(model="any", probabilities={q.name: known[q.name] for q in step.questions if q.name in known})

    async def amoderate(self, step: Moderate) -> Verdict:
        return self.moderate(step)

    async def aanswer(self, step: Inquire) -> Answers:
        return self.answer(step)

    def close(self) -> None:
        """The store is closed by who opened it."""

    async def aclose(self) -> None:
        """The same."""

    # ---- as an oracle -----------------------------------------------------------------------------------------

    def hear(self, guard: Guard, world: World) -> Heard:
        """What a request of this world comes to."""
        self.world = world
        request, caller = worlds.request(world), worlds.caller(world)
        answer = guard.admit(request, caller, surface=SURFACE)
        first, before = answer, answer.decision.reasons
        if isinstance(answer, Held):
            self._approve(guard, answer)
            answer = guard.admit(request, caller, surface=SURFACE, review_id=answer.review_id)
            if isinstance(answer, Refused):  # what is approved is sent, unless there is no money for it
                reasons = answer.decision.reasons
                assert {r.id for r in reasons if r not in before} == {"budget.few"}, reasons
                return Heard(Effect.REVIEW, said(before), Effect.DENY, said(reasons), None, True)
        if isinstance(answer, Refused):
            return Heard(Effect.DENY, said(before), Effect.DENY, said(before), None, False)
        assert isinstance(answer, Admitted)
        after, rows = self._ended(guard, answer.ticket)
        own = Effect.REVIEW if isinstance(first, Held) else answer.decision.effect
        whole = told((*map(reason_row, before), *rows))
        sent = None if after is Effect.DENY else answer.request
        if isinstance(first, Held):
            return Heard(Effect.REVIEW, said(before), max(own, after), whole, sent, True)
        return Heard(max(own, after), whole, max(own, after), whole, sent, False)

    def _approve(self, guard: Guard, held: Held) -> None:
        review = guard.policies.surfaces[SURFACE].review
        for reviewer in review.reviewers[: review.approvals]:
            self.store.vote(held.review_id, reviewer, "approve", "a trial", self.world["now"])

    def _ended(self, guard: Guard, ticket: Ticket) -> tuple[Effect, list[Mapping[str, Any]]]:
        """What is said of the answer. Nothing is said of one that is not looked at."""
        assert guard.sent(ticket)
        if ticket.output is None:
            guard.settle(ticket, UNBILLED)
            return Effect.ALLOW, []
        answer = guard.inspect(ticket, UNBILLED, MADE)
        (event,) = self.store.events(type="output.inspected", decision_id=ticket.decision_id)
        rows = event.event.body["reasons"]
        if answer is None:
            flagged = any(row["effect"] == "flag" and row["mode"] == "enforce" for row in rows)
            return Effect.FLAG if flagged else Effect.ALLOW, rows
        return Effect.DENY if isinstance(answer, Refused) else Effect.REVIEW, rows


@contextmanager
def oracle(folder: Path) -> Iterator[Oracle]:
    vault = open_vault(folder / "key", create=True)
    store = open_store(f"sqlite:///{folder / 'record.sqlite3'}", vault=vault, synchronous="NORMAL")
    try:
        yield Oracle(store, vault)
    finally:
        store.close()

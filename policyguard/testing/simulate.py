"""One request through the product's own flow, with every answer of the outside world given beforehand.

Moderation answers with given scores, budgets with what is said to be spent, the stop button as told. Nothing is stored,
nothing is asked, and the clock stands: the same case is decided alike for ever.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Final, Literal

from policyguard.decision import Adjustment, Admitted, Decision, Reason, combine
from policyguard.engine import decide
from policyguard.engine.callers import resolve_caller
from policyguard.engine.decide import Screened
from policyguard.flow.admit import admit
from policyguard.flow.ask import Ask
from policyguard.flow.drive import drive
from policyguard.flow.reasons import budget_reason, paused_reason
from policyguard.flow.steps import (
    CheckPaused,
    Hold,
    Look,
    Moderate,
    OverBudget,
    Pause,
    Reserve,
    Reserved,
    Step,
)
from policyguard.policy.model import Policy, PolicySet, Question
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES, Answers, Caller, ImageRequest, Verdict

EffectWord = Literal["allow", "flag", "review", "deny"]
SumScope = Literal["all", "surface", "tenant", "user"]
NOON: Final = datetime(2026, 1, 15, 12, 0, tzinfo=UTC)  # a Thursday: when it is where a case does not say
_EMPTY: Mapping[str, Any] = MappingProxyType({})


def _empty() -> Mapping[str, Any]:
    return _EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A request and the world around it. Scores, answers and sums that are not there are 0; None is unavailable.

    `output` are the scores of the images that come out. `spent` is micro-dollars, images or requests by budget id, for
    the caller's own window. `now` is aware UTC.
    """

    request: ImageRequest
    caller: Caller = field(default_factory=Caller)
    scores: Mapping[str, float | None] = field(default_factory=_empty)
    output: Mapping[str, float | None] = field(default_factory=_empty)
    answers: Mapping[str, float | None] = field(default_factory=_empty)
    spent: Mapping[str, int] = field(default_factory=_empty)
    paused: SumScope | None = None
    now: datetime = NOON


@dataclass(frozen=True, slots=True, kw_only=True)
class Simulated:
    """How a case was decided. `over` are shadow budgets without room; `ceiling_micros` None: no money was asked for.

    `answered`: it went upstream, so whatever reads the output was looked at.
    """

    decision: Decision
    over: tuple[Reason, ...]
    ceiling_micros: int | None
    answered: bool = False

    @property
    def outcome(self) -> str:
        return self.decision.effect.word

    @property
    def reasons(self) -> tuple[Reason, ...]:
        """What counted."""
        return tuple(reason for reason in self.decision.reasons if reason.enforced)

    @property
    def shadow(self) -> tuple[Reason, ...]:
        """What was only recorded: rules, surfaces and budgets in shadow mode, and exempted rules."""
        return (*(reason for reason in self.decision.reasons if not reason.enforced), *self.over)

    @property
    def adjustments(self) -> tuple[Adjustment, ...]:
        return self.decision.adjustments


def simulate(policies: PolicySet, surface: str, case: Case) -> Simulated:
    """Decide `case` as a guard with these policies would. `surface` is one of theirs."""
    world = _Simulation(policies.surfaces[surface], case)
    ask = Ask(
        request=case.request,
        caller=case.caller,
        surface=surface,
        now=case.now,
        decision_id="dec_test",
        leg_id="leg_test",
        new_review_id="rev_test",
    )
    answer = drive(admit(policies, ask, _PlainKeys()), world.perform)
    decision = _inspected(answer, case) if isinstance(answer, Admitted) else answer.decision
    return Simulated(
        decision=decision,
        over=tuple(world.over),
        ceiling_micros=world.ceiling_micros,
        answered=isinstance(answer, Admitted),
    )


def _inspected(admitted: Admitted, case: Case) -> Decision:
    """With what is said of the answer, where the policy looks at it."""
    looking, decision = admitted.ticket.output, admitted.decision
    if looking is None:
        return decision
    verdict = output_verdict(looking.policy, case)
    before = (decision.verdict, decision.answers)
    found = decide.inspect(looking.policy, admitted.request, looking.caller, case.now, *before, verdict)
    reasons = (*decision.reasons, *found)
    return replace(decision, effect=combine(reasons), reasons=reasons)


def output_verdict(policy: Policy, case: Case) -> Verdict | None:
    """What moderation says of the images that come out; None where it is not asked."""
    return _verdict(policy.moderation.model, case.output, IMAGE_CATEGORIES) if policy.checks_output else None


def screened(policies: PolicySet, surface: str, case: Case) -> Screened:
    """What the engine knows of the case before moderation."""
    caller, reasons = resolve_caller(policies.caller, case.caller)
    pause = _pause(case)
    if pause is not None:
        reasons = (*reasons, paused_reason(pause))
    return decide.screen(policies.surfaces[surface], case.request, caller, case.now, found=reasons)


def assessed(before: Screened, case: Case) -> tuple[Verdict | None, Answers]:
    """What moderation and the questions say, also of a request that is refused before it is asked.

    The verdict is None where nothing of such a request is moderated.
    """
    policy, verdict = before.policy, None
    if before.check_prompt or before.check_images:
        verdict = _verdict(policy.moderation.model, case.scores)
    return verdict, _answers(policy.questions, case.answers)


class _PlainKeys:
    """Keys that hide nothing: what a case says is the author's own, and it goes nowhere."""

    def pseudonym(self, kind: str, text: str) -> str:
        return text

    def safety_identifier(self, user: str) -> str:
        return user


@dataclass(slots=True)
class _Simulation:
    """Answers the steps of one flow."""

    policy: Policy
    case: Case
    over: list[Reason] = field(default_factory=list)
    ceiling_micros: int | None = None

    def perform(self, step: Step) -> Any:
        match step:
            case CheckPaused():
                return _pause(self.case)
            case Moderate():
                return _verdict(step.model, self.case.scores)
            case Look():
                scored = _verdict(step.moderate.model, self.case.scores) if step.moderate else None
                return scored, _answers(step.inquire.questions, self.case.answers)
            case Reserve():
                self.ceiling_micros = step.ceiling_micros
                return self._reserve(step)
            case Hold():
                self.ceiling_micros = step.ceiling_micros
        return None

    def _reserve(self, step: Reserve) -> Reserved | OverBudget:
        """As the ledger: the first enforced budget without room refuses, and nothing else is then looked at."""
        full = [
            OverBudget(charge, self.case.spent.get(charge.budget_id, 0), 0)
            for charge in step.charges
            if self.case.spent.get(charge.budget_id, 0) + charge.amount > charge.limit
        ]
        refusing = next((answer for answer in full if answer.charge.mode == "enforce"), None)
        if refusing is not None:
            return refusing
        self.over = [budget_reason(answer, self.policy)._replace(mode="shadow") for answer in full]
        return Reserved(tuple(answer.charge.budget_id for answer in full))


def _pause(case: Case) -> Pause | None:
    return Pause(case.paused, "", "a test", "a test", case.now) if case.paused else None


def _verdict(model: str, given: Mapping[str, float | None], assessed: tuple[str, ...] = CATEGORIES) -> Verdict:
    """Every category is assessed but those that are said to be unavailable."""
    scores = {category: given.get(category, 0.0) for category in assessed}
    known = {category: score for category, score in scores.items() if score is not None}
    return Verdict(model=model, scores=known, error=None if known else "down")


def _answers(asked: Iterable[Question], given: Mapping[str, float | None]) -> Answers:
    found = {question.name: given.get(question.name, 0.0) for question in asked}
    known = {name: value for name, value in found.items() if value is not None}
    return Answers(model="a test", probabilities=known, error=None if len(known) == len(found) else "down")

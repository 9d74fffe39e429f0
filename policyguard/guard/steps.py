"""What a door that is written once, for sync and async, asks its guard for: one value for each question.

A door is a generator over these; `perform` and `aperform` answer, `drive` and `adrive` run it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from policyguard.decision import Reason, Ticket
from policyguard.errors import InvalidRequest
from policyguard.flow.ask import AskOptions
from policyguard.request import Caller, ImageRequest, Outcome, Output

if TYPE_CHECKING:
    from policyguard.guard.guard import Guard


@dataclass(frozen=True, slots=True)
class Admit:
    """Answer: `Admission`."""

    request: ImageRequest
    caller: Caller
    surface: str
    options: AskOptions


@dataclass(frozen=True, slots=True)
class Reject:
    """Answer: `Refused`."""

    error: InvalidRequest | Reason
    surface: str | None
    caller: Caller
    door: str
    address: str | None = None


@dataclass(frozen=True, slots=True)
class SettleLeg:
    """Answer: `Settled`."""

    ticket: Ticket
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class Inspect:
    """Look at an answer, and settle its leg where it `settles`: else a call inside did.

    Answer: `Refused`, `Held`, or None where it is released.
    """

    ticket: Ticket
    outcome: Outcome
    output: Output
    settles: bool


GuardStep = Admit | Reject | SettleLeg | Inspect


def perform(guard: Guard, step: GuardStep) -> Any:
    match step:
        case Admit():
            return guard.admit(step.request, step.caller, surface=step.surface, **step.options)
        case Reject():
            return guard.reject(
                step.error, surface=step.surface, caller=step.caller, door=step.door, address=step.address
            )
        case SettleLeg():
            return guard.settle(step.ticket, step.outcome)
        case Inspect():
            return guard.inspect(step.ticket, step.outcome, step.output, settles=step.settles)


async def aperform(guard: Guard, step: GuardStep) -> Any:
    """`perform` for async code. Settling is shielded from cancellation."""
    match step:
        case Admit():
            return await guard.aadmit(step.request, step.caller, surface=step.surface, **step.options)
        case Reject():
            return await guard.areject(
                step.error, surface=step.surface, caller=step.caller, door=step.door, address=step.address
            )
        case SettleLeg():
            return await guard.asettle(step.ticket, step.outcome)
        case Inspect():
            return await guard.ainspect(step.ticket, step.outcome, step.output, settles=step.settles)

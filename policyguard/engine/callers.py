"""Who asks, as the organisation declares it: values that are missing, unknown or not among the declared ones.

Every reason that is about who asks is made here.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyguard.decision import Effect, Kind, Place, Reason
from policyguard.errors import ConfigError
from policyguard.policy.model import CallerField, Policy
from policyguard.request import Caller, IdentityValue
from policyguard.text.suggest import known_names, one_of, shown

_MAX_CHARS = 256


def check_caller(fields: tuple[CallerField, ...], given: Caller) -> None:
    """Raises `ConfigError` for a name that means nothing: it is misspelt, and the value that was meant is missing.

    The six names that a `Caller` has are none of these, also where the organisation does not use one.
    """
    for name in given.attributes:
        declared = [spec.name for spec in fields]
        if name not in declared:
            hint = known_names(str(name), declared) or "it declares none"
            raise ConfigError(f"org.yaml declares no caller value {shown(str(name))}: {hint}")


def resolve_caller(fields: tuple[CallerField, ...], given: Caller) -> tuple[Caller, tuple[Reason, ...]]:
    """The caller as the organisation declares it: its defaults filled in, values that it does not declare dropped."""
    values: dict[str, IdentityValue] = {}
    reasons: list[Reason] = []
    for spec in fields:
        value = given.get(spec.name) or spec.default
        problem = _caller_problem(spec, value)
        if problem:
            reasons.append(caller_reason(spec.name, problem, spec.place, one_of(spec.values)))
        elif value is not None:
            values[spec.name] = value
    # what was given is in its one form already, and mostly all of it is declared
    return given if values == given.values else Caller.of(values), tuple(reasons)


def _caller_problem(spec: CallerField, value: str | None) -> str | None:
    if value is None:
        return f"the caller's `{spec.name}` is missing" if spec.required else None
    if len(value) > _MAX_CHARS or not value.isprintable():
        return f"the caller's `{spec.name}` is no short printable text"
    if spec.values and value not in spec.values:
        return f"the caller's `{spec.name}` is not one of the declared values"
    return None


def caller_reason(name: str, message: str, place: Place | None = None, hint: str = "") -> Reason:
    return Reason(f"caller.{name}", Kind.CALLER, Effect.DENY, message, place, hint=hint)


def nobodys(what: str) -> Reason:
    """An approval is somebody's: without a name anybody could use it."""
    return caller_reason("user", f"{what} that is reviewed needs a user")


def missing_callers(policy: Policy, caller: Caller) -> Iterator[Reason]:
    for name in policy.prepared.per:
        if name not in caller.values:
            place = next(budget.place for budget in policy.budgets if budget.per == name)
            yield caller_reason(name, f"the caller's `{name}` is missing, and a budget is kept per `{name}`", place)

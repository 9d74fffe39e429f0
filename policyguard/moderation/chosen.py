"""Whether a guard has what its policies name and ask: each model has a moderator that is there and serves it.

A guard asks once, when it opens and at each reload, so that no request finds out.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyguard.errors import ConfigError, Diagnostic, PolicyError
from policyguard.moderation.installed import Installed
from policyguard.moderation.protocols import Answerer, Moderator
from policyguard.policy.model import Policy, PolicySet


def check_moderator(policies: PolicySet, *, moderator: Moderator) -> None:
    """Of the installed ones those that are named are made here, once. Raises `PolicyError`."""
    surfaces = policies.surfaces.values()
    named = {policy.moderation.model: _of(policy.moderation.model, moderator) for policy in surfaces}
    wrong = [problem for policy in surfaces for problem in _problems(policy, named[policy.moderation.model])]
    if wrong:
        raise PolicyError(wrong)


def _of(model: str, moderator: Moderator) -> Moderator | ConfigError:
    try:
        return moderator.made(model) if isinstance(moderator, Installed) else moderator
    except ConfigError as error:
        return error


def _problems(policy: Policy, found: Moderator | ConfigError) -> Iterator[Diagnostic]:
    if isinstance(found, ConfigError):
        message = f"the moderator of `{policy.moderation.model}` cannot be made: {found}"
        hint = "set what it needs, or give a moderator: `Guard.open(..., moderator=...)`"
        yield _problem(policy, "PG508", message, hint)
        return
    if policy.moderation.model not in found.models:
        message = f"surface `{policy.surface}` names the moderation model `{policy.moderation.model}`"
        served = ", ".join(f"`{name}`" for name in sorted(found.models))
        yield _problem(policy, "PG505", message, f"the given moderator serves {served} only")
    if policy.questions and not isinstance(found, Answerer):
        yield _not_answered(policy)


def _problem(policy: Policy, code: str, message: str, hint: str) -> Diagnostic:
    file, line, column = policy.moderation.place
    return Diagnostic(file=file, line=line, column=column, code=code, message=message, path="moderation", hint=hint)


def _not_answered(policy: Policy) -> Diagnostic:
    question = policy.questions[0]
    message = f"surface `{policy.surface}` asks the question `{question.name}`"
    file, line, column = question.place
    hint = "the given moderator answers none"
    return Diagnostic(file=file, line=line, column=column, code="PG507", message=message, path="questions", hint=hint)

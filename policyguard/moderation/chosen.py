"""Which moderator a guard has: one that serves what its policies name and ask, and by default none that is weak."""

from __future__ import annotations

from policyguard.errors import ConfigError, Diagnostic, PolicyError
from policyguard.moderation import Answerer, Moderator
from policyguard.policy.model import Policy, PolicySet
from policyguard.settings import openai_key


def check_moderator(policies: PolicySet, *, moderator: Moderator) -> None:
    """Raises `PolicyError`."""
    surfaces = policies.surfaces.values()
    wrong = [_not_served(policy, moderator) for policy in surfaces if policy.moderation.model not in moderator.models]
    if not isinstance(moderator, Answerer):
        wrong += [_not_answered(policy) for policy in surfaces if policy.questions]
    if wrong:
        raise PolicyError(wrong)


def _not_answered(policy: Policy) -> Diagnostic:
    question = policy.questions[0]
    message = f"surface `{policy.surface}` asks the question `{question.name}`"
    file, line, column = question.place
    hint = "the given moderator answers none"
    return Diagnostic(file=file, line=line, column=column, code="PG507", message=message, path="questions", hint=hint)


def _not_served(policy: Policy, moderator: Moderator) -> Diagnostic:
    model, (file, line, column) = policy.moderation.model, policy.moderation.place
    message = f"surface `{policy.surface}` names the moderation model `{model}`"
    hint = f"the given moderator serves {', '.join(f'`{name}`' for name in sorted(moderator.models))} only"
    return Diagnostic(file=file, line=line, column=column, code="PG505", message=message, path="moderation", hint=hint)


def default_moderator() -> Moderator:
    """OpenAI's, where a key is set. Nothing weaker is ever chosen silently."""
    from policyguard.moderation.openai import OpenAIModerator  # here, because importing the SDK takes a second

    if openai_key() is None:
        raise ConfigError(
            "no key for moderation: set `OPENAI_API_KEY`, or give a moderator, for example "
            "`Guard.open(..., moderator=KeywordModerator())` with `moderation: {model: keyword}` in the policies"
        )
    return OpenAIModerator()

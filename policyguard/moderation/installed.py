"""The moderators that are installed, as one: what a policy asks goes to the one that declares its model.

Each is made once, when a set of policies that names a model of it is put in force, never during a request.
"""

from __future__ import annotations

import logging
from contextlib import AsyncExitStack, ExitStack
from dataclasses import replace

from policyguard.errors import ConfigError
from policyguard.flow.steps import Inquire, Moderate
from policyguard.logs import say
from policyguard.moderation.protocols import Answerer, Moderator
from policyguard.policy import moderators
from policyguard.policy.moderators import Unusable
from policyguard.request import Answers, Verdict


class Installed:
    """Asks the installed moderators. What `given` serves goes to it, whoever declares it; it is closed with them."""

    def __init__(self, given: Moderator | None = None) -> None:
        self._given = given
        self._made: dict[str, Moderator] = {} if given is None else {"given": given}  # by what makes them
        self._by_model: dict[str, Moderator] = {} if given is None else dict.fromkeys(given.models, given)

    @property
    def models(self) -> frozenset[str]:
        """All that are declared."""
        return frozenset(moderators.installed()).union(self._by_model)

    def made(self, model: str) -> Moderator:
        """The moderator of a model, made where it is not there yet. Raises `ConfigError`."""
        if model not in self._by_model:
            declaration = moderators.declared(model)
            if isinstance(declaration, Unusable):
                raise ConfigError(declaration.message)
            made_by = moderators.installed()[model][0].value
            if made_by not in self._made:
                self._made[made_by] = _make(declaration)
            self._by_model[model] = self._made[made_by]
        return self._by_model[model]

    def moderate(self, step: Moderate) -> Verdict:
        """The verdict of the moderator that declares the model."""
        return _declared(step, self._of(step.model).moderate(step))

    async def amoderate(self, step: Moderate) -> Verdict:
        """`moderate` for async code."""
        return _declared(step, await self._of(step.model).amoderate(step))

    def answer(self, step: Inquire) -> Answers:
        """The answers of the moderator that declares the surface's moderation model."""
        return self._answerer(step.model).answer(step)

    async def aanswer(self, step: Inquire) -> Answers:
        """`answer` for async code."""
        return await self._answerer(step.model).aanswer(step)

    def _of(self, model: str) -> Moderator:
        """Without a lock, which a fork could copy locked: a request makes nothing."""
        try:
            return self._by_model[model]
        except KeyError:
            raise ConfigError(f"no policy in force names the moderation model `{model}`") from None

    def _answerer(self, model: str) -> Answerer:
        found = self._of(model)
        if not isinstance(found, Answerer):
            raise ConfigError(f"the moderator of `{model}` answers no questions")
        return found

    def close(self) -> None:
        """Close all of them, also where one of them cannot be closed."""
        with ExitStack() as closing:
            for made in self._made.values():
                closing.callback(_close, made)

    async def aclose(self) -> None:
        """`close` for async code."""
        async with AsyncExitStack() as closing:
            for made in self._made.values():
                closing.push_async_callback(_aclose, made)


def _close(made: Moderator) -> None:
    try:
        made.close()
    except Exception as error:
        _unclosed(error)


async def _aclose(made: Moderator) -> None:
    try:
        await made.aclose()
    except Exception as error:
        _unclosed(error)


def _unclosed(error: Exception) -> None:
    """The rest is to be closed all the same; its words are not ours to show: they may hold a key."""
    raised = type(error).__name__
    say(logging.WARNING, "moderator.unclosed", "a moderator could not be closed: %s", raised, raised=raised)


def _make(declaration: moderators.Declaration) -> Moderator:
    """Of what it raises only our own words are kept: those of others may hold a key."""
    try:
        made = declaration()
    except ConfigError:
        raise
    except (Exception, SystemExit) as error:
        raise ConfigError(f"it raised {type(error).__name__}") from error
    if not isinstance(made, Moderator):
        raise ConfigError("what was made is no moderator")
    return made


def _declared(step: Moderate, verdict: Verdict) -> Verdict:
    """What a moderator does not declare counts as not assessed, whatever it says."""
    pictures = step.images and any(step.request.input_images)
    missing = moderators.assessed(step.model).missing(prompt=step.prompt, images=pictures)
    return replace(verdict, incomplete=missing | verdict.incomplete) if missing else verdict

"""Whether the moderation model of a policy can be used, and assesses what the policy has thresholds for.

What is not assessed is unavailable, never fine. Where every request would be denied for it, the policy does not load.
"""

from __future__ import annotations

from collections.abc import Iterator

from policyguard.decision import Effect
from policyguard.policy.limits import THRESHOLDS, Effective, WrittenValue
from policyguard.policy.model import Policy
from policyguard.policy.moderators import DEFAULT_MODEL, Unusable, assessed, declared
from policyguard.text.suggest import known_names, listed


def check_model(found: Effective) -> None:
    """The model, and the thresholds that stand beside it, of a surface or of the organisation's defaults."""
    leaf = found.get("moderation", "model")
    model = DEFAULT_MODEL if leaf is None else leaf.value
    declaration = declared(model)
    if isinstance(declaration, Unusable):
        _unusable(found, leaf, declaration)
        return
    known = declaration.assesses.prompt | declaration.assesses.images
    for threshold, category in _thresholds(found):
        if category not in known:
            message = f"`{model}` does not assess `{category}`"
            found.problem(threshold, "PG206", message, known_names(category, sorted(known)))


def _unusable(found: Effective, leaf: WrittenValue | None, problem: Unusable) -> None:
    if leaf is None:
        found.source.problem(("surface",) if found.source is not found.org else (), *problem)
    elif _is_own(found, leaf):  # else it is reported of org.yaml
        found.problem(leaf, *problem)


def _is_own(found: Effective, leaf: WrittenValue) -> bool:
    return leaf.named or found.source is found.org


def _thresholds(found: Effective) -> Iterator[tuple[WrittenValue, str]]:
    """Those that this file sets by the name of a category."""
    for path, leaf in found.values.items():
        if path[0] == "moderation" and path[1] in THRESHOLDS and path[2] != "default" and _is_own(found, leaf):
            yield leaf, str(path[2])


def check_assessed(found: Effective, policy: Policy) -> None:
    """A model that leaves something of every prompt unassessed denies every request, unless people decide then."""
    rules, leaf = policy.moderation, found.get("moderation", "model")
    missing = assessed(rules.model).missing(prompt="prompt" in rules.check, images=False)
    if leaf is None or not missing or policy.mode != "enforce" or rules.when_unavailable is not Effect.DENY:
        return
    message = f"`{rules.model}` does not assess {listed(sorted(missing))} in prompts, so every request would be denied"
    hint = "write `when_unavailable: review`, or name a model that assesses all categories"
    found.problem(leaf, "PG208", message, hint)

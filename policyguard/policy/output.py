"""Whether a surface that looks at output can do it: its moderator sees pictures, and where they stand is known.

What could only be withheld, or never be looked at, does not load: an answer is paid for by then.
"""

from __future__ import annotations

from policyguard.policy.limits import Effective
from policyguard.policy.model import Expression, Policy
from policyguard.policy.moderators import assessed
from policyguard.policy.source import YAMLPath
from policyguard.text.suggest import listed

_CHECK = "write `moderation: {check: [prompt, input_images, output_images]}`"


def check_output(found: Effective, policy: Policy) -> None:
    """Problems go to the file that says it."""
    if policy.checks_output:
        _check_sight(found, policy.moderation.model)
    if policy.inspects_output:
        _check_routes(found)
    if not policy.checks_output:
        _check_rules(found, policy)


def _check_sight(found: Effective, model: str) -> None:
    """Whether the model assesses all of a picture."""
    assesses, blamed = assessed(model), found.get("moderation", "check")
    missing = assesses.missing(prompt=False, images=True)
    if missing and blamed is not None:
        lacks = f"does not assess {listed(sorted(missing))} in pictures" if assesses.images else "sees no pictures"
        hint = "name `omni-moderation-latest`, or leave `output_images` out"
        message = f"`{model}` {lacks}, so every answer would be withheld"
        found.problem(blamed, "PG208", message, hint, item="output_images")


def _check_routes(found: Effective) -> None:
    for index, row in enumerate(found.source.data.get("routes") or []):
        if isinstance(row, dict) and "images" not in row:
            hint = "write it like `images: response.data[].b64_json`"
            message = "output images are looked at here, and it is not known where this answer has them"
            found.source.problem(("routes", index), "PG209", message, hint)


def _check_rules(found: Effective, policy: Policy) -> None:
    """Conditions over pictures that nobody scores."""
    own = {row["id"]: ("rules", index, "when") for index, row in enumerate(found.source.data.get("rules") or [])}
    for rule in policy.rules:
        if _reads_output(rule.when):
            where: YAMLPath = own.get(rule.id, ("surface",))
            who = "this" if rule.id in own else f"the organisation's rule `{rule.id}` ({rule.place})"
            message = f"{who} reads `output`, and output images are not checked here"
            found.source.problem(where, "PG209", message, _CHECK)
    for index, exemption in enumerate(policy.exempt):
        if _reads_output(exemption.when):
            message = "this reads `output`, and output images are not checked here"
            found.source.problem_at(exemption.place.line, exemption.place.column, ("exempt", index), "PG209", message)


def _reads_output(condition: Expression) -> bool:
    return any(name.split(".", 1)[0] == "output" for name in condition.reads)

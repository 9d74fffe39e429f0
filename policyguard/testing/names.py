"""The names that a test may use: what a surface declares, and every reason that it can give.

They are read from the policies, so that a misspelt name in a test is an error and not a test that passes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from policyguard.policy.model import PolicySet, Unit
from policyguard.policy.source import Source, YAMLPath
from policyguard.request import CATEGORIES, IMAGE_CATEGORIES
from policyguard.text.suggest import known_names

# Reasons that the engine and the flow give whatever a policy says.
REQUEST_REASONS: Final = (
    "request.model",
    "request.size",
    "request.quality",
    "request.n",
    "request.output_format",
    "request.partial_images",
    "request.prompt",
    "request.input_images",
    "request.responses",
    "request.extra",
    "request.price",
)
OTHER_REASONS: Final = (
    "moderation.unavailable",
    "review.required",
    "review.output",
    "output.unavailable",
    "caller.user",
    "paused.all",
    "paused.surface",
    "paused.tenant",
    "paused.user",
)


@dataclass(frozen=True, slots=True)
class Names:
    """What one surface knows. `budgets` has the unit of each."""

    callers: tuple[str, ...]
    questions: tuple[str, ...]
    budgets: Mapping[str, Unit]
    reasons: tuple[str, ...]

    def caller(self, source: Source, path: YAMLPath, name: str) -> None:
        if name not in self.callers:
            hint = known_names(name, self.callers)
            source.problem(path, "PG206", f"org.yaml declares no `caller.{name}`", hint, key=True)

    def question(self, source: Source, path: YAMLPath, name: str) -> None:
        if name not in self.questions:
            hint = known_names(name, self.questions)
            source.problem(path, "PG206", f"no rule of this surface reads `answers.{name}`", hint, key=True)

    def budget(self, source: Source, path: YAMLPath, name: str, unit: str) -> None:
        counted = self.budgets.get(name)
        if counted is None:
            hint = known_names(name, self.budgets)
            source.problem(path, "PG206", f"this surface has no budget `{name}`", hint, key=True)
        elif counted != unit:
            hint = "write it like " + ("`$12.50`" if counted == "usd" else "`20 images`")
            source.problem(path, "PG208", f"budget `{name}` counts {_UNITS[counted]}", hint)

    def reason(self, source: Source, path: YAMLPath, name: str) -> None:
        if name not in self.reasons:
            hint = known_names(name, self.reasons)
            source.problem(path, "PG206", f"this surface never gives the reason `{name}`", hint)


_UNITS = {"usd": "dollars", "images": "images", "requests": "requests"}


def names(policies: PolicySet, surface: str) -> Names:
    policy = policies.surfaces[surface]
    reasons = [
        *(rule.id for rule in policy.rules),
        *(f"budget.{budget.id}" for budget in policy.budgets),
        *REQUEST_REASONS,
        *OTHER_REASONS,
        *(f"caller.{spec.name}" for spec in policies.caller),
        *(f"moderation.{category}" for category in CATEGORIES),
        *(f"output.{category}" for category in IMAGE_CATEGORIES),
    ]
    return Names(
        callers=tuple(spec.name for spec in policies.caller),
        questions=tuple(question.name for question in policy.questions),
        budgets={budget.id: budget.unit for budget in policy.budgets},
        reasons=tuple(dict.fromkeys(reasons)),
    )

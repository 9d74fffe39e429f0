"""policyguard: policies for image generation, as config, enforced on every request.

The public names. They are imported when first used, so that `import policyguard` stays cheap and pulls neither
openai nor sqlalchemy nor starlette; doors are imported from `policyguard.adapters`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from policyguard.decision import (
        Admitted,
        BudgetExceeded,
        Decision,
        Held,
        PolicyDenied,
        PolicyRefused,
        PolicyUnavailable,
        Refused,
        Released,
        ReviewRequired,
    )
    from policyguard.errors import ConfigError, PolicyError
    from policyguard.guard.current import caller, resume
    from policyguard.guard.guard import Guard
    from policyguard.request import Caller, Failure, ImageRequest, Outcome, Output, Usage

__version__ = "0.1.0"

_HOMES = {
    "Admitted": "decision",
    "BudgetExceeded": "decision",
    "Caller": "request",
    "ConfigError": "errors",
    "Decision": "decision",
    "Failure": "request",
    "Guard": "guard.guard",
    "Held": "decision",
    "ImageRequest": "request",
    "Outcome": "request",
    "Output": "request",
    "PolicyDenied": "decision",
    "PolicyError": "errors",
    "PolicyRefused": "decision",
    "PolicyUnavailable": "decision",
    "Refused": "decision",
    "Released": "decision",
    "ReviewRequired": "decision",
    "Usage": "request",
    "caller": "guard.current",
    "resume": "guard.current",
}

__all__ = [
    "Admitted",
    "BudgetExceeded",
    "Caller",
    "ConfigError",
    "Decision",
    "Failure",
    "Guard",
    "Held",
    "ImageRequest",
    "Outcome",
    "Output",
    "PolicyDenied",
    "PolicyError",
    "PolicyRefused",
    "PolicyUnavailable",
    "Refused",
    "Released",
    "ReviewRequired",
    "Usage",
    "caller",
    "resume",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module `policyguard` has no attribute `{name}`")
    value = getattr(importlib.import_module(f"policyguard.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})

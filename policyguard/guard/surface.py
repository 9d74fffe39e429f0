"""The check that a door in code names a surface that exists, made where the door is made and not at its first call.

A misspelt surface must stop the program at its start.
"""

from __future__ import annotations

from policyguard.errors import ConfigError
from policyguard.policy.model import PolicySet
from policyguard.text.suggest import did_you_mean


def check_surface(policies: PolicySet, surface: str) -> None:
    """Raises `ConfigError`."""
    surfaces = policies.surfaces
    if surface not in surfaces:
        near = did_you_mean(surface, surfaces)
        hint = f", {near}" if near else f"; there is {', '.join(surfaces)}"
        raise ConfigError(f"there is no surface `{surface}`{hint}")

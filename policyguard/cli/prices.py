"""The prices as verbs use them: those of the policies folder where there is one, else the packaged ones.

Verbs that need no policies use it, so that they work without a folder.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from policyguard.settings import setting

if TYPE_CHECKING:
    from policyguard.pricing import PriceBook


def book_of(policies: str | None) -> PriceBook:
    """Raises `PolicyError` for a `prices.yaml` that does not load, and `ConfigError` for a folder that is not there."""
    from policyguard.errors import ConfigError
    from policyguard.policy.load import prices_of

    folder = Path(setting("policies", policies) or "")
    if policies is not None and not folder.is_dir():
        raise ConfigError(f"there is no folder `{folder}`")
    return prices_of(folder)

"""Where the starter policies stand: in the wheel as package data, in a checkout at the top of the repository.

Only where they are; what is in them is YAML.
"""

from __future__ import annotations

from pathlib import Path

from policyguard.errors import ConfigError


def starter_folder() -> Path:
    """The folder with `org.yaml` and the four shipped surfaces."""
    package = Path(__file__).parents[1]
    for folder in (package / "starter_policies", package.parent / "policies"):
        if (folder / "org.yaml").is_file():
            return folder
    raise ConfigError("the starter policies are missing from this installation")

"""Every setting: one table drives the code, `--help`, `policyguard doctor` and the README.

Settings come from arguments first, then from the environment, then from the default. There is no other
configuration file than the policies.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import NamedTuple

from policyguard.errors import ConfigError


class Setting(NamedTuple):
    """`secret`: only whether it is set may be shown."""

    name: str
    environment: str
    default: str | None
    help: str
    secret: bool = False


SETTINGS: Mapping[str, Setting] = {
    s.name: s
    for s in (
        Setting(
            "policies", "POLICYGUARD_POLICIES", "policies", "the policies folder: org.yaml and one file per surface"
        ),
        Setting(
            "reload", "POLICYGUARD_RELOAD", "1", "seconds between looks at the policies folder; `off` never reloads"
        ),
        Setting(
            "store",
            "POLICYGUARD_STORE",
            "sqlite:///policyguard.sqlite3",
            "the database: `sqlite:///path` or `postgresql+psycopg://...`",
        ),
        Setting(
            "key_file", "POLICYGUARD_KEY_FILE", None, "the key file; beside an SQLite database, needed for PostgreSQL"
        ),
        Setting("synchronous", "POLICYGUARD_SQLITE_SYNCHRONOUS", "FULL", "SQLite durability: FULL or NORMAL"),
        Setting(
            "webhook_secret",
            "POLICYGUARD_WEBHOOK_SECRET",
            None,
            "signs exports of the record to a webhook: `whsec_` and 24 to 64 bytes in base64",
            secret=True,
        ),
        Setting("openai_key", "OPENAI_API_KEY", None, "OpenAI's key, for moderation and the proxy", secret=True),
        Setting("questions_model", "POLICYGUARD_QUESTIONS_MODEL", "gpt-6-luna", "the model that answers questions"),
        Setting("openai_url", "OPENAI_BASE_URL", None, "OpenAI's address; the sandbox's to try things out"),
    )
}


_TRIMMED = frozenset({"openai_key", "openai_url", "questions_model", "webhook_secret"})  # none of them has white space
_said: set[str] = set()


def setting(name: str, given: str | None = None) -> str | None:
    """The value of a setting: the argument, else the environment, else the default.

    White space around a key or an address is left out, with one warning: files of secrets end with a line end.
    """
    spec = SETTINGS[name]
    value = given or os.environ.get(spec.environment) or ""
    if name in _TRIMMED and value != value.strip():
        value = value.strip()
        if name not in _said:
            _said.add(name)
            words = "white space around %s is left out, probably a line end of the file that it comes from"
            logging.getLogger("policyguard").warning(words, spec.environment)
    return value or spec.default


def openai_key(given: str | None = None) -> str | None:
    """OpenAI's key. Raises `ConfigError`, without the key, for one that no header can carry."""
    key = setting("openai_key", given)
    if key is not None and not (key.isascii() and key.isprintable() and " " not in key):
        raise ConfigError("`OPENAI_API_KEY` is no key: a space, a line end or another odd character is within it")
    return key

"""Every setting: one table drives the code, `--help`, `policyguard doctor` and the README.

Settings come from arguments first, then from the environment, then from the default. There is no other
configuration file than the policies. What may be shown of a value is decided here, too: `masked` for one value,
`without_secrets` for a sentence that may quote an address.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping
from typing import NamedTuple

from policyguard.errors import ConfigError


class Setting(NamedTuple):
    """`secret`: only whether it is set may be shown. Any other is shown `masked`, because it may be an address."""

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
        Setting(
            "store_timeout",
            "POLICYGUARD_STORE_TIMEOUT",
            "5",
            "seconds that a request waits for the database in all, before it is refused",
        ),
        Setting(
            "postgres_pooler",
            "POLICYGUARD_POSTGRES_POOLER",
            None,
            "`transaction` behind a pooler that lends connections for one transaction, like PgBouncer",
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
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+:/+[^\s`'\"<>]+")
_PARTS = re.compile(
    r"([A-Za-z][A-Za-z0-9+.-]+:/+)?(?:(.*)@)?(.*)", re.DOTALL
)  # scheme, login, where; a path has one `/`
_FILES = ("sqlite:", "file:")  # whose paths may hold an `@`
_NAME = re.compile(r"[\w.-]{1,64}")
# Parts of a query that hold no secret; any other may.
_HARMLESS = frozenset(
    [
        "sslmode",
        "sslrootcert",
        "connect_timeout",
        "application_name",
        "target_session_attrs",
        "host",
        "port",
        "dbname",
        "user",
        "api-version",
    ]
)
_HIDDEN = "***"
_SECRET_CHARS = 8  # what is shorter is no secret, and a word of many sentences


def masked(value: str) -> str:
    """A value of a setting as it may be shown: an address keeps who and where, and loses every password and key.

    An `@` or `/` that is not escaped may be part of a password, so all before the last `@` is.
    """
    found = _PARTS.fullmatch(value)
    scheme, login, where = (part or "" for part in found.groups()) if found else ("", "", value)
    if scheme.startswith(_FILES) or not (scheme or ":" in login):
        login, where = "", value.removeprefix(scheme)
    rest, fragment, _ = where.partition("#") if scheme and not scheme.startswith(_FILES) else (where, "", "")
    path, question, query = rest.partition("?")
    shown = question + "&".join(map(_masked_part, query.split("&"))) if question else ""
    return f"{scheme}{_user(scheme, login)}{path}{shown}{fragment and f'#{_HIDDEN}'}"


def without_secrets(text: str) -> str:
    """A sentence without the secrets of this process, and with every address in it `masked`."""
    for spec in SETTINGS.values():
        value = (os.environ.get(spec.environment) or "").strip() if spec.secret else ""
        if len(value) >= _SECRET_CHARS:
            text = text.replace(value, _HIDDEN)
    return _URL.sub(lambda found: masked(found[0]), text) if ":/" in text else text


def _user(scheme: str, login: str) -> str:
    """Who, where that is plainly a name: alone before a web address it may be a token."""
    user, colon, _ = login.partition(":")
    if not _NAME.fullmatch(user) or (scheme.startswith("http") and not colon):
        return f"{_HIDDEN}@" if login else ""
    return f"{user}:{_HIDDEN}@" if colon else f"{user}@"


def _masked_part(part: str) -> str:
    name, equals, _ = part.partition("=")
    return part if name in _HARMLESS else f"{name}={_HIDDEN}" if equals else _HIDDEN


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

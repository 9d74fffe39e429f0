"""Every setting: one table drives the code, `--help`, `policyguard doctor` and the README.

Settings come from arguments first, then from the environment, then from the default. There is no other
configuration file than the policies. What may be shown of a value is decided here, too: `masked` for one value,
`without_secrets` for a sentence that may quote an address.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import NamedTuple


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
        Setting("synchronous", "POLICYGUARD_SQLITE_SYNCHRONOUS", "FULL", "SQLite durability: FULL or NORMAL"),
        Setting(
            "webhook_secret",
            "POLICYGUARD_WEBHOOK_SECRET",
            None,
            "signs exports of the record to a webhook: `whsec_` and base64",
            secret=True,
        ),
        Setting("openai_key", "OPENAI_API_KEY", None, "OpenAI's key, for moderation and the proxy", secret=True),
        Setting("questions_model", "POLICYGUARD_QUESTIONS_MODEL", "gpt-6-luna", "the model that answers questions"),
        Setting("openai_url", "OPENAI_BASE_URL", None, "OpenAI's address; the sandbox's to try things out"),
    )
}


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
    """The value of a setting: the argument, else the environment, else the default."""
    spec = SETTINGS[name]
    return given or os.environ.get(spec.environment) or spec.default

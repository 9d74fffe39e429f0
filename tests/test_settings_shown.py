"""What may be shown of a setting: every password and key of an address is left out, whatever setting holds it."""

from __future__ import annotations

import io
import json
import logging
import sys

import pytest

from policyguard import logs
from policyguard.cli import main
from policyguard.errors import ConfigError, StoreUnavailable
from policyguard.settings import SETTINGS, masked, without_secrets
from policyguard.store import address

HUNTER = "hunter2"
ADDRESSES = {
    "https://u:hunter2@host/v1": "https://u:***@host/v1",
    "https://hunter2@host/v1": "https://***@host/v1",
    "https://host/v1?token=hunter2&api-version=1": "https://host/v1?token=***&api-version=1",
    "https://host/v1?hunter2": "https://host/v1?***",
    "https://host/v1#hunter2": "https://host/v1#***",
    "https://host/v1?next=hunter2@there": "https://***@there",
    "postgresql+psycopg://pg:hunter2@db:5432/x?sslmode=require": "postgresql+psycopg://pg:***@db:5432/x?sslmode=require",
    "postgresql://db/x?user=pg&password=hunter2": "postgresql://db/x?user=pg&password=***",
    "postgres://u:hun@ter/hunter2?a#b@host/db": "postgres://u:***@host/db",
    "postgres://:hunter2@host/db": "postgres://***@host/db",
    "pg:hunter2@db/x": "pg:***@db/x",
    "postgresql:/pg:hunter2@db/x": "postgresql:/pg:***@db/x",  # as a path has it
    "postgresql://pg@db/x": "postgresql://pg@db/x",
    "sqlite:////srv/me@work/a#1.sqlite3": "sqlite:////srv/me@work/a#1.sqlite3",
    "/srv/me@work/policies#1": "/srv/me@work/policies#1",
    "off": "off",
}


@pytest.mark.parametrize("value", ADDRESSES)
def test_an_address_keeps_who_and_where_and_no_secret(value: str) -> None:
    assert masked(value) == ADDRESSES[value]
    assert HUNTER not in masked(value)
    assert masked(masked(value)) == masked(value)


def doctor(monkeypatch: pytest.MonkeyPatch, *options: str, **environment: str) -> str:
    """All that the verb prints, and its exit code is no fault of ours."""
    with monkeypatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        out = io.StringIO()
        patch.setattr(sys, "argv", ["policyguard", "doctor", *options])
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", out)
        with pytest.raises(SystemExit) as end:
            main()
        assert end.value.code in (0, 1)
    return out.getvalue()


@pytest.mark.parametrize("options", [(), ("--format", "json")])
def test_doctor_shows_no_secret_of_any_setting(monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    names = {spec.environment for spec in SETTINGS.values()}
    for value in [value for value in ADDRESSES if HUNTER in value]:
        given = dict.fromkeys(names, value)
        if "host" in value:  # nobody is asked for one in a test
            given["POLICYGUARD_STORE"] = "pg:hunter2@db/x"
        shown = doctor(monkeypatch, *options, **given)
        assert HUNTER not in shown
        assert all(name in shown for name in names)


@pytest.mark.parametrize("value", [value for value in ADDRESSES if HUNTER in value])
def test_no_error_about_a_stores_address_quotes_it(value: str) -> None:
    try:
        shown = address.place(value)
    except ConfigError as error:
        shown = str(error) + repr(error.__cause__) + repr(error.__context__ if not error.__suppress_context__ else "")
    assert HUNTER not in shown


def test_a_password_in_the_query_is_used_and_not_shown() -> None:
    url = address.server_url("postgresql://pg@db/x?password=hunter2&sslmode=require")
    assert url is not None
    assert (url.password, dict(url.query)) == (HUNTER, {"sslmode": "require"})
    assert HUNTER not in str(url) + repr(url)


def test_a_server_that_cannot_be_reached_is_said_without_the_password() -> None:
    pytest.importorskip("psycopg")
    from policyguard.store.db.database import Database

    database = Database(address.backend("postgresql://pg:hunter2@127.0.0.1:1/x"), opened=lambda _: None)
    with pytest.raises(StoreUnavailable) as failed:
        database.read(lambda connection: None)
    assert HUNTER not in str(failed.value) + str(failed.value.__cause__)


def test_a_log_line_has_no_address_with_a_password_and_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", " sk-hunter2hunter2\n")
    record = logging.LogRecord(
        "policyguard", 30, "x", 1, "at %s with %s", ("https://u:hunter2@h", "sk-hunter2hunter2"), None
    )
    record.policyguard = {"event": "x", "where": "postgresql://u:hunter2@h/d"}
    assert "at https://u:***@h with ***" in logs.TextFormatter().format(record)
    line = logs.JsonFormatter().format(record)
    assert (json.loads(line)["where"], HUNTER in line) == ("postgresql://u:***@h/d", False)


def test_a_short_secret_is_no_word_to_take_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "a")
    assert without_secrets("a cat") == "a cat"

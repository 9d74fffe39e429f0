"""Where the value of a setting comes from, and what is left out of it."""

from __future__ import annotations

import logging

import pytest

from policyguard import settings
from policyguard.errors import ConfigError
from policyguard.settings import openai_key, setting


@pytest.fixture(autouse=True)
def _nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_said", set())


@pytest.mark.parametrize("written", ["sk-canary\n", "sk-canary\r\n", " sk-canary", "\tsk-canary \n"])
def test_white_space_around_the_key_is_left_out_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, written: str
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", written)
    caplog.set_level(logging.WARNING, "policyguard")
    assert [openai_key(), openai_key(), openai_key(written)] == ["sk-canary"] * 3
    (record,) = caplog.records
    assert "OPENAI_API_KEY" in record.getMessage()
    assert "canary" not in record.getMessage()


@pytest.mark.parametrize("written", ["", "\n", "  "])
def test_a_key_of_white_space_alone_is_none(monkeypatch: pytest.MonkeyPatch, written: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", written)
    assert openai_key() is None


@pytest.mark.parametrize(
    "written", ["sk-can\nary", "sk-can ary", "sk-canary\n# a comment", "sk-canäry", "sk-can\x00ary"]
)
def test_a_key_that_no_header_can_carry_is_an_error_without_the_key(written: str) -> None:
    with pytest.raises(ConfigError, match="OPENAI_API_KEY") as raised:
        openai_key(written)
    assert "canary" not in str(raised.value)


def test_the_address_is_trimmed_and_paths_are_as_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://api.openai.com/v1\n")
    assert setting("openai_url") == "https://api.openai.com/v1"
    assert setting("policies", " odd name") == " odd name"

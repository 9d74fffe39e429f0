"""Names of people: one form for the same letters, one person for the same mail address, likeness for who reviews."""

from __future__ import annotations

import unicodedata
from typing import Any

import pytest

from policyguard.errors import ConfigError
from policyguard.request import Caller
from policyguard.text.identity import decoded, identity, likeness, person, spellings, value_of


@pytest.mark.parametrize("name", ["u1", "Zoë", "Łukasz", "山田太郎", "Владимир", "محمد", "ada@example.com", "Ada  L."])
def test_a_plain_name_stays_as_it_is_however_it_comes(name: str) -> None:
    decomposed = unicodedata.normalize("NFD", name)
    assert {identity(name), identity(f"\t{decomposed}\u00a0"), decoded(name.encode()), value_of("user", name)} == {name}


@pytest.mark.parametrize(("raw", "text"), [(b"Zo\xc3\xab", "Zoë"), (b"Zo\xeb", "Zoë"), (b"u1", "u1"), (b"", "")])
def test_a_header_is_utf_8_and_else_latin_1(raw: bytes, text: str) -> None:
    assert decoded(raw) == text


@pytest.mark.parametrize(("given", "counts"), [(7, "7"), (None, None), ("", None), (" ", None)])
def test_a_whole_number_is_its_digits_and_nothing_is_absent(given: Any, counts: str | None) -> None:
    assert value_of("user", given) == counts


@pytest.mark.parametrize("given", [True, 1.0, b"u1", ["u1"]])
def test_any_other_value_is_an_error_that_names_it(given: Any) -> None:
    with pytest.raises(ConfigError, match="`tenant` must be a text or a whole number"):
        Caller.of({"tenant": given})


def test_only_mail_addresses_are_one_person_in_any_case() -> None:
    assert person(" Ada@Example.com") == person("ada@example.com")
    assert person("Ada") != person("ada")


ADA = "ada@example.com"


@pytest.mark.parametrize(
    "spelt",
    [
        "Ada@Example.COM",
        "ada@example.com.",
        " ada@example.com\u3002 ",
        "ａｄａ@example.com",
        "a\u200bda@example.com",
        "ada\ufe0f@example\u034f.com",
        "аdа@example.com",  # Cyrillic
        "𝐚da@example.com",
        "<ada@example.com>",
    ],
)
def test_a_name_that_reads_the_same_is_alike(spelt: str) -> None:
    assert likeness(spelt) == likeness(ADA)


@pytest.mark.parametrize(
    "other", ["adam@example.com", "ada@example.org", "ada", "ada1@example.com", "a.da@example.com"]
)
def test_two_people_are_not_alike(other: str) -> None:
    assert likeness(other) != likeness(ADA)
    assert likeness("Zoe") != likeness("Zoë")


@pytest.mark.parametrize("name", ["...", "山田太郎", "Łukasz", "ß", "\u200b"])
def test_every_name_is_like_itself_and_short(name: str) -> None:
    assert likeness(likeness(name)) == likeness(name)


def test_what_earlier_versions_took_for_others_is_known() -> None:
    assert spellings("u1") == {"u1"}
    assert spellings("Zoë") == {"Zoë", "Zoe\u0308", "ZoÃ«", "ZoeÌ\x88"}

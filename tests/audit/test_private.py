from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyguard.audit.private import Vault
from policyguard.errors import ConfigError
from policyguard.steps import Private
from policyguard.store import Cipher

VAULT = Vault(bytes(range(32)))
NONCE = bytes(12)
KEY_ID = "3864eb4df37c44ef"
PSEUDONYM = "user_d5967bd0f1b354c89a0ac80e7186e27b"
CIPHERTEXT = "5ddd351752c37b162d4b1a6c9a364c519bc2d078ba810da0"


def private(text: bytes = b"a secret", subject: str = "user_1", id_: str = "prompt:dec_1") -> Private:
    return Private(id=id_, kind="prompt", subject=subject, plaintext=text)


def test_the_vault_is_what_the_store_needs() -> None:
    cipher: Cipher = VAULT
    assert cipher.key_id == VAULT.key_id


# ---- pseudonyms -------------------------------------------------------------------------------------------


def test_a_pseudonym_is_the_same_for_the_same_text_and_for_no_other() -> None:
    ada = VAULT.pseudonym("user", "ada")
    assert ada == VAULT.pseudonym("user", "ada")
    others = {
        VAULT.pseudonym("user", "Ada"),
        VAULT.pseudonym("engineer", "ada"),
        Vault(b"x" * 32).pseudonym("user", "ada"),
    }
    assert ada not in others


def test_a_pseudonym_says_its_kind_and_nothing_else() -> None:
    kind, _, digits = VAULT.pseudonym("user", "ada@example.com").partition("_")
    assert (kind, len(digits), set(digits) <= set("0123456789abcdef")) == ("user", 32, True)


def test_kind_and_text_cannot_be_shifted() -> None:
    assert VAULT.pseudonym("a", "b\0c")[2:] != VAULT.pseudonym("a\0b", "c")[4:]


def test_a_safety_identifier_fits_and_is_not_the_pseudonym() -> None:
    identifier = VAULT.safety_identifier("ada")
    assert identifier == VAULT.safety_identifier("ada")
    assert len(identifier) <= 64
    assert VAULT.pseudonym("user", "ada")[5:] not in identifier


def test_a_key_always_gives_the_same_values() -> None:
    """A release that changed these would start every user's budget anew and open no private row."""
    assert VAULT.key_id == KEY_ID
    assert VAULT.pseudonym("user", "ada") == PSEUDONYM
    assert VAULT.seal(private(), NONCE).ciphertext.hex() == CIPHERTEXT


# ---- encryption -------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_what_is_sealed_opens_again(text: bytes, subject: str, id_: str) -> None:
    assert VAULT.open(VAULT.seal(private(text, subject, id_), NONCE)) == text


def test_every_subject_has_a_key_of_its_own() -> None:
    one, two = (VAULT.seal(private(subject=s), NONCE).ciphertext[:8] for s in ("user_1", "user_2"))
    assert one != two


def test_another_key_opens_nothing() -> None:
    with pytest.raises(ConfigError, match="another key"):
        Vault(b"x" * 32).open(VAULT.seal(private(), NONCE))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "prompt:dec_2"},
        {"kind": "note"},
        {"subject": "user_2"},
        {"nonce": b"x" * 12},
        {"ciphertext": b"x" * 24},
        {"id": "prompt:dec_1p", "kind": "rompt"},
    ],
)
def test_a_row_is_bound_to_what_it_is_about(change: dict[str, object]) -> None:
    sealed = replace(VAULT.seal(private(), NONCE), **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="was altered"):
        VAULT.open(sealed)


def test_a_repr_tells_neither_key_nor_text() -> None:
    sealed = VAULT.seal(private(), NONCE)
    text = repr((VAULT, private(), sealed))
    assert "secret" not in text
    assert repr(sealed.ciphertext) not in text


@pytest.mark.parametrize("key", [b"", b"short", bytes(33)])
def test_a_key_has_32_bytes(key: bytes) -> None:
    with pytest.raises(ConfigError, match="32 bytes"):
        Vault(key)

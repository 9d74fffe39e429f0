from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policyguard.audit.private import Vault, verify_signature
from policyguard.errors import ConfigError
from policyguard.flow.steps import Private
from policyguard.store.cipher import Cipher, DataKey, Sealed

VAULT = Vault(bytes(range(32)))
NONCE = bytes(12)
KEY_ID = "3864eb4df37c44ef"
PSEUDONYM = "user_d5967bd0f1b354c89a0ac80e7186e27b"
OLD_CIPHERTEXT = "5ddd351752c37b162d4b1a6c9a364c519bc2d078ba810da0"  # of a subject without a data key
CIPHERTEXT = "814e83cca4dd714e25520a85f15c0884ed917d4a00653f95"


def private(text: bytes = b"a secret", subject: str = "user_1", id_: str = "prompt:dec_1") -> Private:
    return Private(id=id_, kind="prompt", subject=subject, plaintext=text)


def data_key(subject: str = "user_1", vault: Vault = VAULT, id_: str = "key_1", key: bytes = b"k" * 32) -> DataKey:
    return vault.data_key(id_, subject, key, NONCE)


def seal(row: Private, vault: Vault = VAULT) -> Sealed:
    return vault.seal(row, NONCE, data_key(row.subject, vault))


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


@pytest.mark.parametrize(
    ("one", "other"), [("Zo\u00eb", "Zoe\u0308"), ("ada", " ada\n"), ("Ada@Example.com", "ada@example.com")]
)
def test_two_spellings_of_a_person_have_one_pseudonym_and_one_safety_identifier(one: str, other: str) -> None:
    assert VAULT.pseudonym("user", one) == VAULT.pseudonym("user", other)
    assert VAULT.safety_identifier(one) == VAULT.safety_identifier(other)


def test_every_pseudonym_that_a_name_ever_had_is_known() -> None:
    assert VAULT.pseudonyms("user", "ada") == {VAULT.pseudonym("user", "ada")}
    assert VAULT.pseudonym("user", "Zo\u00c3\u00ab") in VAULT.pseudonyms("user", "Zo\u00eb")  # UTF-8 read as Latin-1


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
    assert seal(private()).ciphertext.hex() == CIPHERTEXT
    old = replace(seal(private()), key_id=KEY_ID, ciphertext=bytes.fromhex(OLD_CIPHERTEXT))
    assert VAULT.open(old, None) == b"a secret"


# ---- encryption -------------------------------------------------------------------------------------------


@given(st.binary(max_size=200), st.text(max_size=20), st.text(max_size=20))
def test_what_is_sealed_opens_again(text: bytes, subject: str, id_: str) -> None:
    assert VAULT.open(seal(private(text, subject, id_)), data_key(subject)) == text


def test_another_key_opens_nothing() -> None:
    stranger = Vault(b"x" * 32)
    for key in (None, data_key(), data_key(id_="key_2", vault=stranger), data_key("user_2", stranger)):
        with pytest.raises(ConfigError, match="another key"):
            stranger.open(seal(private()), key)
    with pytest.raises(ConfigError, match="was altered"):
        VAULT.open(seal(private()), data_key(key=b"l" * 32))


def test_without_its_data_key_nothing_opens_a_row() -> None:
    with pytest.raises(ConfigError, match="another key"):
        VAULT.open(seal(private()), None)


@pytest.mark.parametrize("change", [{"nonce": b"x" * 12}, {"wrapped": b"x" * 48}, {"wrapped": b""}, {"nonce": b""}])
def test_an_altered_data_key_is_noticed(change: dict[str, bytes]) -> None:
    with pytest.raises(ConfigError, match="data key `key_1` was altered"):
        VAULT.open(seal(private()), replace(data_key(), **change))


@pytest.mark.parametrize(
    "change",
    [
        {"id": "prompt:dec_2"},
        {"kind": "note"},
        {"nonce": b"x" * 12},
        {"ciphertext": b"x" * 24},
        {"id": "prompt:dec_1p", "kind": "rompt"},
    ],
)
def test_a_row_is_bound_to_what_it_is_about(change: dict[str, object]) -> None:
    sealed = replace(seal(private()), **change)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="was altered"):
        VAULT.open(sealed, data_key())


def test_a_repr_tells_neither_key_nor_text() -> None:
    sealed = seal(private())
    text = repr((VAULT, private(), sealed, data_key()))
    assert "secret" not in text
    assert repr(sealed.ciphertext) not in text
    assert repr(data_key().wrapped) not in text


@pytest.mark.parametrize("key", [b"", b"short", bytes(33)])
def test_a_key_has_32_bytes(key: bytes) -> None:
    for keys in (key, (), (bytes(32), key)):
        with pytest.raises(ConfigError, match="32 bytes"):
            Vault(keys)


# ---- rotation and signatures ------------------------------------------------------------------------------

RING = Vault((bytes(range(32)), b"2" * 32))


def test_a_new_key_changes_no_name_and_opens_what_was_there() -> None:
    assert (RING.key_id, RING.pseudonym("user", "ada")) == (KEY_ID, PSEUDONYM)
    assert RING.safety_identifier("ada") == VAULT.safety_identifier("ada")
    assert RING.open(seal(private()), data_key()) == b"a secret"


def test_a_data_key_that_is_wrapped_anew_opens_the_same_rows_and_needs_the_new_key() -> None:
    anew = RING.rewrap(data_key(), b"n" * 12)
    assert (anew.id, anew.subject, anew.key_id) == ("key_1", "user_1", RING.newest_id)
    assert anew.wrapped != data_key().wrapped
    assert RING.open(seal(private()), anew) == b"a secret"
    with pytest.raises(ConfigError, match="is the key file complete"):
        VAULT.open(seal(private()), anew)


def test_a_vault_follows_its_key_file() -> None:
    anew = RING.rewrap(data_key(), b"n" * 12)
    following = Vault(bytes(range(32)), again=lambda: (bytes(range(32)), b"2" * 32))
    assert following.open(seal(private()), anew) == b"a secret"
    with pytest.raises(ConfigError, match="is the key file complete"):
        following.open(seal(private()), replace(anew, key_id="unknown"))


def test_what_the_newest_key_signs_everybody_with_its_public_key_can_verify() -> None:
    signature = RING.sign(b"message")
    public = RING.public_key(RING.newest_id)
    assert public is not None
    assert verify_signature(public, signature, b"message")
    assert not verify_signature(public, signature, b"another")
    assert not verify_signature(public, b"", b"message")
    assert not verify_signature(b"", signature, b"message")
    assert not verify_signature(RING.public_key(KEY_ID) or b"", signature, b"message")
    assert VAULT.public_key(RING.newest_id) is None


def test_a_mac_needs_the_key_and_its_message() -> None:
    ours = RING.mac(b"message")
    assert len(ours) == 16
    assert ours == VAULT.mac(b"message")
    assert ours not in (RING.mac(b"another"), Vault(b"2" * 32).mac(b"message"))

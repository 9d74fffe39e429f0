"""What the store needs of a key: pseudonyms, and encryption of what must not stand in the database in clear.

The vault of `policyguard.audit` is one; the store knows only this shape, because it lies below the audit layer.
Prompts, requests, names of people and free text reach the database as `Sealed` values and in no other way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from policyguard.flow.steps import Private


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One encrypted row. `id`, `kind` and `subject` are bound to the ciphertext: none can be swapped.

    `key_id` is the data key's, or the vault's own for a row from before there were data keys.
    """

    id: str
    kind: str
    subject: str
    key_id: str
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class DataKey:
    """The key of one subject's rows, wrapped with the key `key_id` of the ring."""

    id: str
    subject: str
    key_id: str
    nonce: bytes = field(repr=False)
    wrapped: bytes = field(repr=False)


class Cipher(Protocol):
    """A keyed vault. `key_id` names its first key without telling anything of it, `newest_id` the one that wraps."""

    @property
    def key_id(self) -> str: ...

    @property
    def newest_id(self) -> str: ...

    def pseudonym(self, kind: str, text: str) -> str:
        """The same text gives the same pseudonym; without the key nobody can guess the text."""

    def pseudonyms(self, kind: str, text: str) -> frozenset[str]:
        """Every pseudonym under which rows of this name can stand, those of earlier versions included."""

    def data_key(self, id_: str, subject: str, key: bytes, nonce: bytes) -> DataKey:
        """Wrap 32 random bytes as the key of a subject."""

    def rewrap(self, data_key: DataKey, nonce: bytes) -> DataKey:
        """The same key under the newest one of the ring."""

    def seal(self, private: Private, nonce: bytes, data_key: DataKey) -> Sealed:
        """`nonce` is 12 random bytes, never used twice."""

    def open(self, sealed: Sealed, data_key: DataKey | None) -> bytes:
        """Raises `ConfigError` where the key is another one or the row was altered."""

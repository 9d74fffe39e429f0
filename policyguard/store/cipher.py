"""What the store needs of a key: pseudonyms, and encryption of what must not stand in the database in clear.

The vault of `policyguard.audit` is one; the store knows only this shape, because it lies below the audit layer.
Prompts, requests, names of people and free text reach the database as `Sealed` values and in no other way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

from policyguard.steps import Private


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    """One encrypted row. `id`, `kind` and `subject` are bound to the ciphertext: none can be swapped."""

    id: str
    kind: str
    subject: str
    key_id: str
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)


class Cipher(Protocol):
    """A keyed vault. `key_id` names the key without telling anything of it."""

    @property
    def key_id(self) -> str: ...

    def pseudonym(self, kind: str, text: str) -> str:
        """The same text gives the same pseudonym; without the key nobody can guess the text."""

    def seal(self, private: Private, nonce: bytes) -> Sealed:
        """`nonce` is 12 random bytes, never used twice."""

    def open(self, sealed: Sealed) -> bytes:
        """Raises `ConfigError` where the key is another one or the row was altered."""

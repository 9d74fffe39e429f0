"""The vault: pseudonyms, and encryption of private data, from one key of 32 bytes.

Every use has a key of its own, derived by HKDF, and so has every subject. An encrypted row is bound to its id, kind and
subject. Nothing here reads a file or draws randomness.
"""

from __future__ import annotations

import hmac
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from policyguard.errors import ConfigError
from policyguard.steps import Private
from policyguard.store.cipher import Sealed

KEY_BYTES = 32
_CACHED_SUBJECTS = 4096


class Vault:
    """Pseudonyms and encryption under one key. Immutable, thread-safe, and silent about its key."""

    def __init__(self, key: bytes) -> None:
        if len(key) != KEY_BYTES:
            raise ConfigError(f"a key has {KEY_BYTES} bytes")
        self._pseudonyms = _derive(key, b"pseudonyms")
        self._identifiers = _derive(key, b"safety identifiers")
        private = _derive(key, b"private data")
        self.key_id = _derive(key, b"key id")[:8].hex()
        self._subject = lru_cache(maxsize=_CACHED_SUBJECTS)(lambda subject: AESGCM(_derive(private, subject.encode())))

    def pseudonym(self, kind: str, text: str) -> str:
        """`kind` and 32 hex digits, for example `user_3f...`: the same for the same text, nobody else's to guess.

        Mail addresses are one person in any case, so that nobody gets a second budget, or a vote on a request of
        their own, by another spelling.
        """
        if "@" in text:
            text = text.casefold()
        digest = hmac.digest(self._pseudonyms, _bound(kind, text), "sha256")
        return f"{kind}_{digest[:16].hex()}"

    def safety_identifier(self, user: str) -> str:
        """What OpenAI gets instead of the user, 35 characters. It cannot be matched with a pseudonym of the record."""
        return f"pg_{hmac.digest(self._identifiers, user.encode(), 'sha256')[:16].hex()}"

    def seal(self, private: Private, nonce: bytes) -> Sealed:
        """Encrypt with AES-256-GCM. `nonce` is 12 random bytes, never used twice."""
        bound = _bound(private.id, private.kind, private.subject)
        ciphertext = self._subject(private.subject).encrypt(nonce, private.plaintext, bound)
        return Sealed(
            id=private.id,
            kind=private.kind,
            subject=private.subject,
            key_id=self.key_id,
            nonce=nonce,
            ciphertext=ciphertext,
        )

    def open(self, sealed: Sealed) -> bytes:
        """Decrypt. Raises `ConfigError` where the row has another key, or was altered."""
        if sealed.key_id != self.key_id:
            raise ConfigError(f"private row `{sealed.id}` was encrypted with another key")
        bound = _bound(sealed.id, sealed.kind, sealed.subject)
        try:
            return self._subject(sealed.subject).decrypt(sealed.nonce, sealed.ciphertext, bound)
        except InvalidTag as error:
            raise ConfigError(f"private row `{sealed.id}` was altered") from error


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"policyguard v1 " + purpose).derive(key)


def _bound(*parts: str) -> bytes:
    """Several texts as one. Lengths first, so that no two lists of parts look the same."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4) + part for part in encoded)

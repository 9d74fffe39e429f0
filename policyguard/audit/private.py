"""The vault: pseudonyms, encryption of private data, and signatures, from the keys of one key file.

The first key names people and the database, for ever; the newest wraps data keys and signs. Every subject's rows are
encrypted with a data key of that subject, which stands wrapped in the store: once it is destroyed, nothing of the
subject can be read in any copy. An encrypted row is bound to its id, kind and subject. Nothing here reads a file or
draws randomness.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from functools import lru_cache
from hashlib import blake2b

from cryptography.exceptions import InvalidSignature, InvalidTag
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from policyguard.errors import ConfigError
from policyguard.flow.steps import Private
from policyguard.store.cipher import DataKey, Sealed
from policyguard.text.identity import person, spellings

KEY_BYTES = 32
_CACHED_SUBJECTS = 4096


class Vault:
    """Pseudonyms, encryption and signatures under one ring of keys. Thread-safe, and silent about its keys.

    `again` gives the ring as it is now, where something was wrapped with a key that was added meanwhile: a process that
    runs on while the key is changed reads what others write.
    """

    def __init__(self, keys: bytes | Sequence[bytes], *, again: Callable[[], Sequence[bytes]] | None = None) -> None:
        ring = (keys,) if isinstance(keys, bytes) else tuple(keys)
        if not ring or any(len(key) != KEY_BYTES for key in ring):
            raise ConfigError(f"a key has {KEY_BYTES} bytes")
        first = ring[0]
        self._pseudonyms = hmac.new(_derive(first, b"pseudonyms"), digestmod="sha256")
        self._identifiers = hmac.new(_derive(first, b"safety identifiers"), digestmod="sha256")
        self._macs = _derive(first, b"leaves")
        self._again = again
        self._keys = {_key_id(key): _DerivedKey(key) for key in ring}
        self.key_id = _key_id(first)
        self.newest_id = _key_id(ring[-1])
        self._data = lru_cache(maxsize=_CACHED_SUBJECTS)(self._unwrap)

    # ---- names --------------------------------------------------------------------------------------------------

    def pseudonym(self, kind: str, text: str) -> str:
        """`kind` and 32 hex digits, for example `user_3f...`: the same for the same text, nobody else's to guess.

        However a person's name is spelt (`policyguard.text.identity.person`), so that nobody gets a second budget, or a
        vote on a request of their own, by another spelling.
        """
        return self._keyed(kind, person(text))

    def pseudonyms(self, kind: str, text: str) -> frozenset[str]:
        """The pseudonym of today, and those that earlier versions gave to other spellings of the same name."""
        folded = (form.casefold() if "@" in form else form for form in spellings(text))
        return frozenset({self.pseudonym(kind, text), *(self._keyed(kind, form) for form in folded)})

    def _keyed(self, kind: str, text: str) -> str:
        return f"{kind}_{_keyed(self._pseudonyms, _bound(kind, text))}"

    def safety_identifier(self, user: str) -> str:
        """What OpenAI gets instead of the user, 35 characters. It cannot be matched with a pseudonym of the record."""
        return f"pg_{_keyed(self._identifiers, person(user).encode())}"

    # ---- private data -------------------------------------------------------------------------------------------

    def data_key(self, id_: str, subject: str, key: bytes, nonce: bytes) -> DataKey:
        """Wrap a subject's new key of 32 random bytes with the newest key of the ring."""
        wrapped = self._keys[self.newest_id].wrapping.encrypt(nonce, key, _bound(id_, subject))
        return DataKey(id=id_, subject=subject, key_id=self.newest_id, nonce=nonce, wrapped=wrapped)

    def rewrap(self, data_key: DataKey, nonce: bytes) -> DataKey:
        """The same key, wrapped with the newest key of the ring."""
        return self.data_key(data_key.id, data_key.subject, self._plain(data_key), nonce)

    def seal(self, private: Private, nonce: bytes, data_key: DataKey) -> Sealed:
        """Encrypt with AES-256-GCM. `nonce` is 12 random bytes, never used twice."""
        bound = _bound(private.id, private.kind, private.subject)
        return Sealed(
            id=private.id,
            kind=private.kind,
            subject=private.subject,
            key_id=data_key.id,
            nonce=nonce,
            ciphertext=self._data(data_key).encrypt(nonce, private.plaintext, bound),
        )

    def open(self, sealed: Sealed, data_key: DataKey | None) -> bytes:
        """Decrypt. Raises `ConfigError` where the row has another key, or was altered."""
        bound = _bound(sealed.id, sealed.kind, sealed.subject)
        try:
            return self._cipher(sealed, data_key).decrypt(sealed.nonce, sealed.ciphertext, bound)
        except (InvalidTag, ValueError) as error:
            raise ConfigError(f"private row `{sealed.id}` was altered") from error

    def _cipher(self, sealed: Sealed, data_key: DataKey | None) -> AESGCM:
        if data_key is not None and (data_key.id, data_key.subject) == (sealed.key_id, sealed.subject):
            return self._data(data_key)
        if sealed.key_id == self.key_id:  # written before subjects had keys of their own in the store
            return self._keys[self.key_id].subject(sealed.subject)
        raise ConfigError(f"private row `{sealed.id}` was encrypted with another key")

    def _unwrap(self, data_key: DataKey) -> AESGCM:
        return AESGCM(self._plain(data_key))

    def _plain(self, data_key: DataKey) -> bytes:
        key = self._key(data_key.key_id)
        if key is None:
            raise ConfigError(f"data key `{data_key.id}` was wrapped with another key; is the key file complete?")
        try:
            return key.wrapping.decrypt(data_key.nonce, data_key.wrapped, _bound(data_key.id, data_key.subject))
        except (InvalidTag, ValueError) as error:
            raise ConfigError(f"data key `{data_key.id}` was altered") from error

    def _key(self, key_id: str) -> _DerivedKey | None:
        if key_id not in self._keys and self._again is not None:
            self._keys = {_key_id(key): _DerivedKey(key) for key in self._again()}
        return self._keys.get(key_id)

    # ---- signatures ---------------------------------------------------------------------------------------------

    def sign(self, message: bytes) -> bytes:
        """Ed25519, by the newest key of the ring."""
        return self._keys[self.newest_id].signing.sign(message)

    def public_key(self, key_id: str) -> bytes | None:
        """What verifies signatures of a key of the ring: 32 bytes, no secret. None for any other key."""
        key = self._key(key_id)
        return None if key is None else key.signing.public_key().public_bytes_raw()

    def mac(self, message: bytes) -> bytes:
        """16 bytes that nobody can make without the first key of the ring."""
        return blake2b(message, key=self._macs, digest_size=16).digest()


class _DerivedKey:
    """What one key of the ring is used for. Every use has a key of its own, derived by HKDF."""

    def __init__(self, key: bytes) -> None:
        self.wrapping = AESGCM(_derive(key, b"data keys"))
        self.signing = Ed25519PrivateKey.from_private_bytes(_derive(key, b"checkpoints"))
        self._private = _derive(key, b"private data")

    def subject(self, subject: str) -> AESGCM:
        return AESGCM(_derive(self._private, subject.encode()))


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Needs no vault: anybody with the public key can do it."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _key_id(key: bytes) -> str:
    return _derive(key, b"key id")[:8].hex()


def _derive(key: bytes, purpose: bytes) -> bytes:
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=b"policyguard v1 " + purpose).derive(key)


def _keyed(begun: hmac.HMAC, text: bytes) -> str:
    """32 hex digits. The key was taken in already, and for a short text no other thread is let in between."""
    mac = begun.copy()
    mac.update(text)
    return mac.digest()[:16].hex()


def _bound(*parts: str) -> bytes:
    """Several texts as one. Lengths first, so that no two lists of parts look the same."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(len(part).to_bytes(4) + part for part in encoded)

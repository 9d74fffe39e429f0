"""Notes: who said what, encrypted under the pseudonym of the person who said it.

Votes and pauses carry a note; their own rows and events know only its id and the pseudonym. The same person as a user
and as a reviewer has the same pseudonym, so the record shows that nobody decided a request of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import orjson

from policyguard.steps import Private
from policyguard.store.cipher import Cipher, Sealed

Opener = Callable[[Sealed], tuple[str, str]]  # a note's name and words


@dataclass(frozen=True, slots=True)
class Note:
    """The pseudonym, and the encrypted row with the name and the words."""

    pseudonym: str
    sealed: Sealed


def write_note(cipher: Cipher, name: str, words: str) -> Note:
    subject = cipher.pseudonym("user", name)
    text = orjson.dumps([name, words])
    private = Private(id=f"note:{os.urandom(16).hex()}", kind="note", subject=subject, plaintext=text)
    return Note(subject, cipher.seal(private, os.urandom(12)))


def read_note(cipher: Cipher, sealed: Sealed) -> tuple[str, str]:
    name, words = orjson.loads(cipher.open(sealed))
    return name, words

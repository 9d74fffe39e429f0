"""Notes: who said what, encrypted under the pseudonym of the person who said it.

Votes and pauses carry a note; their own rows and events know only its id and the pseudonym. The same person as a user
and as a reviewer has the same pseudonym, so the record shows that nobody decided a request of their own.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass

import orjson
from sqlalchemy import Connection

from policyguard.flow.steps import Private
from policyguard.store.cipher import Cipher, Sealed
from policyguard.store.subjects import Envelope, open_sealed

Opener = Callable[[Connection, Sealed], tuple[str, str]]  # a note's name and words


@dataclass(frozen=True, slots=True)
class Note:
    """The pseudonym, and the row with the name and the words, still to be encrypted."""

    pseudonym: str
    envelope: Envelope

    @property
    def id(self) -> str:
        return self.envelope.private.id


def write_note(cipher: Cipher, name: str, words: str) -> Note:
    subject = cipher.pseudonym("user", name)
    text = orjson.dumps([name, words])
    private = Private(id=f"note:{os.urandom(16).hex()}", kind="note", subject=subject, plaintext=text)
    return Note(subject, Envelope(cipher, private))


def read_note(connection: Connection, cipher: Cipher, sealed: Sealed) -> tuple[str, str]:
    name, words = orjson.loads(open_sealed(connection, cipher, sealed))
    return name, words

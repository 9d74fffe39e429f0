"""Callers' keys of the proxy: what each stands for, found by the digest of its secret. The secret itself is nowhere.

A secret has 256 random bits, so a plain SHA-256 cannot be guessed back. Who a key speaks for can be a person, so it is
kept encrypted: under that person's pseudonym where it names a user, so that erasing the user ends the key.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson
from sqlalchemy import Connection

from policyguard.errors import ConfigError
from policyguard.flow.events import Event, EventType, event_id
from policyguard.flow.steps import Private
from policyguard.ids import new_id
from policyguard.store.cipher import Cipher
from policyguard.store.db.sql import Sql, insert, moment, run, us
from policyguard.store.leases import Runs
from policyguard.store.notes import Note, write_note
from policyguard.store.record import read_private, write_events, write_private
from policyguard.store.subjects import Envelope

PREFIX = "sk-policyguard-"
_HEADER = re.compile(r"x-(?!policyguard-|api-key|forwarded-|request-id|http-method)[a-z0-9-]{1,60}")
_COLUMNS = ("id", "digest", "surfaces", "names_user", "private_id", "created_us", "revoked_us")
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM proxy_keys"  # noqa: S608 (constant names)
_INSERT = insert("proxy_keys", _COLUMNS)
_ALL = Sql(f"{_SELECT} ORDER BY created_us, id")
_FIND = Sql(f"{_SELECT} WHERE digest = :digest AND revoked_us IS NULL")
_REVOKE = Sql("UPDATE proxy_keys SET revoked_us = :now WHERE id = :id AND revoked_us IS NULL")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProxyKey:
    """`names_user`: its holder says who the user is, request by request, in `user_header` where that is set. `name` is
    what it is for, in words.

    `caller` is None where it cannot be told any more, because its user was erased: such a key opens nothing.
    """

    id: str
    surfaces: tuple[str, ...]
    names_user: bool
    created_at: datetime
    name: str = ""
    caller: Mapping[str, str] | None = field(default=None, repr=False)
    revoked_at: datetime | None = None
    user_header: str | None = None


def new_secret() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


class ProxyKeys:
    """The keys. Every method is one transaction."""

    def __init__(self, read: Runs, write: Runs, cipher: Cipher) -> None:
        self._read = read
        self._write = write
        self._cipher = cipher

    def create(
        self,
        secret: str,
        *,
        name: str,
        surfaces: tuple[str, ...],
        caller: Mapping[str, str],
        names_user: bool,
        by: str,
        now: datetime,
        user_header: str | None = None,
    ) -> ProxyKey:
        """Keep a new key by its secret's digest. Raises `ConfigError` for one that could not mean anything."""
        if not surfaces:
            raise ConfigError("a key without a surface opens nothing")
        if names_user and "user" in caller:
            raise ConfigError("a key either stands for one user or lets its holder name the user, not both")
        if user_header is not None:
            user_header = _checked_header(user_header, names_user)
        id_, note = new_id("key", now, os.urandom(10)), write_note(self._cipher, by, name)
        user = caller.get("user")
        private = Private(
            id=f"key:{id_}",
            kind="key",
            subject=self._cipher.pseudonym("user", user) if user else id_,
            plaintext=orjson.dumps([name, dict(caller), *([user_header] if user_header else [])]),
        )
        row = {
            "id": id_,
            "digest": digest(secret),
            "surfaces": orjson.dumps(surfaces).decode(),
            "names_user": names_user,
            "private_id": private.id,
            "created_us": us(now),
            "revoked_us": None,
        }
        body = {"surfaces": list(surfaces), "names_user": names_user}

        def work(connection: Connection) -> None:
            run(connection, _INSERT, row)
            write_private(connection, [(Envelope(self._cipher, private), None), (note.envelope, None)], now)
            write_events(connection, (_event("admin.key_created", id_, note, now, **body),))

        self._write(work)
        return ProxyKey(
            id=id_,
            surfaces=surfaces,
            names_user=names_user,
            created_at=now,
            name=name,
            caller=dict(caller),
            user_header=user_header,
        )

    def find(self, secret_digest: str) -> ProxyKey | None:
        """The key of a secret; None for none and for a revoked one."""
        return self._read(self.finding(secret_digest))

    def finding(self, secret_digest: str) -> Callable[[Connection], ProxyKey | None]:
        """What `find` does on a connection."""

        def work(connection: Connection) -> ProxyKey | None:
            row = run(connection, _FIND, {"digest": secret_digest}).first()
            return None if row is None else self._key(connection, row)

        return work

    def all(self) -> list[ProxyKey]:
        """In the order in which they were made, the revoked ones too."""
        return self._read(lambda c: [self._key(c, row) for row in run(c, _ALL, {}).all()])

    def revoke(self, id_: str, *, why: str, by: str, now: datetime) -> bool:
        """False: there is no such key, or it was revoked before."""
        note = write_note(self._cipher, by, why)

        def work(connection: Connection) -> bool:
            revoked = run(connection, _REVOKE, {"id": id_, "now": us(now)}).rowcount == 1
            if revoked:
                write_private(connection, [(note.envelope, None)], now)
                write_events(connection, (_event("admin.key_revoked", id_, note, now),))
            return revoked

        return self._write(work)

    def _key(self, connection: Connection, row: Any) -> ProxyKey:
        found = None
        with suppress(ConfigError):  # the data key of an erased user is gone
            found = read_private(connection, row.private_id, self._cipher)
        name, caller, *more = orjson.loads(found[1]) if found is not None else ("", None)
        return ProxyKey(
            id=row.id,
            surfaces=tuple(orjson.loads(row.surfaces)),
            names_user=bool(row.names_user),
            created_at=moment(row.created_us),
            name=name,
            caller=caller,
            revoked_at=None if row.revoked_us is None else moment(row.revoked_us),
            user_header=more[0] if more else None,  # keys of before had none
        )


def _checked_header(name: str, names_user: bool) -> str:
    """In small letters, as they are compared."""
    name = name.lower()
    if not names_user:
        raise ConfigError("a header that names the user is for a key whose holder names it")
    if not _HEADER.fullmatch(name):
        raise ConfigError("the header that names the user must be one of its own, like `X-OpenWebUI-User-Email`")
    return name


def _event(type_: EventType, id_: str, note: Note, now: datetime, **body: Any) -> Event:
    return Event(
        id=event_id(type_, id_),
        type=type_,
        at=now,
        body={"key_id": id_, "by": note.pseudonym, "note_id": note.id, **body},
    )

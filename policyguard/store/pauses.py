"""The stop button: what is paused now, in every process. Who pressed it and why is encrypted."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from policyguard.errors import ConfigError
from policyguard.flow.events import Event, EventType, event_id
from policyguard.flow.steps import CheckPaused, Pause
from policyguard.store.db import tables
from policyguard.store.db.sql import Sql, moment, run, us
from policyguard.store.notes import Note, Opener
from policyguard.store.record import sealed_of, write_events

SCOPES = ("all", "surface", "tenant", "user")

_CHECK = Sql(
    """
    SELECT scope, value, since_us FROM pauses
    WHERE scope = 'all' OR (scope = 'surface' AND value = :surface) OR (scope = 'tenant' AND value = :tenant)
      OR (scope = 'user' AND value = :user)
    ORDER BY scope LIMIT 1
    """
)
_PAUSE = Sql(
    """
    INSERT INTO pauses (scope, value, since_us, note_id) VALUES (:scope, :value, :since, :note_id)
    ON CONFLICT (scope, value) DO UPDATE SET since_us = excluded.since_us, note_id = excluded.note_id
    """
)
_UNPAUSE = Sql("DELETE FROM pauses WHERE scope = :scope AND value = :value")


def check_scope(scope: str, value: str) -> None:
    """Raises `ConfigError` for what cannot be paused."""
    if scope not in SCOPES:
        raise ConfigError(f"`{scope}` cannot be paused; what can is {', '.join(f'`{s}`' for s in SCOPES)}")
    if bool(value) is (scope == "all"):
        raise ConfigError("`all` takes no value" if scope == "all" else f"the name of the {scope} is missing")


def check(connection: Connection, step: CheckPaused, now: datetime) -> Pause | None:
    """The pause that covers this caller. The flow does not ask who pressed the button: that stays closed."""
    values = {"surface": step.surface, "tenant": step.tenant, "user": step.user}
    row = run(connection, _CHECK, values).first()
    return None if row is None else Pause(row.scope, row.value, "", "", moment(row.since_us))


def pause(connection: Connection, scope: str, value: str, note: Note, now: datetime) -> None:
    """Pausing what is paused already takes over, with the new note."""
    run(connection, _PAUSE, {"scope": scope, "value": value, "since": us(now), "note_id": note.id})
    write_events(connection, (_event("admin.paused", scope, value, note, now),))


def unpause(connection: Connection, scope: str, value: str, note: Note, now: datetime) -> bool:
    """False, and no event, where nothing was paused."""
    lifted = run(connection, _UNPAUSE, {"scope": scope, "value": value}).rowcount == 1
    if lifted:
        write_events(connection, (_event("admin.unpaused", scope, value, note, now),))
    return lifted


def _event(type_: EventType, scope: str, value: str, note: Note, now: datetime) -> Event:
    """A row with the scope among its dimensions, so that the record of a surface or a user shows its pauses."""
    return Event(
        id=event_id(type_, f"{scope}:{value}:{us(now)}"),
        type=type_,
        at=now,
        dimensions={} if scope == "all" else {scope: value},
        body={"scope": scope, "value": value, "by": note.pseudonym, "note_id": note.id},
    )


def pauses(connection: Connection, opener: Opener) -> list[Pause]:
    """Everything that is paused now, with who and why."""
    table, private = tables.pauses, tables.private
    query = (
        select(table.c.scope, table.c.value, table.c.since_us, private)
        .join_from(table, private, private.c.id == table.c.note_id, isouter=True)
        .order_by(table.c.scope, table.c.value)
    )
    return [_pause(connection, row, opener) for row in connection.execute(query).all()]


def _pause(connection: Connection, row: Row[Any], opener: Opener) -> Pause:
    by, why = opener(connection, sealed_of(row)) if row.ciphertext is not None else ("", "")
    return Pause(row.scope, row.value, why, by, moment(row.since_us))

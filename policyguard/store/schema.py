"""The version of the schema: read by plain SQL, changed by Alembic, which is imported only when there is work.

Migrations ship in the package. SQLite databases are brought up to date when they are opened; two processes that start
together do it once, because the work is one transaction and writers take turns. PostgreSQL waits for `policyguard db
migrate`: who may change its tables, and when, is for those who run it to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sqlalchemy import Connection, inspect

from policyguard.errors import ConfigError
from policyguard.store import address
from policyguard.store.db.database import Database
from policyguard.store.db.patience import FOR_EVER, patience
from policyguard.store.db.sql import Sql, insert, run

HEAD = "0006"
VERSION_TABLE = "policyguard_alembic_version"  # a host may have its own Alembic in the same database

_VERSION = Sql(f"SELECT version_num FROM {VERSION_TABLE}")  # noqa: S608 (constant name)
_KEY_IDS = Sql("SELECT key_id FROM keys")
_INSERT_KEY = insert("keys", ("key_id",), conflict="key_id")


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """`current` is None for a database that does not exist or is empty."""

    current: str | None
    head: str = HEAD

    @property
    def up_to_date(self) -> bool:
        return self.current == self.head


def version(connection: Connection) -> str | None:
    """Which revision the database is at."""
    if not inspect(connection).has_table(VERSION_TABLE):
        return None
    found: str | None = run(connection, _VERSION, {}).scalar()
    return found


def ensure(database: Database) -> None:
    """See that the database is up to date. Raises `ConfigError` where it is not, and must not be made so here."""
    current = database.read(version)
    if current == HEAD:
        return
    if database.read(lambda c: c.dialect.name) != "sqlite":
        raise ConfigError(
            f"the database is at revision {current or 'none'}, this policyguard needs {HEAD}; run `policyguard db"
            " migrate`"
        )
    bring_up(database)


def bring_up(database: Database) -> None:
    """Bring the database up to date. Raises `ConfigError` for one that a newer policyguard made."""
    current = database.read(version)
    if current is not None and current > HEAD:
        raise ConfigError(f"the database is at revision {current}, this policyguard knows {HEAD} at most")
    with patience(FOR_EVER):
        database.write(_upgrade)


def _upgrade(connection: Connection) -> None:
    if version(connection) == HEAD:  # somebody else was faster
        return
    from alembic import command
    from alembic.config import Config

    if connection.dialect.name == "postgresql":
        from policyguard.store.db.postgres import lift_limits

        lift_limits(connection)  # an index may take its time
    config = Config()
    config.set_main_option("script_location", "policyguard.store:migrations")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def check_key(database: Database, key_id: str) -> None:
    """The first key that opens a database is its key. Raises `ConfigError` for another one."""
    if key_id not in (database.read(_known_keys) or database.write(lambda c: _first_key(c, key_id))):
        raise ConfigError(
            "the key file does not belong to this database; under another key the budgets of users would start anew, so"
            " give it the key that it was made with"
        )


def _known_keys(connection: Connection) -> list[str]:
    return list(run(connection, _KEY_IDS, {}).scalars())


def _first_key(connection: Connection, key_id: str) -> list[str]:
    if not _known_keys(connection):
        run(connection, _INSERT_KEY, {"key_id": key_id})
    return _known_keys(connection)


def migrate(url: str) -> SchemaStatus:
    """Bring the database of a store's URL up to date; a missing SQLite file is made."""
    return _status(url, opened=bring_up)


def status(url: str) -> SchemaStatus:
    """Where the database stands; nothing is made or changed."""
    return SchemaStatus(None) if address.is_missing(url) else _status(url, opened=lambda _: None)


def _status(url: str, opened: Callable[[Database], None]) -> SchemaStatus:
    database = Database(address.backend(url), opened=opened)
    try:
        return SchemaStatus(database.read(version))
    finally:
        database.close()

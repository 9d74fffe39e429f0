"""PostgreSQL through psycopg 3: any number of processes and hosts on one database.

Writers take turns, by one lock that a transaction holds until it ends, as SQLite's writers do. So there is no deadlock,
the numbers of the record grow in the order of commits, and with group commit the turns are few: a budget of the whole
organisation would make everybody wait for one row anyway.
"""

from __future__ import annotations

import time
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from policyguard.errors import ConfigError
from policyguard.settings import without_secrets

try:
    import psycopg
except ImportError as error:
    raise ConfigError("PostgreSQL needs psycopg: `pip install 'policyguard[postgres]'`") from error

TURN = 0x706F6C6963796764  # the number of the lock; "policygd" in ASCII
CONNECT_TIMEOUT_S = 5
LIMITS_S = {
    "statement_timeout": 15.0,
    "lock_timeout": 10.0,  # how long a writer waits for its turn
    "idle_in_transaction_session_timeout": 5.0,  # and how long one that stopped in the middle may keep it,
    "transaction_timeout": 15.0,  # wherever it stopped; PostgreSQL 17 and later
}
_LATER = {"transaction_timeout": 170_000}  # limits that older servers do not know
LOOK_S = 0.05
READERS = 8
WAIT_FOR_READER_S = 5.0
_REPEATABLE = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_CUT = frozenset({"57P01", "57P02", "25P03", "25P04"})  # the server restarts, or we were too slow
_VALUES = ("22", "23")  # classes of errors whose texts quote a row


class Postgres:
    """One database of one server."""

    def __init__(self, url: URL) -> None:
        self._url = url

    def engines(self) -> tuple[Engine, Engine]:
        writes = self._engine(isolation_level="READ COMMITTED", pool_size=1)
        event.listen(writes, "begin", _take_turn)
        event.listen(writes, "connect", _by_index)
        reads = self._engine(
            isolation_level="REPEATABLE READ",
            pool_size=READERS,
            max_overflow=0,
            pool_timeout=WAIT_FOR_READER_S,
        )
        return writes, reads.execution_options(postgresql_readonly=True)

    def words(self, error: BaseException) -> str:
        if not isinstance(error, psycopg.Error):
            return type(error).__name__
        if error.sqlstate and error.sqlstate.startswith(_VALUES):
            return f"{type(error).__name__} {error.diag.constraint_name or ''}".rstrip()
        return without_secrets(error.diag.message_primary or " ".join(str(error).split()))

    def may_repeat(self, error: BaseException) -> bool:
        """In the way of somebody else, or on a connection that broke since it was last used."""
        if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
            return True
        return isinstance(error, psycopg.Error) and error.sqlstate in _REPEATABLE | _CUT

    def scrub(self) -> bool:
        """Write the table of keys anew: VACUUM alone leaves the bytes of deleted rows in the gaps of its pages.

        Rows that somebody's older snapshot still sees would be written with the rest.
        """
        engine = self._engine(isolation_level="AUTOCOMMIT", poolclass=NullPool)
        try:
            with engine.connect() as connection:
                now = connection.exec_driver_sql("SELECT pg_current_xact_id()::text").scalar_one()
                if not _seen_by_all(connection, now):
                    return False
                connection.exec_driver_sql("VACUUM FULL data_keys")
                connection.exec_driver_sql("VACUUM private")
        except OperationalError:  # no turn within the patience
            return False
        return True

    def _engine(self, **options: Any) -> Engine:
        engine = create_engine(
            self._url,
            hide_parameters=True,
            connect_args={"connect_timeout": CONNECT_TIMEOUT_S, "application_name": "policyguard"},
            **options,
        )
        event.listen(engine, "connect", _set_up)
        return engine


def _seen_by_all(connection: Connection, transaction: str) -> bool:
    """Whether nobody can look any more at what was before `transaction`, waited for with patience.

    That is a session of this database with an older snapshot, or, because it makes new snapshots old, any transaction
    of the server that began earlier.
    """
    older = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    older += f" AND age(backend_xmin) > age('{int(transaction)}'::xid8::xid)"
    running = f"SELECT pg_snapshot_xmin(pg_current_snapshot()) <= '{int(transaction)}'::xid8"
    until = time.monotonic() + LIMITS_S["lock_timeout"]
    while any(connection.exec_driver_sql(sql).scalar_one() for sql in (running, older)):
        if time.monotonic() > until:
            return False
        time.sleep(LOOK_S)
    return True


def _set_up(connection: psycopg.Connection[Any], record: object) -> None:
    for limit, seconds in LIMITS_S.items():
        if connection.info.server_version >= _LATER.get(limit, 0):
            connection.execute(f"SET {limit} = '{seconds}s'")
    connection.commit()


def _by_index(connection: psycopg.Connection[Any], record: object) -> None:
    """A writer looks rows up by their keys, one after another. A plan is made once and for rows of unknown number, and
    reading all of a table that is still small, to join it, would look cheaper then."""
    for way in ("hashjoin", "mergejoin", "seqscan"):
        connection.execute(f"SET enable_{way} = off")
    connection.commit()


def _take_turn(connection: Connection) -> None:
    driver: Any = connection.connection.driver_connection
    with driver.pipeline():  # with the BEGIN before it in one trip
        driver.execute("SELECT pg_advisory_xact_lock(%(turn)s)", {"turn": TURN})


def lift_limits(connection: Connection) -> None:
    """For this transaction, which may take long."""
    driver: Any = connection.connection.driver_connection
    for limit in ("statement_timeout", "transaction_timeout"):
        if driver.info.server_version >= _LATER.get(limit, 0):
            connection.exec_driver_sql(f"SET LOCAL {limit} = 0")

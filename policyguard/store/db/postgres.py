"""PostgreSQL through psycopg 3: any number of processes and hosts on one database.

Writers take turns, by one lock that a transaction holds until it ends, as SQLite's writers do. So there is no deadlock,
the numbers of the record grow in the order of commits, and with group commit the turns are few: a budget of the whole
organisation would make everybody wait for one row anyway.
"""

from __future__ import annotations

import math
import os
import socket
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from sqlalchemy import Connection, Engine, NullPool, create_engine, event
from sqlalchemy.engine import URL
from sqlalchemy.exc import OperationalError

from policyguard.errors import ConfigError
from policyguard.settings import setting, without_secrets
from policyguard.store.db.database import DEADLINE
from policyguard.text.suggest import did_you_mean

try:
    import psycopg
except ImportError as error:
    raise ConfigError("PostgreSQL needs psycopg: `pip install 'policyguard[postgres]'`") from error

TURN = 0x706F6C6963796764  # the number of the lock; "policygd" in ASCII
# What the address may say otherwise. A peer that went mute is noticed by the kernel, too, also by a connection at rest.
PARAMETERS: Mapping[str, str | int] = {
    "application_name": "policyguard",
    "connect_timeout": 5,
    "keepalives": 1,
    "keepalives_idle": 10,
    "keepalives_interval": 5,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # milliseconds
}
LIMITS_S = {
    "statement_timeout": 15.0,
    "lock_timeout": 10.0,  # how long a writer waits for its turn
    "idle_in_transaction_session_timeout": 5.0,  # and how long one that stopped in the middle may keep it,
    "transaction_timeout": 15.0,  # wherever it stopped; PostgreSQL 17 and later
}
_LATER = {"transaction_timeout": 170_000}  # limits that older servers do not know
LOOK_S = 0.05
# A writer looks rows up by their keys, one after another. A plan is made once and for rows of unknown number, and
# reading all of a table that is still small, to join it, would look cheaper then.
BY_INDEX = {"enable_hashjoin": "off", "enable_mergejoin": "off", "enable_seqscan": "off"}
READERS = 8
WAIT_FOR_READER_S = 5.0
_REPEATABLE = frozenset({"40001", "40P01"})  # serialization failure, deadlock
_CUT = frozenset({"57P01", "57P02", "25P03", "25P04"})  # the server restarts, or we were too slow
_READ_ONLY = "25006"
_VALUES = ("22", "23")  # classes of errors whose texts quote a row
_WORDS = {
    "sslmode": ("disable", "allow", "prefer", "require", "verify-ca", "verify-full"),
    "target_session_attrs": ("any", "read-write", "read-only", "primary", "standby", "prefer-standby"),
}
_NUMBERS = (
    "connect_timeout",
    "keepalives",
    "keepalives_idle",
    "keepalives_interval",
    "keepalives_count",
    "tcp_user_timeout",
)


class Postgres:
    """One database of one server."""

    clock_sql = "SELECT clock_timestamp()"

    def __init__(self, url: URL, pooler: str | None = None) -> None:
        pooler = setting("postgres_pooler", pooler)
        if pooler not in (None, "transaction"):
            raise ConfigError(f"POLICYGUARD_POSTGRES_POOLER is `transaction` or not set, not `{pooler}`")
        _check_parameters(url)
        self._url = url
        self._pooled = pooler is not None

    def engines(self) -> tuple[Engine, Engine]:
        """Where a pooler lends connections for one transaction, what a session keeps is said in each transaction."""
        # a server that may only be read is not kept: the old primary, a standby, one that is full
        target = {"target_session_attrs": "read-write"}
        writes = self._engine(target, isolation_level="READ COMMITTED", pool_size=1)
        reads = self._engine(
            {},
            isolation_level="REPEATABLE READ",
            pool_size=READERS,
            max_overflow=0,
            pool_timeout=WAIT_FOR_READER_S,
        )
        if self._pooled:
            event.listen(writes, "begin", lambda c: _take_turn(c, [*_limits(c), *BY_INDEX.items()]))
            event.listen(reads, "begin", _limit)
        else:
            event.listen(writes, "begin", _take_turn)
            event.listen(writes, "connect", lambda driver, _: _set_up(driver, BY_INDEX.items()))
        return writes, reads.execution_options(postgresql_readonly=True)

    def words(self, error: BaseException) -> str:
        if not isinstance(error, psycopg.Error):
            return type(error).__name__
        if error.sqlstate and error.sqlstate.startswith(_VALUES):
            return f"{type(error).__name__} {error.diag.constraint_name or ''}".rstrip()
        return without_secrets(error.diag.message_primary or " ".join(str(error).split()))

    def is_broken(self, error: BaseException) -> bool:
        if isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or self.may_repeat(error):
            return True
        return isinstance(error, psycopg.Error) and error.sqlstate == _READ_ONLY

    def may_repeat(self, error: BaseException) -> bool:
        """In the way of somebody else, or on a connection that broke since it was last used."""
        if isinstance(error, psycopg.OperationalError) and error.sqlstate is None:
            return True
        return isinstance(error, psycopg.Error) and error.sqlstate in _REPEATABLE | _CUT

    def cut(self, connection: psycopg.Connection[Any]) -> None:
        """Shut its socket down: a wait on it ends at once, also where the peer went mute."""
        with suppress(psycopg.Error, OSError):
            number = connection.fileno()
            with socket.socket(fileno=os.dup(number)) as ours:
                if not connection.closed and connection.fileno() == number:  # else the number may be another file's
                    ours.shutdown(socket.SHUT_RDWR)

    def scrub(self) -> bool:
        """Write the table of keys anew: VACUUM alone leaves the bytes of deleted rows in the gaps of its pages.

        Rows that somebody's older snapshot still sees would be written with the rest. Not through a pooler: there is no
        session there that could give up waiting for the lock, and everybody would wait behind it.
        """
        if self._pooled:
            return False
        engine = self._engine({}, isolation_level="AUTOCOMMIT", poolclass=NullPool)
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

    def _engine(self, parameters: Mapping[str, str], **options: Any) -> Engine:
        given = {**PARAMETERS, **parameters}
        arguments: dict[str, Any] = {name: value for name, value in given.items() if name not in self._url.query}
        if self._pooled:
            arguments["prepare_threshold"] = None  # a statement that was prepared is known to one server connection
        engine = create_engine(self._url, hide_parameters=True, connect_args=arguments, **options)
        if not self._pooled:
            event.listen(engine, "connect", lambda driver, _: _set_up(driver, _limits_of(driver)))
        return engine


def _check_parameters(url: URL) -> None:
    """Raises `ConfigError` for what the driver would not take, or the server only at the first request."""
    known = sorted(option.keyword.decode() for option in psycopg.pq.Conninfo.get_defaults())
    for name, value in url.query.items():
        if name not in known:
            hint = did_you_mean(name, known) or "see libpq's"
            raise ConfigError(f"`{name}` is no parameter of a PostgreSQL address; {hint}")
        allowed = _WORDS.get(name)
        if allowed and value not in allowed:
            raise ConfigError(f"`{name}` in the store's address is one of {', '.join(allowed)}")
        if name in _NUMBERS and not str(value).isdecimal():
            raise ConfigError(f"`{name}` in the store's address is a whole number")


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


def _limits_of(driver: psycopg.Connection[Any]) -> list[tuple[str, str]]:
    version = driver.info.server_version
    return [(limit, _ms(seconds)) for limit, seconds in LIMITS_S.items() if version >= _LATER.get(limit, 0)]


def _ms(seconds: float) -> str:
    return f"{max(1, round(seconds * 1000))}ms"


def _set_up(driver: psycopg.Connection[Any], values: Iterable[tuple[str, str]]) -> None:
    """For the session."""
    driver.execute(f"SELECT {_settings(values, local=False)}")
    driver.commit()


def _limits(connection: Connection) -> list[tuple[str, str]]:
    driver: Any = connection.connection.driver_connection
    return _limits_of(driver)


def _limit(connection: Connection) -> None:
    """For a transaction that reads."""
    driver: Any = connection.connection.driver_connection
    with driver.pipeline():  # with the BEGIN before it in one trip
        driver.execute(f"SELECT {_settings(_limits(connection), local=True)}")


def _settings(values: Iterable[tuple[str, str]], *, local: bool) -> str:
    """`local`: for this transaction."""
    return ", ".join(f"set_config('{name}', '{value}', {local})" for name, value in values)


def _take_turn(connection: Connection, values: Iterable[tuple[str, str]] = ()) -> None:
    """Wait for the lock no longer than those wait for whom it is taken."""
    driver: Any = connection.connection.driver_connection
    left = connection.info.get(DEADLINE, math.inf) - time.monotonic()
    patience = ("lock_timeout", _ms(min(left, LIMITS_S["lock_timeout"])))
    with driver.pipeline():  # with the BEGIN before it in one trip
        driver.execute(f"SELECT {_settings([*values, patience], local=True)}, pg_advisory_xact_lock({TURN})")


def lift_limits(connection: Connection) -> None:
    """For this transaction, which may take long."""
    driver: Any = connection.connection.driver_connection
    for limit in ("statement_timeout", "transaction_timeout"):
        if driver.info.server_version >= _LATER.get(limit, 0):
            connection.exec_driver_sql(f"SET LOCAL {limit} = 0")

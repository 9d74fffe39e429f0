"""How the store speaks SQL on its hot path: prepared text with `:names`, valid on SQLite and on PostgreSQL.

A store operation is a function `f(connection, step, now)` that does all its work in the transaction that it is given,
and raises `Rollback` where its answer is that nothing may change. So a driver can run one operation in a transaction,
or many, each in a savepoint of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, CursorResult

Params = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
DAY_US = 86_400_000_000


class Sql:
    """One statement, in the parameter style of each driver. A colon stands only before a parameter's name."""

    __slots__ = ("named", "pyformat")

    def __init__(self, text: str) -> None:
        self.named = " ".join(text.split())
        self.pyformat = re.sub(r":(\w+)", r"%(\1)s", self.named)


class Rollback(Exception):
    """Undo this operation alone, and answer `answer`."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


def run(connection: Connection, sql: Sql, params: Params | Sequence[Params]) -> CursorResult[Any]:
    """Execute prepared text; with a list of parameters once for each. Half the cost of a `text()` construct."""
    text = sql.named if connection.dialect.paramstyle == "named" else sql.pyformat
    return connection.exec_driver_sql(text, params)


def insert(table: str, columns: Iterable[str], *, conflict: str = "") -> Sql:
    """INSERT of one row; `conflict` names the key whose presence makes it do nothing."""
    names = list(columns)
    quoted, values = ", ".join(f'"{n}"' for n in names), ", ".join(f":{n}" for n in names)
    ignore = f' ON CONFLICT ("{conflict}") DO NOTHING' if conflict else ""
    return Sql(f"INSERT INTO {table} ({quoted}) VALUES ({values}){ignore}")  # noqa: S608 (constant names)


def us(at: datetime) -> int:
    """Microseconds since 1970, UTC; exact."""
    return (at - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """The aware UTC time of `us`."""
    return _EPOCH + timedelta(microseconds=value)


def delete_after(at: datetime, keep_days: int | None) -> int | None:
    """When retention removes a row; None: never."""
    return None if keep_days is None else us(at) + keep_days * DAY_US

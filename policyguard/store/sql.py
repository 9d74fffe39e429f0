"""How the store speaks SQL on its hot path: prepared text with `:names`, valid on SQLite and on PostgreSQL.

A store operation does all its work in the transaction that it is given, and raises `Rollback` where its answer is that
nothing may change. Most are functions `f(connection, ...)`. Those of every request are generators: they yield the
queries that they need next and are sent the rows, so that many run together, and one trip serves them all.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, NamedTuple, TypeVar

from sqlalchemy import Connection, CursorResult

Params = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
DAY_US = 86_400_000_000


class Sql:
    """One statement, in the parameter style of each driver. A colon stands only before a parameter's name."""

    __slots__ = ("named", "pyformat", "returns")

    def __init__(self, text: str) -> None:
        self.named = " ".join(text.split())
        self.pyformat = re.sub(r":(\w+)", r"%(\1)s", self.named)
        self.returns = self.named.startswith("SELECT") or "RETURNING" in self.named


class Query(NamedTuple):
    """A statement with its values."""

    sql: Sql
    params: Params


Rows = Sequence[tuple[Any, ...]]
A = TypeVar("A")
Steps = Generator[Sequence[Query], Sequence[Rows], A]  # yields queries, is sent the rows of each, returns its answer


class Together(NamedTuple, Generic[A]):
    """An operation that can run beside others; it is made anew when it has to be run again."""

    steps: Callable[[], Steps[A]]


class Rollback(Exception):
    """Undo this operation alone, and answer `answer`."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


def run(connection: Connection, sql: Sql, params: Params | Sequence[Params]) -> CursorResult[Any]:
    """Execute prepared text; with a list of parameters once for each. Half the cost of a `text()` construct."""
    text = sql.named if connection.dialect.paramstyle == "named" else sql.pyformat
    return connection.exec_driver_sql(text, params)


def ask(sql: Sql, params: Params) -> Steps[Rows]:
    """One query, and its rows."""
    (rows,) = yield [Query(sql, params)]
    return rows


def drive(connection: Connection, steps: Steps[A]) -> A:
    """Run one operation."""
    answer: A = drive_all(connection, [steps])[0]
    return answer


def drive_all(connection: Connection, operations: Sequence[Steps[Any]]) -> list[Any]:
    """Run operations side by side in one transaction: their queries of each round go to the database together."""
    answers: list[Any] = [None] * len(operations)
    replies: dict[int, Sequence[Rows] | None] = dict.fromkeys(range(len(operations)))
    while replies:
        asked: dict[int, Sequence[Query]] = {}
        for i, reply in replies.items():
            try:
                asked[i] = operations[i].send(reply)  # type: ignore[arg-type] # None starts a generator
            except StopIteration as done:
                answers[i] = done.value
        rows = iter(_execute(connection, [query for queries in asked.values() for query in queries]))
        replies = {i: [next(rows) for _ in queries] for i, queries in asked.items()}
    return answers


def _execute(connection: Connection, queries: Sequence[Query]) -> list[Rows]:
    """Straight to the driver, each statement once with all its values, in the order in which they first appear."""
    places: dict[Sql, list[int]] = {}
    for i, query in enumerate(queries):
        places.setdefault(query.sql, []).append(i)
    driver: Any = connection.connection.driver_connection
    run_all = _sqlite if connection.dialect.name == "sqlite" else _postgres
    rows: list[Rows] = [()] * len(queries)
    for sql, answers in run_all(driver, {sql: [queries[i].params for i in at] for sql, at in places.items()}):
        for i, answer in zip(places[sql], answers, strict=True):
            rows[i] = answer
    return rows


def _sqlite(driver: Any, asked: Mapping[Sql, list[Params]]) -> Iterator[tuple[Sql, Iterable[Rows]]]:
    for sql, values in asked.items():
        if sql.returns:
            yield sql, [driver.execute(sql.named, params).fetchall() for params in values]
        else:
            driver.executemany(sql.named, values)


def _postgres(driver: Any, asked: Mapping[Sql, list[Params]]) -> Iterator[tuple[Sql, Iterable[Rows]]]:
    """One trip for all."""
    cursors = [(sql, driver.cursor()) for sql in asked]
    with driver.pipeline():
        for sql, cursor in cursors:
            cursor.executemany(sql.pyformat, asked[sql], returning=sql.returns)
    for sql, cursor in cursors:
        if sql.returns:
            yield sql, [result.fetchall() for result in cursor.results()]


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

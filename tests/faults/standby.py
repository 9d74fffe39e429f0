"""A PostgreSQL server with a standby that streams from it, from the package that the tests' server comes from."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg
from databases import Server, start
from sqlalchemy.engine import make_url


class Pair:
    """A primary, and its standby once `follow` was called."""

    def __init__(self, folder: Path) -> None:
        self._handle = start(folder / "data")
        self.server = Server(make_url(self._handle.get_uri(driver="psycopg")), self._handle)
        self._copy = folder / "standby"
        self._standby: subprocess.Popen[bytes] | None = None

    def create(self) -> tuple[str, str]:
        """A database of the primary: its name and its URL."""
        name = self.server._create(migrated=True)
        return name, self.server.address(name)

    def follow(self, *, synchronous: bool) -> None:
        """Start the standby, and wait until it streams."""
        backup = (
            "-h",
            str(self._handle.pgdata),
            "-U",
            "postgres",
            "-D",
            str(self._copy),
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        )
        self._run("pg_basebackup", *backup)
        (self._copy / ".s.PGSQL.5432.lock").unlink()  # the primary's, whose socket stands among its data
        self._standby = self._popen("postgres", "-D", str(self._copy), "-k", str(self._copy), "-c", "listen_addresses=")
        while not self._ask("SELECT count(*) FROM pg_stat_replication WHERE state = 'streaming'"):
            assert self._standby.poll() is None, "the standby does not start"
        if synchronous:
            self.server.run("ALTER SYSTEM SET synchronous_standby_names = '*'")
            self.server.run("SELECT pg_reload_conf()")
            while not self._ask("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"):
                pass

    def lag(self) -> None:
        """From now on the standby receives nothing, and the primary does not mind."""
        self._sender = int(self._ask("SELECT pid FROM pg_stat_replication"))
        os.kill(self._sender, signal.SIGSTOP)

    def fail_over(self) -> str:
        """The primary dies, the standby takes its place: the socket of that."""
        self.server.kill()
        with psycopg.connect(host=str(self._copy), user="postgres", dbname="postgres", autocommit=True) as connection:
            connection.execute("SELECT pg_promote()")
        return f"{self._copy}/.s.PGSQL.5432"

    def url(self, name: str) -> str:
        """A database at the standby."""
        address = self.server.url.set(database=name).update_query_dict({"host": str(self._copy)})
        return address.render_as_string(hide_password=False)

    def close(self) -> None:
        if self._standby is not None:
            self._standby.send_signal(signal.SIGINT)
            self._standby.wait(30)
        with suppress(Exception):
            self._handle.cleanup()

    def _ask(self, sql: str) -> Any:
        with psycopg.connect(host=str(self._handle.pgdata), user="postgres", dbname="postgres") as connection:
            return connection.execute(sql).fetchone()[0]  # type: ignore[index]

    def _command(self, program: str, *arguments: str) -> dict[str, Any]:
        user = {"user": self._handle.system_user} if self._handle.system_user and os.geteuid() == 0 else {}
        return {"args": [str(self._handle.bin_path / program), *arguments], "stdout": subprocess.DEVNULL, **user}

    def _run(self, program: str, *arguments: str) -> None:
        self._copy.mkdir(mode=0o700)
        if self._handle.system_user and os.geteuid() == 0:
            shutil.chown(self._copy, self._handle.system_user)
        subprocess.run(**self._command(program, *arguments), check=True, cwd="/")

    def _popen(self, program: str, *arguments: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(**self._command(program, *arguments), stderr=subprocess.DEVNULL, cwd="/")


@contextmanager
def pair() -> Iterator[Pair]:
    folder = Path(tempfile.mkdtemp(prefix="policyguard-faults-"))
    folder.chmod(0o755)
    made = Pair(folder)
    try:
        yield made
    finally:
        made.close()
        shutil.rmtree(folder, ignore_errors=True)

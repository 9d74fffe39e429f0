"""Faults of the database under load, on two `policyguard serve` processes: what each costs.

`make faults` runs all and prints the table of docs/faults.md; it needs PgBouncer (`apt-get install pgbouncer`) and, for
the full disk, to be root, and fails where they are missing. The suite runs none of these: its short form is
`tests/store/test_faults.py`.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psycopg
import pytest
from databases import Server, connect
from faults.fleet import GRACE_S, HEAD, Result, fleet, record, result
from faults.standby import pair
from forwarder import Forwarder
from sqlalchemy.engine import make_url

from policyguard.audit.seal import seal
from policyguard.audit.verify import verify
from policyguard.store import migrate
from policyguard.store.db import postgres

pytestmark = pytest.mark.acceptance
MUTE_S, LAG_S = 8.0, 1.5
_results: list[Result] = []


@pytest.fixture(scope="module", autouse=True)
def _table() -> Iterator[None]:
    yield
    print("\n\n" + "\n".join([HEAD, *(one.row() for one in _results)]))


def made(sandbox: Any) -> int:
    """Images that were asked for upstream; one by each request."""
    return int(sandbox.counts()["paths"].get("/v1/images/generations", 0))


def run(
    name: str,
    store: str,
    sandbox: Any,
    folder: Path,
    fault: Callable[[], None],
    heal: Callable[[], None],
    *,
    seconds: float = MUTE_S,
    truth: str | None = None,
    recovers: bool = True,
    loses: bool = False,
    **settings: str,
) -> Result:
    """`truth` is the database as it is looked at afterwards, where that is not the address of the processes.

    `loses`: the fault takes what was committed, budgets and record alike.
    """
    with fleet(store, sandbox.url, folder, **settings) as running:
        times = asyncio.run(running.under(fault, heal, seconds))
        end_s = running.end()
        found = result(name, running, times, made(sandbox), truth or store, folder, end_s)
    _results.append(found)
    print(found.row())
    assert loses or found.overspent == found.unaccounted == 0
    assert found.slowest_s < 20
    assert end_s < GRACE_S + 2
    assert (found.recovered_s < 40) == recovers
    return found


@pytest.fixture
def behind(postgres: Server) -> Iterator[tuple[str, str, Forwarder]]:
    with postgres.database() as url:
        forwarder, through = Forwarder.before(url)
        with forwarder:
            yield url, through, forwarder


NETWORK: dict[str, Callable[[Forwarder], None]] = {
    "the network goes mute": Forwarder.mute,
    "connections are reset": Forwarder.reset,
    "the server refuses": Forwarder.refuse,
}


@pytest.mark.parametrize("name", NETWORK)
def test_the_network_fails(name: str, behind: tuple[str, str, Forwarder], sandbox: Any, tmp_path: Path) -> None:
    url, through, forwarder = behind
    found = run(name, through, sandbox, tmp_path, lambda: NETWORK[name](forwarder), forwarder.heal, truth=url)
    if name != "connections are reset":
        assert found.not_ready_s is not None


def test_the_end_comes_in_time_with_the_database_mute(
    behind: tuple[str, str, Forwarder], sandbox: Any, tmp_path: Path
) -> None:
    url, through, forwarder = behind
    with fleet(through, sandbox.url, tmp_path) as running:
        times = asyncio.run(running.under(lambda: None, forwarder.mute, 1))
        end_s = running.end()
        forwarder.heal()
        found = result("SIGTERM while it is mute", running, times, made(sandbox), url, tmp_path, end_s)
    _results.append(found)
    assert found.overspent == found.unaccounted == 0
    assert end_s < GRACE_S + 2


def test_another_writer_holds_the_lock(behind: tuple[str, str, Forwarder], sandbox: Any, tmp_path: Path) -> None:
    url, through, _ = behind
    holder = connect(url)

    def hold() -> None:
        holder.execute("SELECT pg_advisory_lock(%s)", [postgres.TURN])

    run("another writer holds the lock", through, sandbox, tmp_path, hold, holder.close, truth=url)


def test_the_server_may_only_be_read(sandbox: Any, tmp_path: Path) -> None:
    with pair() as servers, servers.server.database() as url:

        def set_to(value: str) -> None:
            with connect(servers.server.address("postgres")) as beside:
                beside.execute(f"ALTER SYSTEM SET default_transaction_read_only = {value}")
                beside.execute("SELECT pg_reload_conf()")

        def heal() -> None:
            with psycopg.connect(
                host=str(servers.server.handle.pgdata),
                user="postgres",
                dbname="postgres",
                autocommit=True,
                options="-c default_transaction_read_only=off",
            ) as beside:
                beside.execute("ALTER SYSTEM RESET default_transaction_read_only")
                beside.execute("SELECT pg_reload_conf()")

        found = run("the server may only be read", url, sandbox, tmp_path, lambda: set_to("on"), heal)
        assert found.not_ready_s is not None


def test_a_synchronous_standby_takes_over(sandbox: Any, tmp_path: Path) -> None:
    with pair() as servers:
        name, url = servers.create()
        servers.follow(synchronous=True)
        forwarder, through = Forwarder.before(url)

        def fail_over() -> None:
            forwarder.move(servers.fail_over())
            forwarder.reset()

        with forwarder:
            title, truth = "failover to a synchronous standby", servers.url(name)
            run(title, through, sandbox, tmp_path, fail_over, lambda: None, seconds=0, truth=truth)


def test_an_asynchronous_standby_takes_over_and_what_it_lacks_is_noticed(sandbox: Any, tmp_path: Path) -> None:
    """What the standby did not receive is lost, budgets and record alike: only a checkpoint kept elsewhere shows it."""
    published: dict[int, bytes] = {}
    with pair() as servers:
        name, url = servers.create()
        servers.follow(synchronous=False)
        forwarder, through = Forwarder.before(url)

        def fail_over() -> None:
            servers.lag()
            threading.Event().wait(LAG_S)
            published.update(sealed(url, tmp_path))
            forwarder.move(servers.fail_over())
            forwarder.reset()

        with forwarder:
            title, truth = "failover to an asynchronous standby that lags", servers.url(name)
            found = run(title, through, sandbox, tmp_path, fail_over, lambda: None, seconds=0, truth=truth, loses=True)
        assert found.unaccounted > 0
        with record(truth, tmp_path) as (opened, vault):
            assert verify(opened, vault, datetime.now(UTC)).clean
            findings = verify(opened, vault, datetime.now(UTC), published=published).findings
        assert {finding.what for finding in findings} & {"cut", "replaced"}


def sealed(url: str, folder: Path) -> dict[int, bytes]:
    """The checkpoint over all that there is."""
    with record(url, folder) as (opened, vault):
        seal(opened, vault, datetime.now(UTC))
        newest = opened.seals.newest()
    assert newest is not None
    return {newest.size: newest.root}


def test_pgbouncer_lends_a_connection_for_each_transaction(postgres: Server, sandbox: Any, tmp_path: Path) -> None:
    with postgres.database() as url, bouncer(url) as (through, restart):
        run(
            "PgBouncer in transaction mode is restarted",
            through,
            sandbox,
            tmp_path,
            restart,
            lambda: None,
            seconds=1,
            truth=url,
            POLICYGUARD_POSTGRES_POOLER="transaction",
        )


@contextmanager
def bouncer(url: str) -> Iterator[tuple[str, Callable[[], None]]]:
    """The real one, before the server of a URL: the URL through it, and what stops it and starts it anew."""
    program = shutil.which("pgbouncer")
    assert program, "this needs PgBouncer: apt-get install pgbouncer"
    address = make_url(url)
    with Forwarder(("127.0.0.1", 1)) as free:
        port = free.port  # free when that is closed
    server = Path(str(address.query["host"]))
    folder = Path(tempfile.mkdtemp(prefix="policyguard-bouncer-"))
    folder.chmod(0o755)  # it runs as the server's user, who alone may open the server's socket
    config, users = folder / "pgbouncer.ini", folder / "users.txt"
    users.write_text('"postgres" ""\n')
    config.write_text(
        f"[databases]\n* = host={server} port=5432 user=postgres\n[pgbouncer]\n"
        f"listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = trust\n"
        f"auth_file = {users}\npool_mode = transaction\ndefault_pool_size = 4\n"
    )
    user = {"user": server.owner()} if os.geteuid() == 0 else {}
    running: list[subprocess.Popen[bytes]] = []

    def begin() -> None:
        running.append(subprocess.Popen([program, str(config)], stderr=subprocess.DEVNULL, **user))  # type: ignore[call-overload]

    def restart() -> None:
        running[-1].kill()
        running[-1].wait()
        begin()

    begin()
    through = address.set(host="127.0.0.1", port=port, query={}).render_as_string(hide_password=False)
    try:
        _answers(through)
        yield through, restart
    finally:
        running[-1].kill()
        running[-1].wait()
        shutil.rmtree(folder)


def _answers(url: str) -> None:
    for _ in range(200):
        try:
            connect(url + "?connect_timeout=2").close()
        except psycopg.OperationalError:
            threading.Event().wait(0.05)
        else:
            return
    raise AssertionError("PgBouncer does not answer")


# ---- SQLite -------------------------------------------------------------------------------------------------------


def test_the_file_is_replaced(sandbox: Any, tmp_path: Path) -> None:
    """Nothing is allowed from then on, until the processes are started anew on the right file."""
    path = tmp_path / "record.sqlite3"
    away = tmp_path / "away"

    def replace() -> None:
        for part in ("", "-wal", "-shm"):
            path.with_name(path.name + part).rename(away.with_name(away.name + part))
        migrate(f"sqlite:///{path}")

    found = run(
        "the SQLite file is replaced",
        f"sqlite:///{path}",
        sandbox,
        tmp_path,
        replace,
        lambda: None,
        seconds=1,
        truth=f"sqlite:///{away}",
        recovers=False,
    )
    assert found.not_ready_s is not None


@contextmanager
def small_disk(folder: Path) -> Iterator[Path]:
    assert os.geteuid() == 0, "this needs root, to mount a small file system"
    disk = folder / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(disk)], check=True)
    try:
        yield disk
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_the_disk_is_full(sandbox: Any, tmp_path: Path) -> None:
    with small_disk(tmp_path) as disk:
        filler = disk / "filler"

        def fill() -> None:
            with filler.open("wb", buffering=0) as file:
                try:
                    while file.write(b"x" * 4096):
                        pass
                except OSError:
                    return

        run(
            "the disk of SQLite is full", f"sqlite:///{disk / 'record.sqlite3'}", sandbox, tmp_path, fill, filler.unlink
        )

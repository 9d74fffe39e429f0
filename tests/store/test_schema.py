from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from databases import Server
from sqlalchemy import create_engine, inspect
from store.books import NOW, VAULT, open_at, refused, rows

from policyguard.audit.private import Vault
from policyguard.errors import ConfigError
from policyguard.store import SchemaStatus, Store, migrate, open_store, status
from policyguard.store.db.tables import metadata
from policyguard.store.schema import HEAD, VERSION_TABLE

pytestmark = pytest.mark.usefixtures("migrations")


def test_the_migrations_build_exactly_the_tables(url: str) -> None:
    migrate(url)
    engine = create_engine(url)
    with engine.connect() as connection:
        options = {"target_metadata": metadata, "version_table": VERSION_TABLE, "compare_server_default": True}
        assert compare_metadata(MigrationContext.configure(connection, opts=options), metadata) == []
    engine.dispose()


def test_keys_checks_and_partial_indexes_are_built_as_well(path: Path, tmp_path: Path) -> None:
    """Autogenerate does not compare these: the migrated database says the same as one made from the tables."""
    migrate(str(path))
    engine = create_engine(f"sqlite:///{tmp_path / 'plain.sqlite3'}")
    metadata.create_all(engine)
    engine.dispose()
    sql = f"SELECT type, name, sql FROM sqlite_master WHERE name NOT LIKE '{VERSION_TABLE}%' ORDER BY name"

    def normal(file: Path) -> list[tuple[str, str, list[str]]]:
        return [
            (t, n, sorted((s or "").replace(",", " ").split())) for t, n, s in rows(file, sql) if "autoindex" not in n
        ]

    assert normal(path) == normal(tmp_path / "plain.sqlite3")


def test_the_head_is_the_newest_revision() -> None:
    config = Config()
    config.set_main_option("script_location", "policyguard.store:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [HEAD]


def test_an_sqlite_store_is_migrated_when_it_is_opened(path: Path) -> None:
    store = open_at(path)
    assert status(str(path)) == SchemaStatus(None)
    assert store.check() == SchemaStatus(HEAD)
    assert status(f"sqlite:///{path}").up_to_date
    store.close()


def test_a_postgresql_store_is_migrated_when_it_is_asked_for(postgres: Server) -> None:
    with postgres.database(migrated=False) as url:
        assert status(url) == SchemaStatus(None)
        store = open_at(url)
        with pytest.raises(ConfigError, match="run `policyguard db migrate`"):
            store.check()
        assert migrate(url) == SchemaStatus(HEAD)
        assert store.check() == SchemaStatus(HEAD)
        store.close()


def test_processes_that_migrate_together_do_it_once(postgres: Server, path: Path) -> None:
    with postgres.database(migrated=False) as url, ThreadPoolExecutor(4) as pool:
        for address in (url, f"sqlite:///{path}"):
            assert list(pool.map(migrate, [address] * 4)) == [SchemaStatus(HEAD)] * 4


def test_asking_for_the_status_makes_no_database(path: Path) -> None:
    assert status(str(path)).current is None
    assert not path.exists()


def test_migrating_twice_changes_nothing(url: str) -> None:
    assert [migrate(url), migrate(url)] == [SchemaStatus(HEAD)] * 2


def test_a_revision_can_be_taken_back(url: str) -> None:
    from alembic import command

    migrate(url)
    engine = create_engine(url)
    config = Config()
    config.set_main_option("script_location", "policyguard.store:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
    assert inspect(engine).get_table_names() == [VERSION_TABLE]
    engine.dispose()


def test_a_database_of_a_newer_version_is_refused(url: str) -> None:
    migrate(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql(f"UPDATE {VERSION_TABLE} SET version_num = '9999'")
    engine.dispose()
    store = open_at(url)
    with pytest.raises(ConfigError, match="revision 9999"):
        store.check()
    store.close()
    with pytest.raises(ConfigError, match="revision 9999"):
        migrate(url)


def test_a_database_belongs_to_its_key(store: Store, url: str) -> None:
    store.perform(refused("dec_1"), NOW)
    stranger = open_at(url, Vault(b"x" * 32))
    for _ in range(2):
        with pytest.raises(ConfigError, match="does not belong to this database"):
            stranger.perform(refused("dec_2"), NOW)
    stranger.close()
    assert len(store.events()) == 1


def test_an_up_to_date_store_opens_without_alembic(path: Path) -> None:
    migrate(str(path))
    code = """
import sys
from policyguard.audit.private import Vault
from policyguard.store import open_store
store = open_store(sys.argv[1], vault=Vault(bytes(32)))
store.check()
store.close()
sys.exit("alembic" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code, str(path)], check=False).returncode == 0


def test_the_durability_is_a_setting(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def synchronous(store: Store) -> int:
        level: int = store._database.write(lambda c: c.exec_driver_sql("PRAGMA synchronous").scalar_one())
        store.close()
        return level

    assert synchronous(open_store(str(path), vault=VAULT)) == 2
    assert synchronous(open_store(str(path), vault=VAULT, synchronous="normal")) == 1
    monkeypatch.setenv("POLICYGUARD_SQLITE_SYNCHRONOUS", "NORMAL")
    assert synchronous(open_store(str(path), vault=VAULT)) == 1
    with pytest.raises(ConfigError, match="FULL or NORMAL"):
        open_store(str(path), vault=VAULT, synchronous="OFF")

"""The store as verbs open it: an existing one, with its key; nothing is made by looking.

A mistyped address must fail, and not become a new, empty record.
"""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from policyguard.cli.output import fail
from policyguard.settings import setting

if TYPE_CHECKING:
    from policyguard.audit.private import Vault
    from policyguard.store import Store


@contextmanager
def existing_store(url: str | None) -> Iterator[Store]:
    """The store at `url`, else the one of the settings; ends with an error where there is none."""
    from policyguard.audit.keys import load_key
    from policyguard.audit.private import Vault
    from policyguard.store import key_path, open_store
    from policyguard.store.address import is_missing, sqlite_path

    address = setting("store", url) or ""
    if is_missing(address):
        fail(f"there is no record at `{sqlite_path(address)}`", hint="name it with --store, or set POLICYGUARD_STORE")
    store = open_store(address, vault=Vault(load_key(key_path(address), create=False)))
    try:
        yield store
    finally:
        store.close()


@contextmanager
def made_store(url: str | None) -> Iterator[Store]:
    """The store at `url`, else the one of the settings; one that is not there is made, as a guard would."""
    from policyguard.audit.keys import open_vault
    from policyguard.store import key_path, open_store

    address = setting("store", url) or ""
    store = open_store(address, vault=open_vault(key_path(address), create=True))
    try:
        yield store
    finally:
        store.close()


def vault_of(url: str | None) -> Vault:
    """The vault of a store that is there."""
    from policyguard.audit.keys import open_vault

    return open_vault(key_file_of(url), create=False)


def key_file_of(url: str | None) -> Path:
    from policyguard.store import key_path

    return Path(key_path(setting("store", url) or ""))


def me() -> str:
    """Who acts, where nobody was named: the login name."""
    return getpass.getuser()

"""Callers' keys of the proxy, on every engine."""

from __future__ import annotations

import re
from typing import Any

import pytest
from store.books import MINUTE, NOW, VAULT, open_at, rows

from policyguard.errors import ConfigError
from policyguard.store import ProxyKey, Store
from policyguard.store.proxy_keys import PREFIX, digest, new_secret


def create(store: Store, secret: str = "sk-1", **changes: Any) -> ProxyKey:
    values: dict[str, Any] = {
        "name": "web shop",
        "surfaces": ("avatars", "marketing"),
        "caller": {"tenant": "acme"},
        "names_user": True,
        "by": "ada",
        "now": NOW,
        **changes,
    }
    return store.proxy_keys.create(secret, **values)


def test_a_secret_is_long_random_and_says_what_it_is() -> None:
    secrets = {new_secret() for _ in range(100)}
    assert len(secrets) == 100
    assert {(secret.startswith(PREFIX), len(secret)) for secret in secrets} == {(True, len(PREFIX) + 43)}


def test_a_key_is_found_by_its_secret_and_by_nothing_else(store: Store) -> None:
    made = create(store)
    assert store.proxy_keys.find(digest("sk-1")) == made
    assert store.proxy_keys.find(digest("sk-2")) is None
    assert (made.surfaces, made.caller, made.names_user) == (("avatars", "marketing"), {"tenant": "acme"}, True)


def test_a_revoked_key_is_found_no_more_and_still_listed(store: Store) -> None:
    made = create(store)
    assert store.proxy_keys.revoke(made.id, why="leaked", by="grace", now=NOW + MINUTE)
    assert not store.proxy_keys.revoke(made.id, why="again", by="grace", now=NOW + MINUTE)
    assert not store.proxy_keys.revoke("key_none", why="", by="grace", now=NOW)
    assert store.proxy_keys.find(digest("sk-1")) is None
    assert [(key.id, key.revoked_at) for key in store.proxy_keys.all()] == [(made.id, NOW + MINUTE)]


def test_keys_are_known_in_every_process_at_once(store: Store, url: str) -> None:
    with_other = open_at(url)
    made = create(store)
    assert with_other.proxy_keys.find(digest("sk-1")) == made
    with_other.close()


def test_neither_the_secret_nor_who_it_is_for_stands_in_the_database(store: Store, url: str) -> None:
    create(
        store, "sk-canary", name="canary shop", caller={"user": "canary-user", "tenant": "canary-inc"}, names_user=False
    )
    found = [rows(url, f"SELECT * FROM {table}") for table in ("proxy_keys", "private", "events")]
    assert "canary" not in repr(found)


def test_making_and_revoking_are_in_the_record_by_pseudonym(store: Store) -> None:
    made = create(store)
    store.proxy_keys.revoke(made.id, why="leaked", by="grace", now=NOW)
    found = [row.event for row in store.events()]
    assert [(event.type, event.body["key_id"], event.body["by"]) for event in found] == [
        ("admin.key_created", made.id, VAULT.pseudonym("user", "ada")),
        ("admin.key_revoked", made.id, VAULT.pseudonym("user", "grace")),
    ]
    assert found[0].body["surfaces"] == ["avatars", "marketing"]


def test_erasing_the_user_of_a_key_ends_it(store: Store) -> None:
    create(store, caller={"user": "u1"}, names_user=False)
    create(store, "sk-2", now=NOW + MINUTE)
    store.erase("u1", why="asked for", by="ada", now=NOW)
    ended = store.proxy_keys.find(digest("sk-1"))
    assert ended is not None
    assert (ended.caller, ended.name) == (None, "")
    assert [key.caller for key in store.proxy_keys.all()] == [None, {"tenant": "acme"}]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"surfaces": ()}, "a key without a surface opens nothing"),
        (
            {"caller": {"user": "u1"}, "names_user": True},
            "a key either stands for one user or lets its holder name the user, not both",
        ),
    ],
)
def test_a_key_that_could_mean_nothing_is_an_error(store: Store, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        create(store, **changes)
    assert store.proxy_keys.all() == []


def test_a_key_tells_nothing_of_who_it_is_for_in_its_repr(store: Store) -> None:
    assert "u1" not in repr(create(store, caller={"user": "u1"}, names_user=False))

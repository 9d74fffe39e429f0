from __future__ import annotations

import re

import pytest
from store.books import MINUTE, NOW, USER, VAULT, open_at

from policyguard.errors import ConfigError
from policyguard.flow.steps import CheckPaused, Pause
from policyguard.store import Store

MINE = CheckPaused("avatars", "acme", USER)


def paused(store: Store, step: CheckPaused = MINE) -> str | None:
    found = store.perform(step, NOW)
    return found.scope if found else None


@pytest.mark.parametrize(("scope", "value"), [("all", ""), ("surface", "avatars"), ("tenant", "acme"), ("user", USER)])
def test_a_pause_covers_what_it_names_and_nothing_else(store: Store, scope: str, value: str) -> None:
    assert paused(store) is None
    store.pause(scope, value, why="incident", by="ada", now=NOW)
    other = CheckPaused("marketing", "globex", VAULT.pseudonym("user", "u2"))
    assert (paused(store), paused(store, other)) == (scope, "all" if scope == "all" else None)
    assert paused(store, CheckPaused("marketing", None, None)) == ("all" if scope == "all" else None)


def test_a_user_is_paused_by_name_as_well(store: Store) -> None:
    store.pause("user", "u1", why="abuse", by="ada", now=NOW)
    assert paused(store) == "user"
    assert store.unpause("user", USER, why="sorry", by="ada", now=NOW)
    assert paused(store) is None


def test_a_pause_says_who_and_why_and_the_record_only_by_pseudonym(store: Store) -> None:
    store.pause("surface", "avatars", why="a wave of abuse", by="ada", now=NOW)
    assert store.pauses() == [Pause("surface", "avatars", "a wave of abuse", "ada", NOW)]
    (row,) = store.events()
    assert (row.event.type, row.event.dimensions["surface"]) == ("admin.paused", "avatars")
    assert row.event.body["by"] == VAULT.pseudonym("user", "ada")
    assert "abuse" not in repr(row)


def test_pausing_again_takes_over(store: Store) -> None:
    store.pause("all", "", why="first", by="ada", now=NOW)
    store.pause("all", "", why="second", by="grace", now=NOW + MINUTE)
    assert store.pauses() == [Pause("all", "", "second", "grace", NOW + MINUTE)]


def test_what_is_not_paused_cannot_be_lifted(store: Store) -> None:
    assert not store.unpause("all", "", why="", by="ada", now=NOW)
    assert store.events() == []


@pytest.mark.parametrize(
    ("scope", "value", "message"),
    [
        ("galaxy", "x", "`galaxy` cannot be paused; what can is `all`, `surface`, `tenant`, `user`"),
        ("all", "x", "`all` takes no value"),
        ("surface", "", "the name of the surface is missing"),
    ],
)
def test_a_pause_of_nothing_is_an_error(store: Store, scope: str, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        store.pause(scope, value, why="", by="ada", now=NOW)


def test_a_pause_is_in_force_in_every_other_store_at_once(store: Store, url: str) -> None:
    other = open_at(url)
    assert paused(other) is None
    store.pause("all", "", why="", by="ada", now=NOW)
    assert paused(other) == "all"
    other.close()

"""What `doctor` says of a PostgreSQL's settings; `off` is also asked of a real server, in test_faults.py."""

from __future__ import annotations

from typing import Any

import pytest

from policyguard.store.durability import window

CRASH = "synchronous_commit is off: a crash of the server takes back the last moments"
FAILOVER = "a failover takes back what the standby had not received: set synchronous_standby_names"


class Server:
    """A connection to a server with these settings. To set them on a real one would change it for every other test."""

    class dialect:
        name = "postgresql"

    def __init__(self, *answer: object) -> None:
        self._answer = answer

    def exec_driver_sql(self, statement: str) -> Any:
        assert statement.count("current_setting") == 2
        return self

    def one(self) -> tuple[object, ...]:
        return self._answer


@pytest.mark.parametrize("names", ["", "b", "ANY 1 (b, c)"])
@pytest.mark.parametrize("standbys", [0, 1])
def test_off_is_a_window_whatever_stands_by(names: str, standbys: int) -> None:
    assert (window(Server("off", names, standbys)) or "").startswith(CRASH)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("commit", "names", "standbys"),
    [
        ("on", "", 1),  # a standby that nobody waits for
        ("remote_apply", "", 2),
        ("local", "", 1),
        ("local", "b", 1),  # one is named, and the commit does not wait for it
        ("local", "b", 0),  # nor would it once the standby is back
    ],
)
def test_a_standby_that_no_commit_waits_for_is_a_window(commit: str, names: str, standbys: int) -> None:
    assert (window(Server(commit, names, standbys)) or "").startswith(FAILOVER)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("commit", "names", "standbys"),
    [
        ("on", "", 0),  # one server alone
        ("local", "", 0),
        ("on", "b", 1),
        ("on", "b", 0),  # commits wait until the named standby is back
        ("remote_write", "b", 1),
        ("remote_apply", "ANY 1 (b, c)", 2),
    ],
)
def test_one_server_or_a_standby_that_commits_wait_for_is_none(commit: str, names: str, standbys: int) -> None:
    assert window(Server(commit, names, standbys)) is None  # type: ignore[arg-type]

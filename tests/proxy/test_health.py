"""Whether it is ready is asked of the store by writing, on the way that requests take."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from databases import Server, connect
from forwarder import Forwarder
from support import AVATARS, ORG, write_policies

from policyguard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.proxy import health

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(health, "KEPT_S", 0.0)


def guard_at(store: str, tmp_path: Path) -> Guard:
    folder = write_policies(tmp_path / "policies", org=ORG, avatars=AVATARS)
    return Guard.open(folder, store=store, moderator=ScriptedModerator(), key_file=tmp_path / "key", watch=False)


class Reachable:
    """A look at an upstream where nothing is wrong."""

    async def look(self) -> tuple[()]:
        return ()


class Page:
    def __init__(self, guard: Guard) -> None:
        self.app: Any = health.pages(guard, None, Reachable())  # type: ignore[arg-type]

    async def problems(self) -> list[str]:
        async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=self.app), base_url="http://x") as client:
            answer = await client.get("/readyz")
        assert (answer.status_code == 200) == (answer.json()["problems"] == [])
        problems: list[str] = answer.json()["problems"]
        return problems


@pytest.fixture
def far(postgres: Server, tmp_path: Path) -> Iterator[tuple[Guard, Forwarder, str]]:
    with postgres.database() as url:
        forwarder, through = Forwarder.before(url)
        with forwarder, guard_at(through, tmp_path) as guard:
            yield guard, forwarder, url
            forwarder.heal()


async def test_a_database_that_is_mute_is_not_ready(far: tuple[Guard, Forwarder, str]) -> None:
    guard, forwarder, _ = far
    page = Page(guard)
    assert await page.problems() == []
    forwarder.mute()
    assert await page.problems() != []
    forwarder.heal()
    while await page.problems():
        pass  # ready again by itself


async def test_a_database_that_may_only_be_read_is_not_ready(far: tuple[Guard, Forwarder, str]) -> None:
    guard, forwarder, url = far
    page, name = Page(guard), url.partition("?")[0].rpartition("/")[2]
    assert await page.problems() == []
    with connect(url) as beside:
        beside.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        forwarder.reset()
        assert "read-only" in (await page.problems())[0]
        beside.execute("SET default_transaction_read_only = off")
        beside.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
    assert await page.problems() == []


async def test_a_file_that_was_replaced_is_not_ready(tmp_path: Path) -> None:
    with guard_at(f"sqlite:///{tmp_path / 'record.sqlite3'}", tmp_path) as guard:
        page = Page(guard)
        assert await page.problems() == []
        (tmp_path / "record.sqlite3").unlink()
        for _ in range(2):
            assert "deleted or replaced" in (await page.problems())[0]


async def test_who_asks_while_it_is_asked_waits_for_the_same_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import anyio

    with guard_at(f"sqlite:///{tmp_path / 'record.sqlite3'}", tmp_path) as guard:
        page, asked, go_on = Page(guard), [], threading.Event()

        def slow(now: object) -> None:
            asked.append(now)
            go_on.wait(30)

        monkeypatch.setattr(guard.store, "probe", slow)
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(page.problems)
            while not asked:
                await anyio.sleep(0)
            go_on.set()
        assert len(asked) == 1

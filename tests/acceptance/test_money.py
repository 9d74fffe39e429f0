"""The promises about money, over real HTTP, with the real SDK and a real process to kill."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from openai import RateLimitError
from patience import until
from support import AVATARS

pytestmark = pytest.mark.acceptance
DOLLAR = """
budgets: [{id: dollar, limit: $1 / day}]
"""
ENDS = ("leg.settled", "leg.released", "leg.presumed")


@pytest.fixture(params=["sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'record.sqlite3'}"
    else:
        with request.getfixturevalue("postgres").database() as url:
            yield url


def ends(store: Any) -> Counter[str]:
    return Counter(row.event.type for row in store.events(limit=10_000) if row.event.type in ENDS)


def test_a_one_dollar_budget_bounds_fifty_concurrent_requests(serve: Callable[..., Any], sandbox: Any) -> None:
    """Each costs at most $0.211, so four fit."""
    app = serve(avatars=AVATARS + DOLLAR)
    client = app.client()

    def ask(number: int) -> str | None:
        try:
            client.images.generate(prompt=f"a cat {number}", size="1024x1024", quality="high")
        except RateLimitError as error:
            return f"{error.code}, retry {error.response.headers['x-should-retry']}"
        return None

    with ThreadPoolExecutor(50) as pool:
        codes = Counter(pool.map(ask, range(50)))
    assert codes == {None: 4, "policy_budget_exceeded, retry false": 46}
    assert sandbox.counts()["generations"] == 4
    app.stop()
    store = app.store()
    spent = store.spend()[0].spent_micros
    (window,) = store.budget_windows()
    store.close()
    assert 0 < spent <= 1_000_000
    assert (window.spent, window.reserved) == (spent, 0)


def test_a_client_that_leaves_in_the_middle_is_still_charged(serve: Callable[..., Any], sandbox: Any) -> None:
    app = serve(avatars=AVATARS + DOLLAR)
    sandbox.fault("/v1/images/generations", "slow=0.5", times=1)
    address = urlsplit(app.url)
    body = b'{"prompt": "a cat"}'
    head = f"POST /avatars/v1/images/generations HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-User-Id: u1\r\nContent-Length: {len(body)}\r\n\r\n"  # noqa: E501
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(head.encode() + body)
        _until_asked(sandbox, "/v1/images/generations")
    app.stop()
    store = app.store()
    row = store.spend()[0]
    found = ends(store)
    store.close()
    assert (row.requests, row.reserved_micros, sum(found.values())) == (1, 0, 1)
    assert row.spent_micros > 0


def test_kill_9_between_reserve_and_settle_loses_no_money(serve: Callable[..., Any], sandbox: Any) -> None:
    """The sent leg of the dead process is presumed when its time passes; the leg of a live process is untouched."""
    dead, live = serve(avatars=AVATARS + DOLLAR), serve(avatars=AVATARS + DOLLAR)
    sandbox.fault("/v1/images/generations", "slow=600", times=1)
    with ThreadPoolExecutor(2) as pool:
        lost = pool.submit(_quietly, lambda: dead.client().images.generate(prompt="a cat"))
        _until_asked(sandbox, "/v1/images/generations")
        dead.kill()
        lost.result()
    sandbox.fault("/v1/images/generations", "slow=1", times=1)
    with ThreadPoolExecutor(1) as pool:  # in flight in the live process while another one starts on the same store
        answered = pool.submit(lambda: live.client("u2").images.generate(prompt="a dog"))
        _until_asked(sandbox, "/v1/images/generations", 2)
        restarted = serve(avatars=AVATARS + DOLLAR)
        assert answered.result().usage is not None
    live.stop()  # so that what it answered is settled
    store = live.store()
    before = store.spend()[0]
    assert (before.requests, before.reserved_micros > 0, before.actual_micros > 0) == (2, True, True)
    swept = store.sweep(datetime.now(UTC))
    assert (swept.released, swept.presumed) == (0, 0)
    swept = store.sweep(datetime.now(UTC) + timedelta(minutes=12))
    after = store.spend()[0]
    assert (swept.presumed, after.reserved_micros, after.presumed_micros) == (1, 0, before.reserved_micros)
    assert ends(store) == {"leg.settled": 1, "leg.presumed": 1}
    (window,) = store.budget_windows()
    assert (window.reserved, window.spent) == (0, after.spent_micros)
    store.close()
    assert restarted.client("u3").images.generate(prompt="a cow").usage is not None


@pytest.mark.parametrize("fault", ["429", "500", "503", "cut", "no_usage", "moderation_blocked", "nonsense"])
def test_whatever_upstream_does_each_leg_has_one_end(serve: Callable[..., Any], sandbox: Any, fault: str) -> None:
    """Behind an app of somebody's own no error is definite: everything but usage is presumed at the ceiling."""
    app = serve(avatars=AVATARS + DOLLAR)
    sandbox.fault("/v1/images/generations", fault, times=1)
    client = app.client()
    _quietly(lambda: client.images.generate(prompt="a cat"))
    client.images.generate(prompt="a dog")
    app.stop()
    store = app.store()
    found, row = ends(store), store.spend()[0]
    store.close()
    assert found == {"leg.settled": 1, "leg.presumed": 1}
    assert row.presumed_micros > row.actual_micros > 0


def _quietly(call: Callable[[], Any]) -> None:
    """The client's view does not matter here: it may see an error, an odd answer or a closed connection."""
    try:
        call()
    except Exception:
        return


def _until_asked(sandbox: Any, path: str, times: int = 1) -> None:
    """Until the sandbox has the request; the sandbox answers only later."""
    until(lambda: sandbox.counts()["paths"].get(path, 0) >= times)

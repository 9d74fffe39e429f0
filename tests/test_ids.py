from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from policyguard.ids import draw


def test_nobody_gets_the_same_bytes_twice() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: draw(10), range(8_000)))
    assert len(set(found)) == len(found)
    assert {len(one) for one in found} == {10}


def test_any_number_can_be_drawn() -> None:
    assert [len(draw(count)) for count in (0, 1, 4096, 10_000, 3)] == [0, 1, 4096, 10_000, 3]


def test_a_forked_process_draws_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def urandom(count: int) -> bytes:
        asked.append(count)
        return bytes(count)

    draw(1)
    monkeypatch.setattr(os, "urandom", urandom)
    draw(1)
    assert asked == []
    pid = os.getpid()
    monkeypatch.setattr(os, "getpid", lambda: pid + 1)
    draw(1)
    draw(1)
    assert len(asked) == 1
    monkeypatch.undo()
    draw(1)  # what the test put in place is gone with its process

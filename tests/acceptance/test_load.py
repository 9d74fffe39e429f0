"""Many requests at once over an upstream that is slow, breaks off and fails: every one is accounted for.

The suite sends some hundred, `make load` two thousand, 64 at once. What each asks the sandbox to do is drawn by a seed.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any

import aiohttp
import pytest
from acceptance.test_proxy import GENERATIONS, MODERATIONS, STREAMED
from patience import HANGS_S
from store.books import assert_books_balance, rows

pytestmark = pytest.mark.acceptance
REQUESTS = int(os.environ.get("POLICYGUARD_LOAD", "300"))
AT_ONCE = 64
GROWTH_MB = 20  # from a third of the requests on; one that kept a request would be far beyond
SILENCE_S = 2.0  # that the proxy takes from upstream, at least
BUDGETS = STREAMED.replace("$10 / day}", "$100000 / day}, {id: user, per: caller.user, limit: 100000 images / day}")

# What the sandbox does, what its client sees (None: the answer breaks off), and how the leg ends.
PLAIN: dict[str, tuple[int | None, str]] = {
    "": (200, "settled"),
    "slow=0.3": (200, "settled"),
    "slow=600": (504, "presumed"),
    "429": (429, "released"),
    "500": (500, "presumed"),
    "502": (502, "presumed"),
    "503": (503, "released"),
    "cut": (None, "presumed"),
    "moderation_blocked": (400, "released"),
    "no_usage": (200, "presumed"),
    "nonsense": (200, "presumed"),
}
STREAMS: dict[str, tuple[int | None, str]] = {
    "": (200, "settled"),
    "slow=0.3": (200, "settled"),
    "slow=600": (None, "presumed"),
    "error_event": (200, "presumed"),
    "unfinished": (200, "presumed"),
    "500": (500, "presumed"),
    "leave": (None, "presumed"),  # the client does, after the first event
}
DENIED = "denied"


@dataclass(frozen=True, slots=True)
class Ask:
    stream: bool
    fault: str
    prompt: str = "a cat"

    @property
    def expected(self) -> tuple[int | None, str]:
        if self.prompt != "a cat":
            return 400, DENIED
        return (STREAMS if self.stream else PLAIN)[self.fault]

    @property
    def body(self) -> dict[str, Any]:
        return {"prompt": self.prompt, **({"stream": True, "partial_images": 2} if self.stream else {})}


def drawn(count: int) -> list[Ask]:
    chance = random.Random(5)
    asks = []
    for _ in range(count):
        stream = chance.random() < 0.4
        denied = chance.random() < 0.1
        fault = chance.choice(list(STREAMS if stream else PLAIN))
        asks.append(Ask(stream, fault, "a swordfight at dawn" if denied else "a cat"))
    return asks


async def send(client: aiohttp.ClientSession, url: str, ask: Ask) -> tuple[int | None, str]:
    """What the client sees, and the decision that it was told."""
    fault = "slow=600" if ask.fault == "leave" else ask.fault
    decision = ""
    try:
        async with client.post(url, json=ask.body, headers={"x-sandbox-fault": fault} if fault else {}) as answer:
            decision = answer.headers.get("x-policyguard-decision", "")
            if ask.fault == "leave" and answer.status == 200:
                await answer.content.readline()
                answer.close()
                return None, decision
            await answer.read()
            return answer.status, decision
    except aiohttp.ClientError:
        return None, decision


async def load(url: str, key: str, asks: list[Ask]) -> list[tuple[int | None, str]]:
    """The answers in the order of the questions, so many at once."""
    turn = asyncio.Semaphore(AT_ONCE)
    headers = {"authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=HANGS_S)
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(headers=headers, timeout=timeout, connector=connector) as client:

        async def one(ask: Ask) -> tuple[int | None, str]:
            async with turn:
                return await send(client, url, ask)

        return await asyncio.gather(*map(one, asks))


def resident_mb(pid: int) -> float:
    """Zero where the system does not say."""
    statm = Path(f"/proc/{pid}/statm")
    return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6 if statm.exists() else 0.0


def silence_s(upstream: str) -> float:
    """So long that nobody is silent for it who is only busy: ten times what it takes to answer so many at once."""
    begun = monotonic()
    asyncio.run(load(upstream, "sk-sandbox", [Ask(False, "")] * AT_ONCE))
    return max(SILENCE_S, 10 * (monotonic() - begun))


def test_every_request_under_load_is_accounted_for(proxy: Callable[..., Any], sandbox: Any) -> None:
    silence = silence_s(f"{sandbox.url}{GENERATIONS}")
    app = proxy("--upstream-timeout", f"{silence:.1f}", patient=True, avatars=BUDGETS)
    asks, key, url = drawn(REQUESTS), app.key(user="u1"), f"{app.url}{GENERATIONS}"
    first = len(asks) // 3
    answers = asyncio.run(load(url, key, asks[:first]))
    warm = resident_mb(app.process.pid)
    answers += asyncio.run(load(url, key, asks[first:]))
    grown = resident_mb(app.process.pid) - warm
    counts = sandbox.counts()
    app.stop()

    assert Counter((ask, seen) for ask, (seen, _) in zip(asks, answers, strict=True)) == Counter(
        (ask, ask.expected[0]) for ask in asks
    )
    decisions = rows(app.store_url, "SELECT decision_id FROM events WHERE type = 'request.decided'")
    assert sorted(decision for (decision,) in decisions) == sorted(decision for _, decision in answers)
    legs = dict(rows(app.store_url, "SELECT decision_id, state FROM legs"))
    expected = {decision: ask.expected[1] for ask, (_, decision) in zip(asks, answers, strict=True)}
    assert legs == {decision: end for decision, end in expected.items() if end != DENIED}
    ended = rows(app.store_url, "SELECT decision_id, type FROM events WHERE type LIKE 'leg.%'")
    assert sorted(ended) == sorted((decision, f"leg.{end}") for decision, end in legs.items())
    assert counts["paths"][GENERATIONS] == AT_ONCE + len(legs)
    assert counts["paths"][MODERATIONS] == len(asks)
    assert_books_balance(app.store_url)
    assert rows(app.store_url, "SELECT sum(reserved) FROM budget_windows") == [(0,)]
    print(f"{len(asks)} requests, {len(legs)} legs: {warm:.0f} MB after {first}, {grown:+.1f} MB since")
    assert grown < GROWTH_MB

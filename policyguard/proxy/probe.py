"""Whether the upstream is what it should be: a free look now and then, for `/readyz`, `doctor` and the log.

An upstream that is down comes back by itself. One that is misnamed, refuses the key or is this proxy itself does not:
what `stops` is told once, and requests are answered with what it is, not with a 503 that asks them to come again.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Final, NamedTuple
from urllib.parse import urlsplit

import orjson

from policyguard.logs import say
from policyguard.proxy.listen import is_loopback
from policyguard.proxy.upstream import Upstream, UpstreamAnswer, UpstreamFailed

PROBE: Final = "x-policyguard-probe"  # whose look it is: whoever finds its own name in it looks at itself
REALM: Final = 'Bearer realm="policyguard"'  # of a proxy's 401
LOOP: Final = 508
WITHIN_S = 3.0  # for one look
GOOD_S, BAD_S = 300.0, 15.0  # until the next one
_MAX_BYTES = 4 * 1024 * 1024


class ProbeFinding(NamedTuple):
    """`stops`: no request can succeed until somebody acts."""

    says: str
    stops: bool = True


class Probe:
    """What is known of `upstream`. `instance` is the name that all workers of this proxy share."""

    def __init__(self, upstream: Upstream, instance: str, clock: Callable[[], float] = time.monotonic) -> None:
        self.instance = instance
        self.found: tuple[ProbeFinding, ...] = ()
        self._upstream, self._clock = upstream, clock
        self._next: float | None = None
        self._looking = asyncio.Lock()

    @property
    def stops(self) -> bool:
        return any(found.stops for found in self.found)

    async def look(self) -> tuple[ProbeFinding, ...]:
        """What is wrong, as it was found at most minutes ago, or seconds where something was.

        After the first look nobody waits for one that is under way: a mute upstream takes its time, `/readyz` has none.
        """
        if self._next is not None and self._looking.locked():
            return self.found
        async with self._looking:  # one look for all who ask meanwhile
            if self._next is None or self._clock() >= self._next:
                found = await probe_upstream(self._upstream, self.instance)
                _tell(self.found, found)
                self.found = found
                self._next = self._clock() + self.pause_s
        return self.found

    @property
    def pause_s(self) -> float:
        return BAD_S if self.found else GOOD_S

    async def watch(self) -> None:
        """Look for ever."""
        while True:
            await self.look()
            await asyncio.sleep(self.pause_s)


def _tell(before: tuple[ProbeFinding, ...], found: tuple[ProbeFinding, ...]) -> None:
    for one in found:
        if one not in before:
            level = logging.ERROR if one.stops else logging.WARNING
            say(level, "upstream.found", "the upstream: %s", one.says, stops=one.stops)
    if before and not found:
        say(logging.INFO, "upstream.found", "the upstream: nothing is wrong any more", stops=False)


async def probe_upstream(upstream: Upstream, instance: str = "") -> tuple[ProbeFinding, ...]:
    """Ask for the list of models, which costs nothing."""
    found = _plain(upstream)
    try:
        async with asyncio.timeout(WITHIN_S):
            found += await _answered(upstream, instance)
    except UpstreamFailed as error:
        found.append(ProbeFinding(error.cause) if error.cause else _NOT_REACHED)
    except TimeoutError:
        found.append(_NOT_REACHED)
    return tuple(found)


_NOT_REACHED = ProbeFinding("it cannot be reached now", stops=False)


def _plain(upstream: Upstream) -> list[ProbeFinding]:
    parts = urlsplit(upstream.base_url)
    if parts.scheme == "https" or is_loopback(parts.hostname or ""):
        return []
    return [
        ProbeFinding("plain http carries the key and every prompt in the clear; name it with https://", stops=False)
    ]


async def _answered(upstream: Upstream, instance: str) -> list[ProbeFinding]:
    async with _models(upstream, instance) as answer:
        status, challenge = answer.status, answer.names.get("www-authenticate", "")
        if status == 200:
            return (
                [] if _is_object(await answer.body(_MAX_BYTES)) else [ProbeFinding("what answers is not OpenAI's API")]
            )
    if status == 404:
        return [await _not_there(upstream, instance)]
    if status == 401 and challenge == REALM:
        return [ProbeFinding("it is a policyguard proxy, this one perhaps, and OPENAI_API_KEY is no key of it")]
    if 300 <= status < 400:
        return [ProbeFinding("it redirects to another address, and redirects are not followed; name that address")]
    return [ProbeFinding(_LASTING[status])] if status in _LASTING else []


# Others pass by themselves. A 403 is no news: a key that may only make images may not list models.
_LASTING: Mapping[int, str] = {
    401: "it refuses the key in OPENAI_API_KEY",
    407: "the proxy of the environment (HTTP_PROXY) refuses",
    LOOP: "it is this proxy itself; name OpenAI's address in OPENAI_BASE_URL or --upstream",
}


def _models(
    upstream: Upstream, instance: str, base_url: str | None = None
) -> AbstractAsyncContextManager[UpstreamAnswer]:
    headers = {"accept": "application/json", "user-agent": "policyguard", PROBE: instance}
    return upstream.get("/models", headers, within_s=WITHIN_S, base_url=base_url)


def _is_object(body: bytes | None) -> bool:
    try:
        return isinstance(orjson.loads(body or b""), dict)
    except orjson.JSONDecodeError:
        return False


async def _not_there(upstream: Upstream, instance: str) -> ProbeFinding:
    """Whether the address is only written wrongly, as far as asking at the right one tells."""
    right = _corrected(upstream.base_url)
    if right is not None:
        async with _models(upstream, instance, right) as answer:
            if answer.status in (200, 401, 403, LOOP):
                ending = "without `/v1`" if right == f"{upstream.base_url}/v1" else "with more behind `/v1`"
                return ProbeFinding(f"its address is written {ending}; OPENAI_BASE_URL ends with `/v1`")
    return ProbeFinding("it has no list of models there, so whether it speaks OpenAI's API is not known", stops=False)


def _corrected(base_url: str) -> str | None:
    before, v1, after = base_url.partition("/v1")
    return f"{base_url}/v1" if not v1 else f"{before}/v1" if after else None

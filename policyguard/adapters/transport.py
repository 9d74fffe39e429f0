"""The OpenAI client door: `client = guarded(OpenAI(), guard, surface="avatars")`.

The client's own HTTP client stays below, with its proxies and everything mounted in it: the guard stands where every
request of the SDK has to pass, each attempt of a retry alike. Refusals are answers that were never asked for
upstream, so the SDK raises its own typed errors. What happens is written once, as steps; sync and async perform them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import aclosing, closing
from typing import Any, TypeVar, overload

import anyio
import httpx2
from openai import AsyncOpenAI, OpenAI

from policyguard.adapters.call_steps import Body, CallStep, ClientDoor, Gather, Pass, Read, SendRequest, answer
from policyguard.adapters.deciding import ReadingWork
from policyguard.adapters.passing import AsyncPassing, Passing
from policyguard.errors import ConfigError
from policyguard.flow.drive import adrive, drive
from policyguard.guard.guard import Guard
from policyguard.guard.steps import aperform, perform
from policyguard.guard.surface import check_surface
from policyguard.request import Caller, IdentityValue
from policyguard.threads import in_turn

CallerNow = Callable[[], Caller | Mapping[str, IdentityValue] | None]
Sync = TypeVar("Sync", bound=OpenAI)
Async = TypeVar("Async", bound=AsyncOpenAI)
# What a socket carries cannot be decided here. A name that resolves nowhere, by RFC 6761.
NO_SOCKETS = "wss://policyguard-guards-no-websockets.invalid"


@overload
def guarded(client: Sync, guard: Guard, *, surface: str, caller: CallerNow | None = None) -> Sync: ...


@overload
def guarded(client: Async, guard: Guard, *, surface: str, caller: CallerNow | None = None) -> Async: ...


def guarded(
    client: OpenAI | AsyncOpenAI, guard: Guard, *, surface: str, caller: CallerNow | None = None
) -> OpenAI | AsyncOpenAI:
    """A copy of `client` whose image calls are decided by the policy of `surface`; other calls pass untouched.

    `caller` says who asks, at each call, and wins over `policyguard.caller(...)`. The copy has the HTTP client of
    `client`: closing one closes both. Raises `ConfigError`.
    """
    check_surface(guard.policies, surface)
    below: Any = getattr(client, "_client", None)
    if isinstance(below, _GuardedClient | _AsyncGuardedClient):
        raise ConfigError("this client is guarded already: guard the one that it was made from")
    door = ClientDoor(guard, surface, caller)
    if isinstance(client, OpenAI) and isinstance(below, httpx2.Client):
        above = _GuardedClient(transport=GuardTransport(door, below), **_like(below))
        return client.with_options(http_client=above, websocket_base_url=NO_SOCKETS)
    if isinstance(client, AsyncOpenAI) and isinstance(below, httpx2.AsyncClient):
        aabove = _AsyncGuardedClient(transport=AsyncGuardTransport(door, below), **_like(below))
        return client.with_options(http_client=aabove, websocket_base_url=NO_SOCKETS)
    raise ConfigError("only an `OpenAI` or `AsyncOpenAI` client on an httpx2 client can be guarded")


def _like(below: httpx2.Client | httpx2.AsyncClient) -> dict[str, Any]:
    """What the SDK builds a request with. Proxies, mounts and hooks stay below: nothing leads around the transport."""
    return {
        "headers": below.headers,
        "params": below.params,
        "cookies": below.cookies,
        "timeout": below.timeout,
        "follow_redirects": below.follow_redirects,
        "max_redirects": below.max_redirects,
        "base_url": below.base_url,
        "trust_env": False,
    }


class _GuardedClient(httpx2.Client):
    """Tells a guarded client from others."""


class _AsyncGuardedClient(httpx2.AsyncClient):
    """The same for async."""


class GuardTransport(httpx2.BaseTransport):
    """Between the SDK and the HTTP client that it had."""

    def __init__(self, door: ClientDoor, below: httpx2.Client) -> None:
        self._door = door
        self._below = below

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        return drive(answer(self._door, request), self._perform)

    def _perform(self, step: CallStep) -> Any:
        match step:
            case SendRequest():  # a redirect is another request and comes through here, too
                return self._below.send(step.request, stream=True, follow_redirects=False)
            case ReadingWork():
                return step.call()
            case Read():
                return step.request.read()
            case Body():
                with closing(step.response) as response:
                    return response.read()
            case Gather():
                with closing(step.response) as response:
                    for chunk in response.iter_bytes():
                        step.answer.feed(chunk)
                return None
            case Pass():
                return Passing(step.response, step.answer)
        return perform(self._door.guard, step)

    def close(self) -> None:
        self._below.close()


class AsyncGuardTransport(httpx2.AsyncBaseTransport):
    """The same for async."""

    def __init__(self, door: ClientDoor, below: httpx2.AsyncClient) -> None:
        self._door = door
        self._below = below

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        return await adrive(answer(self._door, request), self._perform)

    async def _perform(self, step: CallStep) -> Any:
        match step:
            case SendRequest():
                return await self._below.send(step.request, stream=True, follow_redirects=False)
            case ReadingWork():
                return await _elsewhere(step.call)
            case Read():
                return await step.request.aread()
            case Body():
                async with aclosing(step.response) as response:
                    return await response.aread()
            case Gather():
                async with aclosing(step.response) as response:
                    async for chunk in response.aiter_bytes():
                        step.answer.feed(chunk)
                return None
            case Pass():
                return AsyncPassing(step.response, step.answer)
        return await aperform(self._door.guard, step)

    async def aclose(self) -> None:
        await self._below.aclose()


async def _elsewhere(call: Callable[[], Any]) -> Any:
    """Off the event loop. An answer that is there is settled by what it says, so this is shielded."""
    with anyio.CancelScope(shield=True):
        return await in_turn(call)

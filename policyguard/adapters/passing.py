"""A streamed answer on its way to the caller: read as it passes, and its leg ends when it does, however it ends.

Whoever leaves early closes the stream; what was seen by then decides. One that is never closed is presumed by time.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import anyio
import httpx2

from policyguard.guard.leg import WatchedAnswer
from policyguard.request import Failure
from policyguard.threads import in_turn


def failure_of(error: BaseException) -> Failure:
    """Why a call gave no answer."""
    if isinstance(error, httpx2.TimeoutException):
        return Failure.TIMEOUT
    if isinstance(error, httpx2.TransportError):
        return Failure.CUT
    return Failure.ERROR if isinstance(error, Exception) else Failure.CANCELLED


class Passing(httpx2.SyncByteStream):
    def __init__(self, response: httpx2.Response, answer: WatchedAnswer) -> None:
        self._response, self._answer = response, answer

    def __iter__(self) -> Iterator[bytes]:
        failure: Failure | None = None
        try:
            for chunk in self._response.iter_bytes():
                self._answer.feed(chunk)
                yield chunk
            self._answer.whole = True
        except BaseException as error:
            failure = failure_of(error)
            raise
        finally:
            self._end(failure)

    def close(self) -> None:
        self._response.close()
        self._end(Failure.CANCELLED)

    def _end(self, failure: Failure | None) -> None:
        """In shadow what came out is looked at afterwards."""
        answer = self._answer
        if not answer.leg.has_ended:
            answer.leg.end(answer.outcome(failure), answer.output())


class AsyncPassing(httpx2.AsyncByteStream):
    """The same for async, shielded from cancellation."""

    def __init__(self, response: httpx2.Response, answer: WatchedAnswer) -> None:
        self._response, self._answer = response, answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        failure: Failure | None = None
        try:
            async for chunk in self._response.aiter_bytes():
                self._answer.feed(chunk)
                yield chunk
            self._answer.whole = True
        except BaseException as error:
            failure = failure_of(error)
            raise
        finally:
            await self._end(failure)

    async def aclose(self) -> None:
        try:
            await self._response.aclose()
        finally:
            await self._end(Failure.CANCELLED)

    async def _end(self, failure: Failure | None) -> None:
        answer = self._answer
        if answer.leg.has_ended:
            return
        with anyio.CancelScope(shield=True):
            output = await in_turn(answer.output) if answer.leg.looks and answer.whole else None
        await answer.leg.aend(answer.outcome(failure), output)

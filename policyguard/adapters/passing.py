"""A streamed answer on its way to the caller: read as it passes, and its leg settled when it ends, however it ends.

Whoever leaves early closes the stream; what was seen by then decides. One that is never closed is presumed by time.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace

import httpx2

from policyguard.request import Failure, ImageRequest, Outcome, Output
from policyguard.wire.outcome import OutcomeReader
from policyguard.wire.output import IMAGES_API, RESPONSES_API, Kept, read_output


class Ending:
    """What a leg ends with, said once. `tried` has the attempts before; `alive` is closed with it, or forgotten."""

    def __init__(
        self, response: httpx2.Response, asked: ImageRequest, started: float, tried: tuple[str, ...], alive: ExitStack
    ) -> None:
        images, main = asked.n or 1, asked.main is not None
        self.reader = OutcomeReader(response.status_code, response.headers, images=images, main=main)
        self.kept: Kept | None = None  # a copy, where the output is looked at when it has passed
        self._response, self._asked, self._whole = response, asked, False
        self._started, self._tried = started, tried
        self._said, self._alive = False, alive

    def outcome(self, failure: Failure | None) -> Outcome | None:
        """`failure` is why there is no more of it; None for an end. The second time None."""
        if self._said:
            return None
        self._said, self._whole = True, failure is None
        self._alive.close()
        latency_ms = round((time.monotonic() - self._started) * 1000)
        outcome = self.reader.outcome(failure=failure, latency_ms=latency_ms, definite=True)
        return replace(outcome, attempts=len(self._tried) + 1, retry_reasons=self._tried)

    def feed(self, chunk: bytes) -> None:
        self.reader.feed(chunk)
        if self.kept is not None:
            self.kept.feed(chunk)

    def output(self) -> Output | None:
        """What came out; None where it is not looked at, or has not come to its end."""
        if self.kept is None or not self._whole:
            return None
        return output_of(self._response, self.kept.body, self._asked, partials=True)


def output_of(response: httpx2.Response, body: bytes | None, asked: ImageRequest, *, partials: bool = False) -> Output:
    """What came out of OpenAI's own API."""
    place = IMAGES_API if asked.main is None else RESPONSES_API
    kind: str = response.headers.get("content-type", "")
    return read_output(response.status_code, kind, body, place, partials=partials)


def failure_of(error: BaseException) -> Failure:
    """Why a call gave no answer."""
    if isinstance(error, httpx2.TimeoutException):
        return Failure.TIMEOUT
    if isinstance(error, httpx2.TransportError):
        return Failure.CUT
    return Failure.ERROR if isinstance(error, Exception) else Failure.CANCELLED


class Passing(httpx2.SyncByteStream):
    def __init__(self, response: httpx2.Response, ending: Ending, settle: Callable[[Outcome], object]) -> None:
        self._response, self._ending, self._settle = response, ending, settle

    def __iter__(self) -> Iterator[bytes]:
        failure: Failure | None = None
        try:
            for chunk in self._response.iter_bytes():
                self._ending.feed(chunk)
                yield chunk
        except BaseException as error:
            failure = failure_of(error)
            raise
        finally:
            self._end(failure)

    def close(self) -> None:
        self._response.close()
        self._end(Failure.CANCELLED)

    def _end(self, failure: Failure | None) -> None:
        outcome = self._ending.outcome(failure)
        if outcome is not None:
            self._settle(outcome)


class AsyncPassing(httpx2.AsyncByteStream):
    """The same for async; `settle` is shielded from cancellation."""

    def __init__(
        self, response: httpx2.Response, ending: Ending, settle: Callable[[Outcome], Awaitable[object]]
    ) -> None:
        self._response, self._ending, self._settle = response, ending, settle

    async def __aiter__(self) -> AsyncIterator[bytes]:
        failure: Failure | None = None
        try:
            async for chunk in self._response.aiter_bytes():
                self._ending.feed(chunk)
                yield chunk
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
        outcome = self._ending.outcome(failure)
        if outcome is not None:
            await self._settle(outcome)

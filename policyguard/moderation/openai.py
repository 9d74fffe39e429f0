"""OpenAI's moderation endpoint by the official SDK: the prompt in one call, each image in a call of its own.

The SDK is imported when the first moderator is made, not with this module, and its errors end here: each becomes one
word of a verdict. When to send and when to give up is written once, in `exchange`; the two sides here only send.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from importlib import import_module
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

import anyio
import anyio.to_thread
from anyio.lowlevel import RunVar

from policyguard.errors import ConfigError
from policyguard.flow.steps import Inquire, Moderate
from policyguard.moderation.answers import Scorable, questions
from policyguard.moderation.asking import MAX_BODY_BYTES, MAX_CONCURRENT, MODELS, answer_all, ask_all, timed_out
from policyguard.moderation.exchange import CallAnswered, CallFailed, Exchange, exchange, refusal
from policyguard.moderation.inquiry import MODEL, Inquiry
from policyguard.moderation.merge import PartialVerdict, merge
from policyguard.policy.moderators import OPENAI_ASSESSES
from policyguard.request import Answers, Verdict
from policyguard.settings import openai_key, setting

if TYPE_CHECKING:
    from openai import AsyncOpenAI, OpenAI

T = TypeVar("T")


class OpenAIModerator:
    """Asks `/v1/moderations`, and `/v1/decisions` where a policy has questions.

    Thread-safe; survives a fork and a new event loop, unless given clients of your own. Without `client` and `aclient`,
    clients are made with `api_key` and `base_url`, which default to `OPENAI_API_KEY` and `OPENAI_BASE_URL`. With a
    `client` alone, async code asks it from a thread. `retry_wait_s` is the pause before the one retry, where the server
    names none.
    """

    models = MODELS
    assesses = OPENAI_ASSESSES

    def __init__(
        self,
        client: OpenAI | None = None,
        aclient: AsyncOpenAI | None = None,
        *,
        base_url: str | None = None,
        api_key: str | None = None,
        questions_model: str | None = None,
        retry_wait_s: float = 0.2,
    ) -> None:
        self._given = client.with_options(max_retries=0) if client else None
        self._agiven = aclient.with_options(max_retries=0) if aclient else None
        # Beside a given client nothing is made here: the other side must not reach another server with another key.
        self._key = None if client or aclient else openai_key(api_key)
        self._url = setting("openai_url", base_url)
        if not (self._key or client or aclient):
            raise ConfigError("no key for moderation: set `OPENAI_API_KEY` or give `api_key`")
        import_module("openai")  # takes a second: now, not out of the time of the first request
        self._questions_model = setting("questions_model", questions_model) or MODEL
        self._retry_wait_s = retry_wait_s
        self._own: tuple[int, OpenAI] | None = None  # with the process that made it: sockets do not survive a fork
        self._aown: RunVar[AsyncOpenAI | None] = RunVar(f"policyguard moderation {id(self)}", None)

    # ---- sync -------------------------------------------------------------------------------------------------

    def moderate(self, step: Moderate) -> Verdict:
        """Score the prompt and the images of one request; what fails is in the verdict."""
        client, started = self._client(), monotonic()
        deadline = started + step.timeout_s
        asked = questions(step)
        # Threads of this call alone: the caller is back at the deadline even where a call is not, and nothing
        # that outlives a call has to survive a fork.
        pool = ThreadPoolExecutor(min(len(asked), MAX_CONCURRENT) or 1, "policyguard-moderation")
        try:
            calls = [(one, pool.submit(self._ask, client, one, step.model, deadline)) for one in asked]
            parts = [_in_time(one, call, deadline) for one, call in calls]
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return merge(step.model, parts, _ms(started))

    def answer(self, step: Inquire) -> Answers:
        """Answer the questions about one request, in one call; what fails is in the answers."""
        client, started, inquiry = self._client(), monotonic(), Inquiry(step, self._questions_model)
        pool = ThreadPoolExecutor(1, "policyguard-questions")
        try:
            call = pool.submit(self._ask, client, inquiry, inquiry.model, started + step.timeout_s)
            found = call.result(timeout=step.timeout_s)
        except TimeoutError:
            found = inquiry.failed("timeout", calls=1)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return replace(found, latency_ms=_ms(started))

    def _ask(self, client: OpenAI, question: Exchange[T], model: str, deadline: float) -> T:
        steps = exchange(question, deadline, self._retry_wait_s)
        try:
            send = next(steps)
            while True:
                time.sleep(send.wait_s)
                send = steps.send(_send(client, question, model, send.timeout_s))
        except StopIteration as end:
            found: T = end.value
            return found

    def _client(self) -> OpenAI:
        if self._given is not None:
            return self._given
        if self._key is None:
            raise ConfigError("an async client alone cannot serve sync code: give `client` too")
        from openai import OpenAI

        # Without a lock, which a fork could copy locked; two threads that come first make two clients, one is dropped.
        own = self._own
        if own is None or own[0] != os.getpid():
            own = self._own = os.getpid(), OpenAI(api_key=self._key, base_url=self._url, max_retries=0)
        return own[1]

    def close(self) -> None:
        """Close the client that was made here; the async one of a loop is closed by `aclose` in that loop."""
        own, self._own = self._own, None
        if own is not None:
            own[1].close()

    # ---- async ------------------------------------------------------------------------------------------------

    async def amoderate(self, step: Moderate) -> Verdict:
        """`moderate` for async code, with a task for each call."""
        if self._agiven is None and self._given is not None:
            return await anyio.to_thread.run_sync(self.moderate, step, abandon_on_cancel=True)
        return await ask_all(step, partial(_asend, self._aclient()), self._retry_wait_s)

    async def aanswer(self, step: Inquire) -> Answers:
        """`answer` for async code."""
        if self._agiven is None and self._given is not None:
            return await anyio.to_thread.run_sync(self.answer, step, abandon_on_cancel=True)
        inquiry = Inquiry(step, self._questions_model)
        return await answer_all(inquiry, partial(_asend, self._aclient()), self._retry_wait_s)

    def _aclient(self) -> AsyncOpenAI:
        if self._agiven is not None:
            return self._agiven
        own = self._aown.get()
        if own is None:
            from openai import AsyncOpenAI

            own = AsyncOpenAI(api_key=self._key, base_url=self._url, max_retries=0)
            self._aown.set(own)
        return own

    async def aclose(self) -> None:
        """`close`, and the async client of this event loop."""
        self.close()
        own = self._aown.get()
        self._aown.set(None)
        if own is not None:
            await own.close()


# ---- one call ---------------------------------------------------------------------------------------------


def _send(client: OpenAI, question: Exchange[Any], model: str, timeout_s: float) -> CallAnswered | CallFailed:
    until = monotonic() + timeout_s
    try:
        create = getattr(client, question.resource).with_streaming_response.create
        with create(**question.arguments(), model=model, timeout=timeout_s) as response:
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    return CallFailed("malformed", final=True)
                if monotonic() > until:  # the SDK's timeout is for each read, not for all of them
                    return CallFailed("timeout", final=True)
            return CallAnswered(bytes(body), response.headers.get("x-request-id"))
    except Exception as error:
        return failure(error)


async def _asend(
    client: AsyncOpenAI, question: Exchange[Any], model: str, timeout_s: float
) -> CallAnswered | CallFailed:
    try:
        create = getattr(client, question.resource).with_streaming_response.create
        async with create(**question.arguments(), model=model, timeout=timeout_s) as response:
            body = bytearray()
            async for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_BODY_BYTES:
                    return CallFailed("malformed", final=True)
            return CallAnswered(bytes(body), response.headers.get("x-request-id"))
    except Exception as error:
        return failure(error)


def _ms(started: float) -> int:
    return round((monotonic() - started) * 1000)


def _in_time(question: Scorable, call: Future[PartialVerdict], deadline: float) -> PartialVerdict:
    try:
        return call.result(timeout=max(0.0, deadline - monotonic()))
    except TimeoutError:
        return timed_out(question)


# ---- errors -----------------------------------------------------------------------------------------------


def failure(error: Exception) -> CallFailed:
    """An error of the SDK or of its HTTP client as one word. Nothing of its text is kept: it may hold the prompt."""
    import httpx2
    import openai

    if isinstance(error, openai.APIStatusError):
        return refusal(error.status_code, error.response.headers, error.type)
    if isinstance(error, (openai.APITimeoutError, httpx2.TimeoutException)):
        return CallFailed("timeout", final=True)
    if isinstance(error, (openai.APIConnectionError, httpx2.TransportError)):
        return CallFailed("connection")
    if isinstance(error, httpx2.DecodingError):
        return CallFailed("malformed", final=True)
    return CallFailed("failed", final=True)

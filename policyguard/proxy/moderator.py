"""OpenAI's moderation and decisions endpoints over the proxy's own upstream: what the SDK's moderator asks, without it.

What is asked, when it is asked again and what an answer is worth is in `policyguard.moderation`, for both. Here one
question is sent.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from threading import Thread
from typing import Any, TypeVar

import anyio
import orjson

from policyguard.flow.steps import Inquire, Moderate
from policyguard.moderation.asking import MAX_BODY_BYTES, MODELS, answer_all, ask_all
from policyguard.moderation.exchange import CallAnswered, CallFailed, Exchange, refusal
from policyguard.moderation.inquiry import MODEL, Inquiry
from policyguard.policy.moderators import OPENAI_ASSESSES
from policyguard.proxy.upstream import Upstream, UpstreamAnswer, UpstreamFailed
from policyguard.request import Answers, Verdict
from policyguard.request import Failure as Why
from policyguard.settings import setting

T = TypeVar("T")
_HEADERS = {"content-type": "application/json", "accept": "application/json", "user-agent": "policyguard"}


class UpstreamModerator:
    """Asks `/moderations` and `/decisions` of `upstream`, which stays its giver's to close.

    `retry_wait_s` is the pause before the one retry, where the server names none.
    """

    models = MODELS
    assesses = OPENAI_ASSESSES

    def __init__(self, upstream: Upstream, *, questions_model: str | None = None, retry_wait_s: float = 0.2) -> None:
        self._upstream = upstream
        self._questions_model = setting("questions_model", questions_model) or MODEL
        self._retry_wait_s = retry_wait_s

    def moderate(self, step: Moderate) -> Verdict:
        """For sync code, on an event loop of its own: seldom used, the proxy is async."""
        return self._run(partial(self.amoderate, step))

    async def amoderate(self, step: Moderate) -> Verdict:
        """The verdict; what fails is in it."""
        return await ask_all(step, self._send, self._retry_wait_s)

    def answer(self, step: Inquire) -> Answers:
        """As `moderate`."""
        return self._run(partial(self.aanswer, step))

    async def aanswer(self, step: Inquire) -> Answers:
        """The answers; what fails is in them."""
        return await answer_all(Inquiry(step, self._questions_model), self._send, self._retry_wait_s)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

    def _run(self, asked: Callable[[], Awaitable[T]]) -> T:
        found: list[T] = []
        thread = Thread(target=lambda: found.append(anyio.run(self._once, asked)), name="policyguard-moderation")
        thread.start()
        thread.join()
        return found[0]

    async def _once(self, asked: Callable[[], Awaitable[T]]) -> T:
        try:
            return await asked()
        finally:
            await self._upstream.aclose()

    async def _send(self, question: Exchange[Any], model: str, timeout_s: float) -> CallAnswered | CallFailed:
        try:
            body = orjson.dumps({**question.arguments(), "model": model})
            async with self._upstream.post(f"/{question.resource}", _HEADERS, body, within_s=timeout_s) as answer:
                return await _read(answer)
        except UpstreamFailed as error:
            return CallFailed("timeout", final=True) if error.failure is Why.TIMEOUT else CallFailed("connection")
        except Exception:  # whatever it is, it is no score; nothing of its text is kept, it may hold the prompt
            return CallFailed("failed", final=True)


async def _read(answer: UpstreamAnswer) -> CallAnswered | CallFailed:
    body = await answer.body(MAX_BODY_BYTES)
    if answer.status != 200:
        return refusal(answer.status, answer.names, _kind(body))
    if body is None or answer.names.get("content-encoding", "identity") != "identity":
        return CallFailed("malformed", final=True)
    return CallAnswered(body, answer.names.get("x-request-id"))


def _kind(body: bytes | None) -> str | None:
    """The type that an error names."""
    try:
        kind = orjson.loads(body or b"")["error"]["type"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None
    return kind if isinstance(kind, str) else None

"""OpenAI's moderation endpoint over the proxy's own upstream: the same questions and answers as by the SDK, without it.

What is asked, when it is asked again and what an answer is worth is in `policyguard.moderation`, for both. Here one
question is sent.
"""

from __future__ import annotations

from threading import Thread

import anyio
import orjson

from policyguard.adapters.upstream import Answer, Upstream, UpstreamFailed
from policyguard.moderation.answers import Question
from policyguard.moderation.asking import MAX_BODY_BYTES, MODELS, ask_all
from policyguard.moderation.exchange import Failure, Reply, refusal
from policyguard.request import Failure as Why
from policyguard.request import Verdict
from policyguard.steps import Moderate

_HEADERS = {"content-type": "application/json", "accept": "application/json", "user-agent": "policyguard"}


class UpstreamModerator:
    """Asks `/moderations` of `upstream`, which stays its giver's to close. `retry_wait_s` is the pause before the one
    retry, where the server names none.
    """

    models = MODELS

    def __init__(self, upstream: Upstream, *, retry_wait_s: float = 0.2) -> None:
        self._upstream = upstream
        self._retry_wait_s = retry_wait_s

    def moderate(self, step: Moderate) -> Verdict:
        """For sync code, on an event loop of its own: seldom used, the proxy is async."""
        verdicts: list[Verdict] = []
        thread = Thread(target=lambda: verdicts.append(anyio.run(self._once, step)), name="policyguard-moderation")
        thread.start()
        thread.join()
        return verdicts[0]

    async def amoderate(self, step: Moderate) -> Verdict:
        """The verdict; what fails is in it."""
        return await ask_all(step, self._send, self._retry_wait_s)

    def close(self) -> None:
        """Nothing is open."""

    async def aclose(self) -> None:
        """Nothing is open."""

    async def _once(self, step: Moderate) -> Verdict:
        try:
            return await self.amoderate(step)
        finally:
            await self._upstream.aclose()

    async def _send(self, question: Question, model: str, timeout_s: float) -> Reply | Failure:
        try:
            body = orjson.dumps({"input": question.wire(), "model": model})
            async with self._upstream.post("/moderations", _HEADERS, body, within_s=timeout_s) as answer:
                return await _read(answer)
        except UpstreamFailed as error:
            return Failure("timeout", final=True) if error.failure is Why.TIMEOUT else Failure("connection")
        except Exception:  # whatever it is, it is no score; nothing of its text is kept, it may hold the prompt
            return Failure("failed", final=True)


async def _read(answer: Answer) -> Reply | Failure:
    body = await answer.body(MAX_BODY_BYTES)
    if answer.status != 200:
        return refusal(answer.status, answer.names, _kind(body))
    if body is None or answer.names.get("content-encoding", "identity") != "identity":
        return Failure("malformed", final=True)
    return Reply(body, answer.names.get("x-request-id"))


def _kind(body: bytes | None) -> str | None:
    """The type that an error names."""
    try:
        kind = orjson.loads(body or b"")["error"]["type"]
    except (orjson.JSONDecodeError, TypeError, KeyError):
        return None
    return kind if isinstance(kind, str) else None

"""One question over an unsure line: when to send, when to try again, when to give up.

A generator without I/O, driven by the sync and by the async side of a moderator. At most one retry, counted, and only
where asking again can help; nothing goes beyond the policy's time limit.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol, TypeVar

ATTEMPTS = 2
_REFUSED = frozenset({400, 413, 415, 422})  # the input itself was not accepted
T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)  # what is known in the end


class Exchange(Protocol[T_co]):
    """One call: what to say where it fails, and how to read what comes back."""

    @property
    def resource(self) -> str:
        """`moderations` or `decisions`: the end of the path, and the SDK's name for it."""

    @property
    def problem(self) -> str | None:
        """Why it cannot be sent."""

    def arguments(self) -> dict[str, Any]:
        """The body without the model."""

    def failed(self, error: str, *, calls: int, request_id: str | None = None) -> T_co: ...

    def read(self, body: bytes, *, calls: int, request_id: str | None = None) -> T_co: ...


@dataclass(frozen=True, slots=True)
class SendPart:
    """Wait, then send the part, with at most `timeout_s` for the whole call."""

    timeout_s: float
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class CallAnswered:
    """A 200."""

    body: bytes = field(repr=False)
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class CallFailed:
    """No usable reply. `retry_after_s` is what the server asks for; `final`: asking again cannot help."""

    word: str
    request_id: str | None = None
    retry_after_s: float | None = None
    final: bool = False


def exchange(
    question: Exchange[T], deadline: float, retry_wait_s: float
) -> Generator[SendPart, CallAnswered | CallFailed, T]:
    """Ask one question: at most twice, and never beyond `deadline` (of the monotonic clock)."""
    if question.problem:
        return question.failed(question.problem, calls=0)
    part = question.failed("timeout", calls=0)
    wait = 0.0
    for attempt in range(1, ATTEMPTS + 1):
        timeout = deadline - monotonic() - wait
        if timeout <= 0:
            break
        reply = yield SendPart(timeout, wait)
        if isinstance(reply, CallAnswered):
            return question.read(reply.body, calls=attempt, request_id=reply.request_id)
        part = question.failed(reply.word, calls=attempt, request_id=reply.request_id)
        if reply.final:
            break
        wait = retry_wait_s if reply.retry_after_s is None else reply.retry_after_s
    return part


def refusal(status: int, headers: Mapping[str, str], kind: str | None) -> CallFailed:
    """An answer that is no 200, as one word. `kind` is the type that its error names."""
    word = "rate_limited" if status == 429 else "refused" if status in _REFUSED else f"status_{status}"
    once = headers.get("x-should-retry") == "false" or kind == "insufficient_quota"
    return CallFailed(
        word,
        request_id=headers.get("x-request-id"),
        retry_after_s=_seconds(headers.get("retry-after")),
        final=once or (status != 429 and status < 500),
    )


def _seconds(text: str | None) -> float | None:
    """`retry-after` as a count of seconds; its other form, a date, is not needed for a wait this short."""
    return float(text) if text is not None and text.isascii() and text.isdigit() else None

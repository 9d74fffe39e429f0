"""A scripted upstream behind the real SDK, and what the record says of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai
from openai import AsyncOpenAI, OpenAI
from PIL import Image

from policyguard.guard.guard import Guard

URL = "http://api.test/v1"
ANSWER = {"created": 1, "data": [{"b64_json": "aGk="}], "usage": {"input_tokens": 10, "output_tokens": 196}}
ERROR = {"error": {"message": "no", "type": "server_error", "code": None, "param": None}}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (64, 64), "teal").save(buffer, "PNG")
    return buffer.getvalue()


class Upstream:
    """Answers each request with the next of `answers`, the last one for ever, and remembers what reached it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [(200, ANSWER)]
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, document = answer
        return httpx2.Response(status, json=document, headers={"x-request-id": "req_7", "retry-after-ms": "1"})

    @property
    def document(self) -> Any:
        return json.loads(self.requests[-1].content)

    def client(self, **options: Any) -> OpenAI:
        below = httpx2.Client(transport=httpx2.MockTransport(self))
        return OpenAI(**{"api_key": "k", "base_url": URL, "http_client": below, "max_retries": 0, **options})

    def async_client(self, **options: Any) -> AsyncOpenAI:
        below = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return AsyncOpenAI(**{"api_key": "k", "base_url": URL, "http_client": below, "max_retries": 0, **options})


def rows(guard: Guard, prefix: str) -> list[Any]:
    return [row.event for row in guard.store.events(limit=1000) if row.event.type.startswith(prefix)]


def ends(guard: Guard) -> list[tuple[str, Any]]:
    return [(event.type, event.body["failure"]) for event in rows(guard, "leg.")]


def quietly(call: Callable[[], Any]) -> None:
    """Where the caller's view does not matter."""
    try:
        call()
    except (openai.OpenAIError, RuntimeError):
        return


def error(code: str | None = None, **more: Any) -> dict[str, Any]:
    return {"error": {**ERROR["error"], "code": code, **more}}

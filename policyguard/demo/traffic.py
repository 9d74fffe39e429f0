"""The demo's traffic: prompts as several users, through the OpenAI SDK and through the decorator.

Each prompt becomes one request. What it became is taken from the answer that the client saw; the report then compares
that with the record.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

from openai import APIError, APIStatusError, OpenAI

import policyguard
from policyguard.adapters.sdk_results import images, restore
from policyguard.decision import PolicyRefused
from policyguard.guard import Guard
from policyguard.sandbox.prompts import DemoPrompt

WORKERS = 8


@dataclass(frozen=True, slots=True)
class Answer:
    """What one client saw. `code` is the error's, None where images came back."""

    prompt: DemoPrompt
    door: str
    code: str | None
    review_id: str | None = None


class Traffic:
    """Sends prompts to the guarded app at `app_url`, or through a decorated function that calls `upstream` itself."""

    def __init__(self, guard: Guard, app_url: str, upstream: str, key: str) -> None:
        self._app_url = app_url
        self._app = OpenAI(api_key="demo", base_url=app_url, max_retries=0)
        self._upstream = OpenAI(api_key=key, base_url=upstream, max_retries=0)
        self._decorated = self._decorate(guard)

    def send(self, prompts: Iterable[DemoPrompt], every_nth_decorated: int) -> Iterator[Answer]:
        """Answers as they come in; every nth prompt that needs no upload takes the decorator."""
        with ThreadPoolExecutor(WORKERS) as pool:
            futures = [
                pool.submit(self._through_app if _uploads(p) or i % every_nth_decorated else self._through_decorator, p)
                for i, p in enumerate(prompts, start=1)
            ]
            for future in as_completed(futures):
                yield future.result()

    def resume(self, prompt: DemoPrompt, review_id: str) -> Answer:
        return self._through_app(prompt, {"x-policyguard-review": review_id})

    def close(self) -> None:
        self._app.close()
        self._upstream.close()

    # ---- the two doors ----------------------------------------------------------------------------------------

    def _through_app(self, prompt: DemoPrompt, headers: dict[str, str] | None = None) -> Answer:
        client = self._app.with_options(base_url=f"{self._app_url}/{prompt.surface}/v1")
        identity = {"x-user-id": prompt.user, "x-tenant": prompt.tenant, "x-plan": prompt.tier, **(headers or {})}
        arguments = _arguments(prompt)
        try:
            if _uploads(prompt):
                client.images.edit(**arguments, image=photo(), extra_headers=identity)
            else:
                client.images.generate(**arguments, extra_headers=identity)
        except APIStatusError as error:
            policy = (error.body or {}).get("policy", {}) if isinstance(error.body, dict) else {}
            return Answer(prompt, "asgi", error.code or str(error.status_code), policy.get("review_id"))
        except APIError as error:
            return Answer(prompt, "asgi", type(error).__name__)
        return Answer(prompt, "asgi", None)

    def _decorate(self, guard: Guard) -> dict[str, Callable[..., Any]]:
        """One guarded function for each surface, as an application would write it."""
        client = self._upstream

        def make(prompt: str, model: str | None, size: str | None, quality: str | None, n: int | None) -> Any:
            given = {"model": model, "size": size, "quality": quality, "n": n}
            return client.images.generate(prompt=prompt, **{k: v for k, v in given.items() if v is not None})  # type: ignore[call-overload]

        door = partial(guard.enforce, images=images, restore=restore)
        return {surface: door(surface)(make) for surface in guard.policies.surfaces}

    def _through_decorator(self, prompt: DemoPrompt) -> Answer:
        arguments = {"model": None, "size": None, "quality": None, "n": None, **_arguments(prompt)}
        with policyguard.caller(user=prompt.user, tenant=prompt.tenant, tier=prompt.tier):
            try:
                self._decorated[prompt.surface](**arguments)
            except PolicyRefused as refused:
                return Answer(prompt, "decorator", refused.code, refused.review_id)
            except APIError as error:
                return Answer(prompt, "decorator", error.code or type(error).__name__)
        return Answer(prompt, "decorator", None)


def _uploads(prompt: DemoPrompt) -> bool:
    return prompt.edit


def _arguments(prompt: DemoPrompt) -> dict[str, Any]:
    """What the client says; the rest is left to the policy's defaults."""
    given = {"prompt": prompt.text, "size": prompt.size, "quality": prompt.quality, "n": prompt.n}
    return {name: value for name, value in given.items() if value is not None}


def photo() -> tuple[str, bytes, str]:
    """A small picture to upload, as the SDK takes files."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.new("RGB", (256, 256), (120, 140, 160)).save(buffer, "PNG")
    return ("photo.png", buffer.getvalue(), "image/png")

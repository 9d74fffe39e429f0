"""The demo's traffic: prompts as several users through every door, mostly by the OpenAI SDK.

Each prompt becomes one request. What it became is taken from the answer that the client saw; the report then compares
that with the record.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

from openai import APIError, APIStatusError, OpenAI

import policyguard
from policyguard.adapters.sdk_results import images, restore
from policyguard.adapters.transport import guarded
from policyguard.decision import PolicyRefused
from policyguard.guard.guard import Guard
from policyguard.sandbox.prompts import DemoPrompt
from policyguard.store.proxy_keys import new_secret

WORKERS = 8
# Doors in turn: most through the app. An upload needs a door that takes files; the decorated functions take none.
DOORS = ("asgi", "proxy", "asgi", "client", "asgi", "decorator")


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """What one client saw. `code` is the error's, None where images came back."""

    prompt: DemoPrompt
    door: str
    code: str | None
    review_id: str | None = None


class Traffic:
    """Sends prompts to the guarded app and to the proxy, and through code that calls `upstream` itself."""

    def __init__(self, guard: Guard, app_url: str, proxy_url: str, upstream: str, key: str) -> None:
        self._app_url, self._guard = app_url, guard
        self._app = OpenAI(api_key="demo", base_url=app_url, max_retries=0)
        self._proxy = OpenAI(api_key="demo", base_url=f"{proxy_url}/v1", max_retries=0)
        self._upstream = OpenAI(api_key=key, base_url=upstream, max_retries=0)
        self._guarded = {s: guarded(self._upstream, guard, surface=s) for s in guard.policies.surfaces}
        self._decorated = self._decorate(guard)

    def send(self, prompts: list[DemoPrompt]) -> Iterator[ClientAnswer]:
        """Answers as they come in, by all doors in turn."""
        keys = self._keys(prompts)
        ways: dict[str, Callable[[DemoPrompt], ClientAnswer]] = {
            "asgi": self._through_app,
            "proxy": lambda prompt: self._through_proxy(prompt, keys[prompt.tenant, prompt.tier]),
            "client": self._through_client,
            "decorator": self._through_decorator,
        }
        with ThreadPoolExecutor(WORKERS) as pool:
            futures = [pool.submit(ways[_door(prompt, number)], prompt) for number, prompt in enumerate(prompts)]
            for future in as_completed(futures):
                yield future.result()

    def resume(self, prompt: DemoPrompt, review_id: str) -> ClientAnswer:
        return self._through_app(prompt, {"x-policyguard-review": review_id})

    def close(self) -> None:
        for client in (self._app, self._proxy, *self._guarded.values(), self._upstream):
            client.close()

    # ---- the doors --------------------------------------------------------------------------------------------

    def _through_app(self, prompt: DemoPrompt, headers: Mapping[str, str] | None = None) -> ClientAnswer:
        client = self._app.with_options(base_url=f"{self._app_url}/{prompt.surface}/v1")
        identity = {"x-user-id": prompt.user, "x-tenant": prompt.tenant, "x-plan": prompt.tier}
        return _asked("asgi", client, prompt, {**identity, **(headers or {})})

    def _keys(self, prompts: Iterable[DemoPrompt]) -> dict[tuple[str, str], str]:
        """A key of the proxy for each tenant and plan, which names its users; the surface is in a header."""
        keys = {}
        for tenant, tier in sorted({(prompt.tenant, prompt.tier) for prompt in prompts}):
            keys[tenant, tier] = secret = new_secret()
            self._guard.store.proxy_keys.create(
                secret,
                name=f"{tenant}, {tier}",
                surfaces=tuple(self._guard.policies.surfaces),
                caller={"tenant": tenant, "tier": tier},
                names_user=True,
                by="demo",
                now=self._guard.clock(),
            )
        return keys

    def _through_proxy(self, prompt: DemoPrompt, key: str) -> ClientAnswer:
        names = {"x-policyguard-surface": prompt.surface, "x-policyguard-user": prompt.user}
        return _asked("proxy", self._proxy.with_options(api_key=key), prompt, names)

    def _through_client(self, prompt: DemoPrompt) -> ClientAnswer:
        with policyguard.caller(user=prompt.user, tenant=prompt.tenant, tier=prompt.tier):
            return _asked("client", self._guarded[prompt.surface], prompt, {})

    def _decorate(self, guard: Guard) -> dict[str, Callable[..., Any]]:
        """One guarded function for each surface, as an application would write it."""
        client = self._upstream

        def make(prompt: str, model: str | None, size: str | None, quality: str | None, n: int | None) -> Any:
            given = {"model": model, "size": size, "quality": quality, "n": n}
            return client.images.generate(prompt=prompt, **{k: v for k, v in given.items() if v is not None})  # type: ignore[call-overload]

        door = partial(guard.enforce, images=images, restore=restore)
        return {surface: door(surface)(make) for surface in guard.policies.surfaces}

    def _through_decorator(self, prompt: DemoPrompt) -> ClientAnswer:
        arguments = {"model": None, "size": None, "quality": None, "n": None, **_arguments(prompt)}
        with policyguard.caller(user=prompt.user, tenant=prompt.tenant, tier=prompt.tier):
            try:
                self._decorated[prompt.surface](**arguments)
            except PolicyRefused as refused:
                return ClientAnswer(prompt, "decorator", refused.code, refused.review_id)
            except APIError as error:
                return ClientAnswer(prompt, "decorator", error.code or type(error).__name__)
        return ClientAnswer(prompt, "decorator", None)


def _door(prompt: DemoPrompt, number: int) -> str:
    door = DOORS[number % len(DOORS)]
    return "asgi" if prompt.edit and door == "decorator" else door


def _asked(door: str, client: OpenAI, prompt: DemoPrompt, headers: Mapping[str, str]) -> ClientAnswer:
    """What the SDK makes of the answer."""
    arguments = _arguments(prompt)
    try:
        if prompt.edit:
            client.images.edit(**arguments, image=photo(), extra_headers=headers)
        else:
            client.images.generate(**arguments, extra_headers=headers)
    except APIStatusError as error:
        policy = (error.body or {}).get("policy", {}) if isinstance(error.body, dict) else {}
        return ClientAnswer(prompt, door, error.code or str(error.status_code), policy.get("review_id"))
    except APIError as error:
        return ClientAnswer(prompt, door, type(error).__name__)
    return ClientAnswer(prompt, door, None)


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

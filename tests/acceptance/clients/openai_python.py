"""OpenAI's own SDK, sync and async."""

from __future__ import annotations

import asyncio
import os
from typing import Any

import openai
from telling import show, tell, told

ASKED: dict[str, Any] = {"prompt": "a cat", "size": "auto", "quality": "auto", "n": 1, "background": "auto"}


def sync() -> dict[str, Any]:
    with openai.OpenAI(max_retries=2) as client, client.with_options(api_key=os.environ["TINY_KEY"]) as spent:
        made = client.images.with_raw_response.generate(**ASKED)
        events = [event.type for event in client.images.generate(prompt="a cat", stream=True)]
        spent.images.generate(prompt="a cat")
        return {
            "made": len((made.parse().data or [])[0].b64_json or ""),
            "adjusted": made.headers["x-policyguard-adjusted"],
            "streamed": events,
            "refused": told(lambda: client.images.generate(prompt="a cat", n=3, model="gpt-image-2")),
            "spent": told(lambda: spent.images.generate(prompt="a cat")),
        }


async def asynchronous() -> dict[str, Any]:
    async with openai.AsyncOpenAI() as client:
        made = await client.images.generate(**ASKED)
        stream = await client.images.generate(prompt="a cat", stream=True)
        events = [event.type async for event in stream]
        try:
            await client.images.generate(prompt="a cat", model="dall-e-3")
        except openai.APIError as error:
            return {"made": len((made.data or [])[0].b64_json or ""), "streamed": events, "refused": tell(error)}
    raise AssertionError("it was not refused")


show(**sync(), asynchronous=asyncio.run(asynchronous()))

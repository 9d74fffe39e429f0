"""pydantic-ai with its native image tool, which says `auto` for whatever it is not told."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from openai import AsyncOpenAI
from pydantic_ai import Agent, BinaryImage, ImageGenerationTool
from pydantic_ai.capabilities import NativeTool
from pydantic_ai.models.openai import OpenAIResponsesModel
from pydantic_ai.providers.openai import OpenAIProvider
from telling import show, tell


def agent(key: str, **options: Any) -> Agent[None, BinaryImage]:
    client = AsyncOpenAI(api_key=os.environ[key], max_retries=0)
    model = OpenAIResponsesModel("gpt-6-luna", provider=OpenAIProvider(openai_client=client))
    return Agent(model, output_type=BinaryImage, capabilities=[NativeTool(ImageGenerationTool(**options))])


async def told(artist: Agent[None, BinaryImage], *prompt: Any, **options: Any) -> dict[str, Any]:
    try:
        await artist.run(list(prompt), **options)
    except Exception as error:
        return tell(error)
    raise AssertionError("it was not refused")


async def main() -> None:
    artist, tiny = agent("TOOL_KEY"), agent("TINY_KEY")
    first = await artist.run("a cat")
    second = await artist.run(["make it blue", first.output])
    await tiny.run("a cat")
    async with artist.run_stream("a cat") as stream:
        streamed = await stream.get_output()
    show(
        made=len(first.output.data),
        turns=[result.output.media_type for result in (first, second)],
        streamed=streamed.media_type,
        by_id=await told(artist, "make it blue", message_history=first.all_messages()),
        refused=await told(agent("TOOL_KEY", provider_settings={"openai": {"model": "gpt-image-9"}}), "a cat"),
        spent=await told(tiny, "a cat"),
    )


asyncio.run(main())

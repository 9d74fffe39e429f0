"""The OpenAI Agents SDK with its image tool, over three turns."""

from __future__ import annotations

import asyncio
import os
from typing import Any

from agents import Agent, ImageGenerationTool, OpenAIResponsesModel, Runner, set_tracing_disabled
from openai import AsyncOpenAI
from telling import show, tell

set_tracing_disabled(True)


def agent(key: str, **config: Any) -> Agent[Any]:
    client = AsyncOpenAI(api_key=os.environ[key], max_retries=0)
    tool = ImageGenerationTool(tool_config={"type": "image_generation", **config})
    return Agent(name="artist", model=OpenAIResponsesModel("gpt-6-luna", client), tools=[tool])


def pictures(result: Any) -> int:
    return sum(
        item.raw_item.type == "image_generation_call" for item in result.new_items if hasattr(item.raw_item, "type")
    )


async def turns(artist: Agent[Any]) -> list[int]:
    said: list[Any] = []
    found = []
    for words in ("a cat", "make it blue", "and add a hat"):
        result = await Runner.run(artist, [*said, {"role": "user", "content": words}])
        said = result.to_input_list()
        found.append(pictures(result))
    return found


async def streamed(artist: Agent[Any]) -> list[str]:
    result = Runner.run_streamed(artist, "a cat")
    return [event.data.type async for event in result.stream_events() if event.type == "raw_response_event"]


async def told(artist: Agent[Any], words: str, **options: Any) -> dict[str, Any]:
    try:
        await Runner.run(artist, words, **options)
    except Exception as error:
        return tell(error)
    raise AssertionError("it was not refused")


async def main() -> None:
    artist, tiny = agent("TOOL_KEY", size="auto", quality="auto"), agent("TINY_KEY")
    await Runner.run(tiny, "a cat")
    show(
        turns=await turns(artist),
        streamed=await streamed(artist),
        carried=await told(artist, "make it blue", previous_response_id="resp_1"),
        refused=await told(agent("TOOL_KEY", output_format="webp", model="gpt-image-9"), "a cat"),
        spent=await told(tiny, "a cat"),
    )


asyncio.run(main())

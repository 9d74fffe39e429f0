"""langchain-openai: the image tool bound to a chat model, over three turns."""

from __future__ import annotations

import os
from typing import Any

from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI
from telling import show, told

TOOL: dict[str, Any] = {"type": "image_generation", "size": "auto", "quality": "auto"}


def model(key: str, tool: dict[str, Any] = TOOL, **options: Any) -> Any:
    chat = ChatOpenAI(model="gpt-6-luna", api_key=os.environ[key], max_retries=0, use_responses_api=True, **options)
    return chat.bind_tools([tool])


def pictures(message: Any) -> int:
    return sum(block["type"] == "image_generation_call" for block in message.content)


def turns(chat: Any) -> list[int]:
    """Whole answers go back, as its docs say for conversations that OpenAI does not keep."""
    said, found = [], []
    for words in ("a cat", "make it blue", "and add a hat"):
        said.append(HumanMessage(words))
        said.append(chat.invoke(said))
        found.append(pictures(said[-1]))
    return found


tool = model("TOOL_KEY", store=False, reasoning={"effort": "low"}, include=["reasoning.encrypted_content"])
kept = model("TOOL_KEY")
first = kept.invoke("a cat")
tiny = model("TINY_KEY")
tiny.invoke("a cat")
events = [block["type"] for chunk in tool.stream("a cat") for block in chunk.content if isinstance(block, dict)]
show(
    made=pictures(first),
    turns=turns(tool),
    streamed=sorted(set(events)),
    by_id=told(lambda: kept.invoke([HumanMessage("a cat"), first, HumanMessage("make it blue")])),
    carried=told(lambda: kept.invoke("make it blue", previous_response_id=first.response_metadata["id"])),
    refused=told(lambda: model("TOOL_KEY", {**TOOL, "model": "gpt-image-9"}).invoke("a cat")),
    spent=told(lambda: tiny.invoke("a cat")),
)

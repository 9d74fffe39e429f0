"""litellm as a client: one call for many providers, here before an address of its own."""

from __future__ import annotations

import os

import litellm
from telling import show, told

litellm.suppress_debug_info = True
PROXY = {"api_base": os.environ["OPENAI_BASE_URL"], "api_key": os.environ["OPENAI_API_KEY"], "max_retries": 0}
SPENT = {**PROXY, "api_key": os.environ["TINY_KEY"]}
MODEL = "openai/gpt-image-2-2026-04-21"

made = litellm.image_generation(prompt="a cat", model=MODEL, size="auto", quality="auto", **PROXY)
first = litellm.image_generation(prompt="a cat", model=MODEL, **SPENT)
show(
    made=len(made.data[0].b64_json),
    refused=told(lambda: litellm.image_generation(prompt="a cat", model="openai/dall-e-3", **PROXY)),
    spent=told(lambda: litellm.image_generation(prompt="a cat", model=MODEL, **SPENT)),
)

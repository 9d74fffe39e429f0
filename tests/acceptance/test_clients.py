"""Real clients before `policyguard serve`, the sandbox behind it.

Each makes a picture, streams where it can, is refused in words that say why, and meets a budget. One script for each
of them; one proxy for all.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from acceptance.conftest import RunningProxy, Sandbox, proxies
from node.language_server import NODE
from tool_bodies import PRICES, RESPONSES

from policyguard.sandbox import SandboxServer

pytestmark = pytest.mark.acceptance
HERE = Path(__file__).parent
SHIPPED = {path.stem: path.read_text() for path in (HERE.parents[1] / "policies").glob("*.yaml")}
TOOL = RESPONSES.replace("surface: avatars", "surface: tool").replace("POST /v1/", "POST /tool/v1/") + (
    "  on_excess: adjust\n  input_images: {max: 2}\n"
)
TINY = TOOL.replace("surface: tool", "surface: tiny").replace("POST /tool/", "POST /tiny/") + (
    "budgets: [{id: user-day, per: caller.user, limit: 1 images / day}]\n"
)
AVATAR_MODELS = "allowed are `gpt-image-2.5-flare-2026-09-08`, `gpt-image-2-2026-04-21`"
TOOL_MODELS = "allowed are `gpt-image-2-2026-04-21`, `gpt-image-2.5-flare-2026-09-08`"
NO_MODEL = f"the model `dall-e-3` is not allowed here ({AVATAR_MODELS})"
NO_TOOL_MODEL = f"the model `gpt-image-9` is not allowed here (did you mean `gpt-image-2-2026-04-21`? {TOOL_MODELS})"
SEND_ALL = "send the whole conversation in `input`, and each picture as an `input_image` with a data URL"
BY_ID = f"an `image_generation_call` without its picture in `result` cannot be looked at; {SEND_ALL}"
CARRIED = f"what `previous_response_id` stands for cannot be looked at; {SEND_ALL}"
SPENT = re.compile(r"the budget `user-day` \(images\) has no room for this request \(it opens again at [0-9T:Z-]+\)")


@dataclass
class Clients:
    """A proxy with the shipped policies, a surface with the image tool, and one whose budget is a single picture."""

    proxy: RunningProxy
    sandbox: Sandbox

    def run(self, *command: str) -> dict[str, Any]:
        """What a script shows in its last line. It asks as a user of its own."""
        user = Path(command[-1]).stem
        keys = {"OPENAI_API_KEY": "avatars", "TOOL_KEY": "tool", "TINY_KEY": "tiny"}
        settings = {name: self.proxy.key(surface, user=user) for name, surface in keys.items()}
        settings |= {"OPENAI_BASE_URL": f"{self.proxy.url}/v1", "LITELLM_LOCAL_MODEL_COST_MAP": "True"}
        done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **settings})
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    def script(self, name: str) -> dict[str, Any]:
        return self.run(sys.executable, str(HERE / "clients" / f"{name}.py"))

    def turns(self) -> list[int]:
        """How many pictures each request for the image tool showed that had some."""
        rows = [row for row in self.sandbox.counts()["requests"] if row["path"] == "/v1/responses"]
        assert {row["moderation"] for row in rows} == {"auto"}
        return [row["input_images"] for row in rows if row["input_images"]]


@pytest.fixture(scope="module")
def proxy_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clients]:
    with SandboxServer() as server:
        sandbox = Sandbox(server)
        with proxies(sandbox, tmp_path_factory.mktemp("clients")) as start:
            yield Clients(start(**SHIPPED, tool=TOOL, tiny=TINY, prices=PRICES), sandbox)
        sandbox.close()


@pytest.fixture
def clients(proxy_for_all: Clients) -> Clients:
    proxy_for_all.sandbox.reset()
    return proxy_for_all


def check(told: dict[str, Any], status: int, words: str | re.Pattern[str]) -> None:
    """`words` are all that is said of it, wherever the client puts them."""
    assert told["status"] == status, told
    assert re.search(words if isinstance(words, re.Pattern) else re.escape(words), told["said"]), told


def test_openais_python_sdk(clients: Clients) -> None:
    seen = clients.script("openai_python")
    assert (seen["made"], seen["streamed"]) != (0, [])
    assert seen["adjusted"] == "quality=auto->low,size=auto->1024x1024"
    other = "the model `gpt-image-2` is not allowed here (did you mean"
    check(seen["refused"], 400, other)
    check(seen["spent"], 429, SPENT)
    assert (seen["refused"]["raised"], seen["spent"]["raised"]) == ("BadRequestError", "RateLimitError")
    beside = seen["asynchronous"]
    assert beside["streamed"] == seen["streamed"] == ["image_generation.completed"]
    check(beside["refused"], 400, NO_MODEL)
    assert clients.sandbox.counts()["generations"] == 5


def test_litellm(clients: Clients) -> None:
    seen = clients.script("litellm_client")
    assert seen["made"]
    check(seen["refused"], 400, NO_MODEL)
    check(seen["spent"], 429, SPENT)
    assert (seen["refused"]["raised"], seen["spent"]["raised"]) == ("BadRequestError", "RateLimitError")
    assert clients.sandbox.counts()["generations"] == 2


def test_langchain_over_three_turns(clients: Clients) -> None:
    seen = clients.script("langchain_client")
    assert (seen["made"], seen["turns"]) == (1, [1, 1, 1])
    assert "image_generation_call" in seen["streamed"]
    check(seen["by_id"], 400, BY_ID)
    check(seen["carried"], 400, CARRIED)
    check(seen["refused"], 400, NO_TOOL_MODEL)
    check(seen["spent"], 429, SPENT)
    assert clients.turns() == [1, 2]


def test_openais_agents_sdk_over_three_turns(clients: Clients) -> None:
    seen = clients.script("agents_client")
    assert seen["turns"] == [1, 1, 1]
    assert (seen["streamed"][0], seen["streamed"][-1]) == ("response.created", "response.completed")
    check(seen["carried"], 400, CARRIED)
    check(seen["refused"], 400, NO_TOOL_MODEL)
    check(seen["spent"], 429, SPENT)
    assert clients.turns() == [1, 2]


def test_pydantic_ai(clients: Clients) -> None:
    seen = clients.script("pydantic_ai_client")
    assert seen["made"]
    assert (seen["turns"], seen["streamed"]) == (["image/png", "image/png"], "image/png")
    check(seen["by_id"], 400, BY_ID)
    check(seen["refused"], 400, NO_TOOL_MODEL)
    check(seen["spent"], 429, SPENT)
    assert clients.turns() == [1]


def test_the_ai_sdk_over_three_turns(clients: Clients) -> None:
    seen = clients.run(NODE, str(HERE.parent / "node" / "ai_sdk.mjs"))
    assert seen["made"]
    assert len(seen["turns"]) == 3
    assert {"tool-result", "text-delta", "finish"} <= set(seen["streamed"])
    check(seen["by_id"], 400, f"`input` holds an `item_reference` that cannot be looked at; {SEND_ALL}")
    check(seen["refused"], 400, NO_MODEL)
    check(seen["tool_refused"], 400, NO_TOOL_MODEL)
    check(seen["spent"], 429, SPENT)
    assert clients.turns() == [1, 2]

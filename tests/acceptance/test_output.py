"""Output with the real SDK, and the sandbox's pictures and moderation: through the proxy, and by the client door."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest
from openai import OpenAI
from support import AVATARS, write_policies
from tool_bodies import PRICES, RESPONSES, asked

from policyguard.adapters.transport import guarded
from policyguard.guard.guard import Guard
from policyguard.moderation.openai import OpenAIModerator

pytestmark = pytest.mark.acceptance
INSPECTED = (
    "moderation: {check: [prompt, input_images, output_images], review_at: {sexual: 0.3}}\n"
    "review: {reviewers: [group:trust]}\n"
)
BLOODY, DOUBTFUL = "a cat [sandbox output: violence=0.9]", "a cat [sandbox output: sexual=0.4]"
FORMATS = ("png", "jpeg", "webp")


@pytest.fixture
def guard(tmp_path: Path, sandbox: Any) -> Iterator[Guard]:
    folder = write_policies(tmp_path / "policies", avatars=RESPONSES + INSPECTED, prices=PRICES)
    moderator = OpenAIModerator(base_url=f"{sandbox.url}/v1", api_key="sk-sandbox")
    with Guard.open(folder, store=f"sqlite:///{tmp_path / 'record.sqlite3'}", moderator=moderator) as opened:
        yield opened


def client_door(guard: Guard, sandbox: Any) -> OpenAI:
    plain = OpenAI(api_key="sk-sandbox", base_url=f"{sandbox.url}/v1", max_retries=2)
    return guarded(plain, guard, surface="avatars", caller=lambda: {"user": "u1"})


def events(store: Any, prefix: str) -> list[Any]:
    return [row.event for row in store.events(limit=1000) if row.event.type.startswith(prefix)]


@pytest.mark.parametrize("output_format", FORMATS)
def test_pictures_of_every_format_are_withheld_where_they_score_too_high(
    guard: Guard, sandbox: Any, output_format: Any
) -> None:
    with client_door(guard, sandbox) as client:
        with pytest.raises(openai.BadRequestError) as withheld:
            client.images.generate(prompt=BLOODY, output_format=output_format)
        passed = client.images.generate(prompt="a cat", output_format=output_format)
    body: Any = withheld.value.body
    assert body["code"] == "moderation_blocked"
    assert body["moderation_details"] == {"moderation_stage": "output", "categories": ["violence"]}
    assert passed.data is not None
    assert sandbox.counts()["generations"] == 2  # what was withheld is not asked for again
    assert [event.outcome for event in events(guard.store, "output.")] == ["withhold", "release"]
    assert [event.type for event in events(guard.store, "leg.")] == ["leg.settled"] * 2


def test_the_responses_tool_is_looked_at_too(guard: Guard, sandbox: Any) -> None:
    with client_door(guard, sandbox) as client:
        with pytest.raises(openai.BadRequestError) as withheld:
            client.responses.create(**asked(input=BLOODY))
        with pytest.raises(openai.BadRequestError) as streamed:
            client.responses.create(**asked({"partial_images": 1}, input=BLOODY, stream=True))
        with client.responses.create(**asked({"partial_images": 1}, stream=True)) as stream:
            kinds = [event.type for event in stream]
    assert (withheld.value.code, streamed.value.code) == ("moderation_blocked", "moderation_blocked")
    assert kinds[-1] == "response.completed"
    assert not [kind for kind in kinds if kind.endswith("partial_image")]
    assert [event.outcome for event in events(guard.store, "output.")] == ["withhold", "withhold", "release"]


def test_the_proxy_holds_an_answer_and_releases_it(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=AVATARS + INSPECTED)
    client = app.sdk(app.key(user="u1"))
    with pytest.raises(openai.PermissionDeniedError) as held:
        client.images.generate(prompt=DOUBTFUL)
    body: Any = held.value.body
    review_id = body["policy"]["review_id"]
    store = app.store()
    store.vote(review_id, "ada@example.com", "approve", "", datetime.now(UTC))
    answer = client.images.generate(prompt=DOUBTFUL, extra_headers={"x-policyguard-review": review_id})
    data = answer.data
    assert data is not None
    assert base64.b64decode(data[0].b64_json or "").startswith(b"\x89PNG")
    assert sandbox.counts()["generations"] == 1
    assert [event.type for event in events(store, "leg.")] == ["leg.settled"]
    store.close()


def test_the_proxy_withholds_a_stream_before_its_first_event(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=AVATARS + INSPECTED)
    client = app.sdk(app.key(user="u1"))
    with pytest.raises(openai.BadRequestError) as withheld:
        client.images.generate(prompt=BLOODY, stream=True, partial_images=2)
    assert withheld.value.code == "moderation_blocked"
    kinds = [event.type for event in client.images.generate(prompt="a cat", stream=True, partial_images=2)]
    assert kinds == ["image_generation.completed"]
    edited = client.images.edit(prompt="in oil", image=client_picture(client))
    assert edited.data is not None
    assert sandbox.counts()["generations"] == 4


def client_picture(client: OpenAI) -> bytes:
    data = client.images.generate(prompt="a cat").data
    assert data is not None
    return base64.b64decode(data[0].b64_json or "")

"""OpenAI's own SDK for Node before `policyguard serve`, the sandbox behind it: what its users see."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from acceptance.test_proxy import BUDGET, MODERATIONS, OTHER, STREAMED, ends, events, png, shipped
from node.language_server import NODE
from patience import HANGS_S
from support import AVATARS
from tool_bodies import PRICES, RESPONSES, asked

pytestmark = pytest.mark.acceptance
SDK = Path(__file__).parents[1] / "node" / "sdk.mjs"
README = (Path(__file__).parents[2] / "README.md").read_text()
GENERATE = {"route": "images.generate", "body": {"prompt": "a cat"}}


def node(app: Any, *calls: dict[str, Any], key: str | None = None) -> list[Any]:
    """What each call answered, one after another."""
    assert (SDK.parent / "node_modules/openai").exists(), "`make test` installs it: npm ci --prefix tests/node"
    settings = {"OPENAI_BASE_URL": f"{app.url}/v1", "OPENAI_API_KEY": key or app.key(user="u1")}
    done = subprocess.run(
        [NODE, SDK],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_S,
        env={**os.environ, **settings},
    )
    assert done.returncode == 0, done.stderr
    answers: list[Any] = json.loads(done.stdout)
    return answers


def generate(**body: Any) -> dict[str, Any]:
    return {**GENERATE, "body": {"prompt": "a cat", **body}}


def test_it_makes_edits_and_streams_pictures(proxy: Callable[..., Any], sandbox: Any, tmp_path: Path) -> None:
    app = proxy(avatars=STREAMED)
    picture = tmp_path / "me.png"
    picture.write_bytes(png().getvalue())
    edit = {"prompt": "in oil", "model": "gpt-image-2-2026-04-21"}
    made, one, two, streamed = node(
        app,
        generate(moderation="low"),
        {"route": "images.edit", "body": edit, "files": {"image": str(picture)}},
        {"route": "images.edit", "body": {**edit}, "files": {"image": [str(picture)] * 2}},
        generate(stream=True, partial_images=2),
    )
    assert made["data"]["data"][0]["b64_json"]
    assert made["request_id"].startswith("req_")
    assert made["headers"]["x-policyguard-adjusted"] == "moderation=low->auto"
    assert [len(edited["data"]["data"]) for edited in (one, two)] == [1, 1]
    assert streamed["events"] == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    counts = sandbox.counts()
    assert (counts["generations"], counts["edits"]) == (4, 2)
    assert [request["images"] for request in counts["requests"]] == [1] * 4
    ids = [answer["headers"]["x-policyguard-decision"] for answer in (made, one, two, streamed)]
    assert ends(app) == [("leg.settled", None)] * 4
    assert [event.decision_id for event in events(app, "request.decided")] == ids


def test_the_image_tool_of_the_responses_api(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=RESPONSES.replace("POST /v1/", "POST /avatars/v1/"), prices=PRICES)
    made, streamed, text = node(
        app,
        {"route": "responses.create", "body": asked(max_tool_calls=2)},
        {"route": "responses.create", "body": asked(stream=True)},
        {"route": "responses.create", "body": {"model": "gpt-6-luna", "input": "say hello"}},
    )
    assert [item["type"] for item in made["data"]["output"]].count("image_generation_call") == 2
    assert (streamed["events"][0], streamed["events"][-1]) == ("response.created", "response.completed")
    assert (text["raised"], text["code"]) == ("PermissionDeniedError", "policy_no_surface")
    assert sandbox.counts()["images"] == 3
    assert ends(app) == [("leg.settled", None)] * 2


def test_refusals_are_its_typed_errors(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=AVATARS + "budgets: [{id: day, limit: 1 images / day}]\n", marketing=OTHER)
    answers = node(
        app,
        generate(size="2048x2048"),
        generate(prompt="a swordfight at dawn"),
        {**GENERATE, "key": "sk-policyguard-wrong"},
        {**GENERATE, "key": app.key(tenant="acme")},
        {**GENERATE, "headers": {"x-policyguard-surface": "marketing"}},
        {"route": "files.list", "body": {}},
        GENERATE,
        {**GENERATE, "max_retries": 2},
    )
    assert [(answer.get("raised"), answer["status"], answer.get("code")) for answer in answers] == [
        ("BadRequestError", 400, "policy_violation"),
        ("BadRequestError", 400, "moderation_blocked"),
        ("AuthenticationError", 401, "invalid_api_key"),
        ("PermissionDeniedError", 403, "policy_caller_missing"),
        ("PermissionDeniedError", 403, "policy_no_surface"),
        ("NotFoundError", 404, "not_found"),
        (None, 200, None),
        ("RateLimitError", 429, "policy_budget_exceeded"),
    ]
    size, moderated, *_, spent = answers
    assert (size["param"], size["type"]) == ("size", "invalid_request_error")
    sizes = "allowed are `1024x1024`, `1024x1536`, `1536x1024`"
    assert size["message"] == f"400 the size `2048x2048` is not allowed here ({sizes})"
    assert spent["message"].startswith("429 the budget `day` (images) has no room for this request (it opens again at ")
    assert moderated["error"]["moderation_details"] == {"moderation_stage": "input", "categories": ["violence"]}
    assert (spent["pauses"], sandbox.counts()["generations"]) == ([], 1)
    assert {row.decision_id for row in events(app, "request.decided")} >= {
        answer["headers"]["x-policyguard-decision"] for answer in (size, moderated, spent)
    }


def test_what_cannot_be_decided_now_is_tried_again_when_the_proxy_says(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=AVATARS + BUDGET)
    key = app.key(user="u1")
    sandbox.fault(MODERATIONS, "503")
    (down,) = node(app, GENERATE, key=key)
    assert (down["raised"], down["status"], down["code"]) == ("InternalServerError", 503, "policy_unavailable")
    sandbox.clear()
    sandbox.fault(MODERATIONS, "503", times=2)  # each decision asks twice
    (made,) = node(app, {**GENERATE, "max_retries": 1}, key=key)
    assert (made["status"], made["pauses"]) == (200, [int(down["headers"]["retry-after"]) * 1000])
    assert [event.outcome for event in events(app, "request.decided")] == ["deny", "deny", "allow"]
    assert sandbox.counts()["generations"] == 1


@pytest.mark.parametrize(
    ("fault", "raised", "leg"),
    [
        ("429", "RateLimitError", "leg.released"),
        ("500", "InternalServerError", "leg.presumed"),
        ("503", "InternalServerError", "leg.released"),
        ("moderation_blocked", "BadRequestError", "leg.released"),
        ("cut", "TypeError", "leg.presumed"),  # of fetch: the answer had begun
    ],
)
def test_errors_of_openai_pass_and_each_attempt_is_a_leg(
    proxy: Callable[..., Any], sandbox: Any, fault: str, raised: str, leg: str
) -> None:
    app = proxy(avatars=AVATARS + BUDGET)
    sandbox.fault("/v1/images/generations", fault)
    (answer,) = node(app, {**GENERATE, "max_retries": 1})
    retried = fault in ("429", "500", "503")
    assert answer["raised"] == raised
    assert sandbox.counts()["paths"]["/v1/images/generations"] == 1 + retried
    assert [kind for kind, _ in ends(app)] == [leg] * (1 + retried)


def test_a_stream_that_it_leaves_is_charged_once(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=STREAMED)
    sandbox.fault("/v1/images/generations", "slow=600", times=1)
    (left,) = node(app, {**generate(stream=True, partial_images=2), "stop_after": 1})
    assert left["events"] == ["image_generation.partial_image"]
    assert [kind for kind, _ in ends(app)] == ["leg.presumed"]
    assert sandbox.counts()["generations"] == 1


def test_the_script_of_the_readme_runs_as_it_stands(proxy: Callable[..., Any], sandbox: Any, tmp_path: Path) -> None:
    app = shipped(proxy)
    (script,) = re.findall(r"```js\n(.*?)```", README, flags=re.S)
    (tmp_path / "shop.mjs").write_text(script)
    (tmp_path / "photo.png").write_bytes(png().getvalue())
    (tmp_path / "node_modules").symlink_to(SDK.parent / "node_modules")
    key = app.key("storefront", names_user=True, tenant="acme")
    settings = {"OPENAI_BASE_URL": f"{app.url}/v1", "OPENAI_API_KEY": key}
    command = [NODE, "shop.mjs"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=HANGS_S,
        cwd=tmp_path,
        env={**os.environ, **settings},
    )
    made, refused = done.stdout.splitlines()
    assert re.fullmatch(r"1 made by dec_\w+", made)
    assert refused == "400 policy_violation photos-needed"
    assert sandbox.counts()["generations"] == 1

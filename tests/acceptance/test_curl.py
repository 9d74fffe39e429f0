"""curl before `policyguard serve`: forms, streams and errors as a shell sees them.

With the machine's own curl, and with a stand-in that sends the same bytes, so that nothing is left out without it.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from acceptance.test_proxy import BUDGET, MODERATIONS, STREAMED, ends, events, png, shipped
from patience import HANGS_S
from support import AVATARS
from tool_bodies import PRICES, RESPONSES, asked

pytestmark = pytest.mark.acceptance
README = (Path(__file__).parents[2] / "README.md").read_text()
CURLS = ["stand-in", *(["system"] if shutil.which("curl") else [])]
JSON = '-H "Content-Type: application/json"'


class Answer:
    """What `curl -i` printed."""

    def __init__(self, printed: bytes) -> None:
        head, _, self.body = printed.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        self.status = int(first.split()[1])
        self.headers: Mapping[str, str] = dict(line.split(": ", 1) for line in lines)

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@pytest.fixture(params=CURLS)
def shell(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., bytes]:
    """Runs a line of a shell, in which `curl` is one of the two, in a folder of its own."""
    (tmp_path / "me.png").write_bytes(png().getvalue())
    environment = {**os.environ, "CURL_HOME": str(tmp_path), "no_proxy": "*"}
    if request.param == "stand-in":
        script = Path(__file__).with_name("curl.py")
        own = tmp_path / "bin" / "curl"
        own.parent.mkdir()
        own.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{script}" "$@"\n')
        own.chmod(0o755)
        environment["PATH"] = f"{own.parent}:{environment['PATH']}"

    def run(line: str, **more: str) -> bytes:
        done = subprocess.run(
            ["sh", "-c", line],
            capture_output=True,
            check=False,
            timeout=HANGS_S,
            cwd=tmp_path,
            env={**environment, **more},
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout

    return run


@pytest.fixture
def curl(shell: Callable[..., bytes]) -> Callable[..., Answer]:
    def run(app: Any, path: str, options: str, *, key: str | None = None) -> Answer:
        settings = {"URL": f"{app.url}/v1{path}", "KEY": key or app.key(user="u1")}
        return Answer(shell(f'curl -sSi "$URL" -H "Authorization: Bearer $KEY" {options}', **settings))

    return run


def test_it_makes_edits_and_streams_pictures(
    proxy: Callable[..., Any], sandbox: Any, curl: Callable[..., Answer]
) -> None:
    app = proxy(avatars=STREAMED)
    made = curl(app, "/images/generations", JSON + """ -d '{"prompt": "a cat", "moderation": "low"}'""")
    assert (made.status, made.headers["x-policyguard-adjusted"]) == (200, "moderation=low->auto")
    assert made.json["data"][0]["b64_json"]
    assert made.headers["x-request-id"].startswith("req_")
    for images in ("-F image=@me.png", "-F 'image[]=@me.png' -F 'image[]=@me.png;type=image/png'"):
        edited = curl(app, "/images/edits", f"{images} -F prompt='in oil' -F model=gpt-image-2-2026-04-21")
        assert (edited.status, len(edited.json["data"])) == (200, 1)
    asked = """ -N -d '{"prompt": "a cat", "stream": true, "partial_images": 2}'"""
    streamed = curl(app, "/images/generations", JSON + asked)
    kinds = [line.removeprefix("event: ") for line in streamed.body.decode().splitlines() if line.startswith("event:")]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    assert streamed.headers["content-type"].startswith("text/event-stream")
    assert [request["images"] for request in sandbox.counts()["requests"]] == [1] * 4
    assert ends(app) == [("leg.settled", None)] * 4
    assert events(app, "request.decided")[0].decision_id == made.headers["x-policyguard-decision"]


def test_the_image_tool_of_the_responses_api(
    proxy: Callable[..., Any], sandbox: Any, curl: Callable[..., Answer]
) -> None:
    app = proxy(avatars=RESPONSES.replace("POST /v1/", "POST /avatars/v1/"), prices=PRICES)
    made = curl(app, "/responses", f"{JSON} -d '{json.dumps(asked())}'")
    assert [item["type"] for item in made.json["output"]] == ["image_generation_call", "message"]
    assert ends(app) == [("leg.settled", None)]


REFUSED = [
    ("/images/generations", """-d '{"prompt": "a cat", "size": "2048x2048"}'""", 400, "policy_violation"),
    ("/images/generations", """-d '{"prompt": "a swordfight at dawn"}'""", 400, "moderation_blocked"),
    ("/images/generations", """-d '{"prompt": "a cat", "prompt": "a dog"}'""", 400, "invalid_request"),
    ("/images/generations", "-d 'no JSON'", 400, "invalid_request"),
    ("/images/generations?n=9", """-d '{"prompt": "a cat"}'""", 400, "invalid_request"),
    ("//images/generations", """-d '{"prompt": "a cat"}'""", 404, "not_found"),
    ("/images/variations", """-d '{"prompt": "a cat"}'""", 403, "policy_no_surface"),
    ("/images/generations", "", 403, "policy_no_surface"),  # a GET
    ("/models/dall-e-3", "", 404, "model_not_found"),
    ("/files", "", 404, "not_found"),
]


def test_refusals_have_the_one_body(proxy: Callable[..., Any], sandbox: Any, curl: Callable[..., Answer]) -> None:
    app = proxy(avatars=AVATARS)
    key = app.key(user="u1")
    answers = [curl(app, path, f"{JSON} {options}", key=key) for path, options, _, _ in REFUSED]
    assert [(answer.status, answer.json["error"]["code"]) for answer in answers] == [row[2:] for row in REFUSED]
    assert all({"message", "type", "param", "code"} <= answer.json["error"].keys() for answer in answers)
    assert {answer.headers["x-should-retry"] for answer in answers} == {"false"}
    assert sandbox.counts()["generations"] == 0


def test_keys_budgets_and_what_is_down(proxy: Callable[..., Any], sandbox: Any, curl: Callable[..., Answer]) -> None:
    app = proxy(avatars=AVATARS + "budgets: [{id: day, limit: 1 images / day}]\n")
    ask, asked = "/images/generations", JSON + """ -d '{"prompt": "a cat"}'"""
    wrong = curl(app, ask, asked, key="sk-policyguard-wrong")
    assert (wrong.status, wrong.json["error"]["code"]) == (401, "invalid_api_key")
    sandbox.fault(MODERATIONS, "503")
    down = curl(app, ask, asked)
    assert (down.status, down.json["error"]["code"]) == (503, "policy_unavailable")
    assert int(down.headers["retry-after"]) > 0
    sandbox.clear()
    assert curl(app, ask, asked).status == 200
    spent = curl(app, ask, asked)
    assert (spent.status, spent.json["error"]["code"]) == (429, "policy_budget_exceeded")


def test_a_body_may_come_as_it_likes(proxy: Callable[..., Any], sandbox: Any, curl: Callable[..., Answer]) -> None:
    app = proxy(avatars=AVATARS + BUDGET)
    key = app.key(user="u1")
    for options in ('-H "Transfer-Encoding: chunked"', "-0", '-H "Expect: 100-continue"'):
        answer = curl(app, "/images/generations", f"""{options} {JSON} -d '{{"prompt": "a cat"}}'""", key=key)
        assert (Answer(answer.body) if answer.status == 100 else answer).status == 200
    assert ends(app) == [("leg.settled", None)] * 3


def test_the_lines_of_the_readme_run_as_they_stand(
    proxy: Callable[..., Any], sandbox: Any, shell: Callable[..., bytes], tmp_path: Path
) -> None:
    app = shipped(proxy)
    first = "export OPENAI_BASE_URL=http://127.0.0.1:8080/v1 OPENAI_API_KEY=sk-policyguard-...\n"
    (rest,) = re.findall(rf"```sh\n{re.escape(first)}(.*?)```", README, flags=re.S)
    assert "curl " in rest
    (tmp_path / "me.png").rename(tmp_path / "photo.png")
    key = app.key("storefront", names_user=True, tenant="acme")
    printed = shell(rest, OPENAI_BASE_URL=f"{app.url}/v1", OPENAI_API_KEY=key).decode()
    made, edited = json.JSONDecoder().raw_decode(printed)
    assert len(made["data"]) == 1
    assert printed[edited:].lstrip().startswith("event: image_edit.completed\n")
    assert ends(app) == [("leg.settled", None)] * 2

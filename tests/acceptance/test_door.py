"""What a client can and cannot do at the middleware's door, over real HTTP."""

from __future__ import annotations

import hashlib
import io
import json
import socket
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest
from openai import APIStatusError, BadRequestError, InternalServerError, PermissionDeniedError
from patience import HANGS_S
from PIL import Image
from support import AVATARS

from policyguard.store.address import sqlite_path

pytestmark = pytest.mark.acceptance
PATH = "/avatars/v1/images/generations"
EDITS = "/avatars/v1/images/edits"
BUDGET = "budgets: [{id: day, limit: $10 / day}]\n"
REVIEWED = AVATARS + "review: {required: true, reviewers: [group:trust], expires: 4h}\n"


def png(width: int = 64, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), "teal").save(buffer, "PNG")
    return buffer.getvalue()


def bomb() -> bytes:
    """A small file that says it is 60,000 pixels wide and high."""
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + struct.pack(">I", 13) + chunk + struct.pack(">I", zlib.crc32(chunk)) + png()[33:]


def http(app: Any, **headers: str) -> httpx2.Client:
    return httpx2.Client(base_url=app.url, trust_env=False, headers={"x-user-id": "u1", **headers}, timeout=HANGS_S)


# ---- forced parameters ------------------------------------------------------------------------------------


def test_moderation_low_reaches_upstream_as_auto_or_not_at_all(serve: Callable[..., Any], sandbox: Any) -> None:
    client = serve().client()
    client.images.generate(prompt="a cat", moderation="low")
    client.images.generate(prompt="a cat", extra_body={"moderation": "low"})
    client.images.edit(prompt="a hat", image=("a.png", png(), "image/png"), extra_body={"moderation": "low"})
    rows = sandbox.counts()["requests"]
    assert [(row["path"].rsplit("/", 1)[-1], row["moderation"]) for row in rows] == [
        ("generations", "auto"),
        ("generations", "auto"),
        ("edits", None),
    ]
    assert all(row["safety_identifier"] and "u1" not in row["safety_identifier"] for row in rows)


def test_defaults_and_adjusted_values_are_what_upstream_gets(serve: Callable[..., Any], sandbox: Any) -> None:
    app = serve(avatars=AVATARS.replace("  n:       {max: 2}", "  n: {max: 2}\n  on_excess: adjust"))
    raw = app.client().images.with_raw_response.generate(prompt="a cat", n=4)
    assert raw.headers["x-policyguard-adjusted"] == "n=4->2"
    assert raw.headers["x-policyguard-decision"].startswith("dec_")
    assert len(raw.parse().data or []) == 2
    row = sandbox.counts()["requests"][-1]
    assert (row["model"], row["size"], row["quality"], row["n"]) == (
        "gpt-image-2-2026-04-21",
        "1024x1024",
        "low",
        2,
    )


# ---- moderation down --------------------------------------------------------------------------------------


def test_moderation_down_denies_and_when_it_is_back_requests_pass(serve: Callable[..., Any], sandbox: Any) -> None:
    client = serve().client()
    sandbox.fault("/v1/moderations", "500")
    with pytest.raises(InternalServerError) as caught:
        client.images.generate(prompt="a cat")
    assert (caught.value.status_code, caught.value.code) == (503, "policy_unavailable")
    assert caught.value.response.headers["retry-after"] == "30"
    assert sandbox.counts()["generations"] == 0
    sandbox.clear()
    assert client.images.generate(prompt="a cat").usage is not None


def test_a_refused_prompt_raises_what_openai_would_raise(serve: Callable[..., Any], sandbox: Any) -> None:
    with pytest.raises(BadRequestError) as caught:
        serve().client().images.generate(prompt="a swordfight at dawn")
    body: Any = caught.value.body
    assert (caught.value.code, caught.value.type) == ("moderation_blocked", "image_generation_user_error")
    assert body["moderation_details"] == {"moderation_stage": "input", "categories": ["violence"]}
    assert body["policy"]["reasons"][0]["values"] == {"score_milli": 580, "threshold_milli": 500}
    assert sandbox.counts()["generations"] == 0


def test_a_prompt_that_hides_its_letters_is_judged_by_what_it_says(serve: Callable[..., Any], sandbox: Any) -> None:
    client = serve().client()
    with pytest.raises(BadRequestError) as caught:
        client.images.generate(prompt="a s\u200bw\u200bo\u200br\u200bd\u200bf\u200bi\u200bg\u200bh\u200bt at dawn")
    assert caught.value.code == "moderation_blocked"
    assert sandbox.counts()["generations"] == 0


def test_the_prompt_goes_upstream_byte_for_byte(serve: Callable[..., Any], sandbox: Any) -> None:
    prompt = "a c\u200ba\u200bt, ｃａｔ, schöne Grüße"
    serve().client().images.generate(prompt=prompt)
    assert sandbox.counts()["requests"][-1]["prompt_sha256"] == hashlib.sha256(prompt.encode()).hexdigest()
    assert sandbox.counts()["paths"]["/v1/moderations"] == 1


QUESTIONS = (
    AVATARS
    + """
questions:
  real_person: {ask: Does the prompt or a photo show a real person?, when_unavailable: review}
rules: [{id: real-people, when: answers.real_person > 0.7, then: deny, message: No real people.}]
review: {reviewers: [group:trust]}
"""
)


def test_a_question_is_answered_about_prompt_and_photo_before_money_is_spent(
    serve: Callable[..., Any], sandbox: Any
) -> None:
    app = serve(avatars=QUESTIONS)
    client = app.client()
    client.images.generate(prompt="a cat")
    client.images.edit(prompt="a hat", image=("a.png", png(), "image/png"))
    with pytest.raises(BadRequestError) as caught:
        client.images.generate(prompt="a face [sandbox: real_person=0.9]")
    assert (caught.value.code, caught.value.body["message"]) == ("policy_violation", "No real people.")  # type: ignore[index]
    assert sandbox.counts()["generations"] == 2
    assert sandbox.counts()["paths"]["/v1/decisions"] == 3
    app.stop()
    store = app.store()
    asked = [row.event.body["questions"] for row in store.events(limit=99) if row.event.type == "request.decided"]
    store.close()
    assert [one["answers_milli"]["real_person"] > 700 for one in asked] == [False, False, True]
    assert all(one["input_tokens"] > 0 and one["cost_micros"] > 0 for one in asked)


@pytest.mark.parametrize("fault", ["500", "nonsense", "cut"])
def test_a_question_without_an_answer_is_held_where_it_says_so(
    serve: Callable[..., Any], sandbox: Any, fault: str
) -> None:
    client = serve(avatars=QUESTIONS).client()
    sandbox.fault("/v1/decisions", fault)
    with pytest.raises(PermissionDeniedError) as caught:
        client.images.generate(prompt="a cat")
    assert caught.value.code == "policy_review_required"
    sandbox.clear()
    with pytest.raises(PermissionDeniedError):
        client.images.generate(prompt="a face [sandbox: real_person=refusal]")
    assert sandbox.counts()["generations"] == 0


# ---- bad input --------------------------------------------------------------------------------------------


def _json(**values: Any) -> dict[str, Any]:
    return {"url": PATH, "json": {"prompt": "a cat", **values}}


def _raw(content: bytes, content_type: str = "application/json") -> dict[str, Any]:
    return {"url": PATH, "content": content, "headers": {"content-type": content_type}}


def _files(*files: bytes) -> dict[str, Any]:
    sent = [("image[]", (f"{i}.png", data, "image/png")) for i, data in enumerate(files)]
    return {"url": EDITS, "data": {"prompt": "a hat"}, "files": sent}


BAD: dict[str, tuple[dict[str, Any], int]] = {
    "malformed JSON": (_raw(b'{"prompt": '), 400),
    "no object": (_raw(b'["a cat"]'), 400),
    "not UTF-8": (_raw(b'{"prompt": "\xff"}'), 400),
    "another type": (_raw(b"prompt=a+cat", "application/x-www-form-urlencoded"), 400),
    "a duplicate key": (_raw(b'{"prompt": "a cat", "prompt": "a dog"}'), 400),
    "deep nesting": (_raw(b'{"prompt": "a", "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"), 400),
    "a wrong type": (_json(n="two"), 400),
    "a prompt in parts": (_json(prompt=[{"type": "text", "text": "a cat"}]), 400),
    "an unknown parameter": (_json(messages=[{"role": "user", "content": "a dog"}]), 400),
    "a prompt of 10 MB": (_json(prompt="a" * 10_000_000), 413),
    "a size with a cross": (_json(size="1024×1024"), 400),
    "a negative size": (_json(size="-1x99999"), 400),
    "200 images": (_json(n=200), 400),
    "a stream that is none": (_json(stream="true"), 400),
    "200 input images": (_files(*[png(16, 16)] * 200), 400),
    "a broken PNG": (_files(png()[:40]), 400),
    "no picture": (_files(b"GIF89a" + b"0" * 100), 400),
    "a bomb": (_files(bomb()), 400),
    "an edit without a picture": ({"url": EDITS, "data": {"prompt": "a"}, "files": [("x", b"1")]}, 400),
    "an edit as JSON": ({"url": EDITS, "json": {"prompt": "a", "images": [{"image_url": "http://x/y.png"}]}}, 400),
    "a compressed body": (_raw(b"\x1f\x8b") | {"headers": {"content-encoding": "gzip"}}, 400),
    "too large": ({"url": PATH, "content": b"{}", "headers": {"content-length": "99999999999"}}, 413),
    "an unclaimed route": ({"url": "/avatars//v1/images/generations", "json": {"prompt": "a cat"}}, 403),
    "variations": ({"url": "/v1/images/variations", "json": {"prompt": "a cat"}}, 403),
}


def test_bad_input_is_a_clear_4xx_that_reserves_nothing(serve: Callable[..., Any], sandbox: Any) -> None:
    """Every case gives the one error body and one row of the record."""
    app = serve(avatars=AVATARS + BUDGET)
    seen = {}
    for name, (request, _) in BAD.items():
        with http(app) as client:
            if name == "too large":
                status, body = _declared_too_large(app)
            else:
                answer = client.post(**{**request, "headers": {**request.get("headers", {})}})
                status, body = answer.status_code, answer.json()
        error = body["error"]
        assert {"message", "type", "param", "code", "policy"} <= error.keys(), name
        assert error["policy"]["decision_id"].startswith("dec_"), name
        seen[name] = status
    assert seen == {name: status for name, (_, status) in BAD.items()}
    app.stop()
    store = app.store()
    rows = store.events(limit=1000)
    windows = store.budget_windows()
    store.close()
    assert [row.event.type for row in rows] == ["request.decided"] * len(BAD)
    assert {row.event.outcome for row in rows} == {"deny"}
    assert windows == []
    assert sandbox.counts()["paths"].get("/v1/images/generations") is None


def _declared_too_large(app: Any) -> tuple[int, Any]:
    """By hand: a client library would send the whole body that it promises."""
    address = urlsplit(app.url)
    with socket.create_connection((address.hostname or "", address.port or 0)) as connection:
        connection.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-User-Id: u1\r\nContent-Type: application/json\r\n"
            "Content-Length: 99999999999\r\nConnection: close\r\n\r\n".encode()
        )
        answer = b""
        while chunk := connection.recv(65_536):
            answer += chunk
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


# ---- who asks ---------------------------------------------------------------------------------------------


def test_identity_headers_count_only_from_a_trusted_proxy(serve: Callable[..., Any]) -> None:
    from support import ORG

    app = serve(org=ORG.replace("127.0.0.1/32", "10.0.0.0/8"))
    with pytest.raises(PermissionDeniedError) as caught:
        app.client().images.generate(prompt="a cat")
    assert caught.value.code == "policy_caller_missing"


def test_a_header_that_is_there_twice_counts_as_absent(serve: Callable[..., Any]) -> None:
    app = serve()
    with http(app) as client:
        headers = [("x-user-id", "u1"), ("x-user-id", "u2"), ("content-type", "application/json")]
        answer = httpx2.post(f"{client.base_url}{PATH}", content=b'{"prompt":"a"}', headers=headers, trust_env=False)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "policy_caller_missing")


# ---- the stop button and the review, from the command line ------------------------------------------------


def policyguard(app: Any, *arguments: str) -> Any:
    command = [sys.executable, "-m", "policyguard", *arguments, "--store", app.store_url, "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_pause_holds_in_every_process_from_the_next_request_on(serve: Callable[..., Any]) -> None:
    first, second = serve(), serve()
    first.client().images.generate(prompt="a cat")
    policyguard(first, "pause", "avatars", "--why", "incident 42")
    for app in (first, second):
        with pytest.raises(PermissionDeniedError) as caught:
            app.client().images.generate(prompt="a cat")
        assert caught.value.code == "policy_paused"
    policyguard(first, "unpause", "avatars", "--why", "fixed")
    assert second.client().images.generate(prompt="a cat").usage is not None


def test_a_held_request_is_approved_by_name_and_admitted_exactly_once(serve: Callable[..., Any], sandbox: Any) -> None:
    app = serve(avatars=REVIEWED)
    client = app.client()
    with pytest.raises(PermissionDeniedError) as caught:
        client.images.generate(prompt="a badge photo")
    assert caught.value.code == "policy_review_required"
    review_id = caught.value.body["policy"]["review_id"]  # type: ignore[index]
    assert caught.value.response.headers["location"].endswith(review_id)
    (item,) = policyguard(app, "review", "list")
    assert (item["review_id"], item["state"]) == (review_id, "held")
    assert policyguard(app, "review", "show", review_id)["request"]["prompt"] == "a badge photo"
    approved = policyguard(app, "review", "approve", review_id, "--by", "ada@example.com", "--reason", "fine")
    assert approved["state"] == "approved"
    resume = {"x-policyguard-review": review_id}
    assert _code(lambda: client.images.generate(prompt="another photo", extra_headers=resume)) == "review.mismatch"
    assert _code(lambda: app.client("u2").images.generate(prompt="a badge photo", extra_headers=resume)) == (
        "review.unknown"
    )
    assert client.images.generate(prompt="a badge photo", extra_headers=resume).usage is not None
    assert _code(lambda: client.images.generate(prompt="a badge photo", extra_headers=resume)) == "review.used"
    assert sandbox.counts()["generations"] == 1
    assert b"badge photo" not in sqlite_path(app.store_url).read_bytes()


def _code(call: Callable[[], Any]) -> str:
    with pytest.raises(APIStatusError) as caught:
        call()
    return str(caught.value.body["policy"]["reasons"][-1]["id"])  # type: ignore[index]

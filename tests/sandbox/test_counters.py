from __future__ import annotations

import hashlib

import httpx2
import pytest
from openai import OpenAI

from policyguard.request import Size
from policyguard.sandbox import SandboxServer
from policyguard.sandbox.pictures import picture

PROMPT = "a very secret lighthouse"


def test_counts_are_of_requests_edits_and_images(client: OpenAI, http: httpx2.Client) -> None:
    client.images.generate(model="gpt-image-2", prompt=PROMPT, n=2)
    client.images.edit(model="gpt-image-2", prompt=PROMPT, image=("a.png", picture("aa", Size(64, 64), "png")))
    http.post("/v1/images/generations", json={"model": "gpt-image-2"})
    counts = http.get("/sandbox/requests").json()
    assert (counts["generations"], counts["edits"], counts["images"]) == (2, 1, 3)
    assert counts["paths"] == {"/v1/images/generations": 2, "/v1/images/edits": 1}
    assert [(row["status"], row["images"]) for row in counts["requests"]] == [(200, 2), (200, 1), (400, 0)]


def test_a_row_has_the_parameters_as_they_came_and_never_the_prompt(client: OpenAI, http: httpx2.Client) -> None:
    client.images.generate(model="gpt-image-2", prompt=PROMPT, quality="low", extra_body={"safety_identifier": "h1"})
    answer = http.get("/sandbox/requests")
    row = answer.json()["requests"][0]
    assert tuple(row[name] for name in ("quality", "size", "n", "moderation", "safety_identifier")) == (
        "low",
        None,
        None,
        None,
        "h1",
    )
    assert row["fields"] == ["model", "prompt", "quality", "safety_identifier"]
    assert (row["prompt_sha256"], row["prompt_chars"]) == (hashlib.sha256(PROMPT.encode()).hexdigest(), len(PROMPT))
    assert row["retry_count"] == "0"
    assert "secret" not in answer.text


def test_a_row_names_the_fields_that_held_files(client: OpenAI, http: httpx2.Client) -> None:
    png = picture("aa", Size(64, 64), "png")
    client.images.edit(model="gpt-image-2", prompt=PROMPT, image=[("a.png", png), ("b.png", png)], mask=("m.png", png))
    reference = {"file_id": "file-1"}
    http.post(
        "/v1/images/edits", json={"model": "gpt-image-2", "prompt": PROMPT, "images": [reference], "mask": reference}
    )
    form, body = http.get("/sandbox/requests").json()["requests"]
    assert (form["fields"], form["input_images"]) == (["image[]", "mask", "model", "prompt"], 2)
    assert (body["fields"], body["input_images"]) == (["images", "mask", "model", "prompt"], 1)


def test_the_sdks_retries_are_seen_one_by_one(
    client: OpenAI, http: httpx2.Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OpenAI, "_calculate_retry_timeout", lambda *arguments: 0.0)
    http.post("/sandbox/faults", json={"path": "/v1/images/generations", "fault": "429", "times": 2})
    client.with_options(max_retries=2).images.generate(model="gpt-image-2", prompt=PROMPT)
    counts = http.get("/sandbox/requests").json()
    seen = [(row["retry_count"], row["status"]) for row in counts["requests"]]
    assert seen == [("0", 429), ("1", 429), ("2", 200)]
    assert counts["generations"] == 1


def test_request_ids_go_on_after_a_reset(http: httpx2.Client) -> None:
    before = http.get("/v1/models").headers["x-request-id"]
    http.delete("/sandbox/requests")
    assert http.get("/v1/models").headers["x-request-id"] > before


def test_two_servers_number_and_answer_alike() -> None:
    def answers() -> list[tuple[str, bytes]]:
        with SandboxServer() as server, httpx2.Client(base_url=server.url, trust_env=False) as http:
            http.headers["authorization"] = "Bearer sk-sandbox"
            body = {"model": "gpt-image-2", "prompt": PROMPT}
            sent = [
                http.post("/v1/images/generations", json=body),
                http.post("/v1/moderations", json={"input": PROMPT}),
            ]
            return [(answer.headers["x-request-id"], answer.content) for answer in sent]

    assert answers() == answers()


def test_the_page_shows_counts_and_runs_nothing_that_was_in_a_path(client: OpenAI, http: httpx2.Client) -> None:
    client.images.generate(model="gpt-image-2", prompt=PROMPT, n=2)
    http.get("/v1/models/%3Cimg%20src%3Dx%3E")
    page = http.get("/").text
    assert "1 requests made 2 images" in page
    assert "<img" not in page
    assert "&lt;img src=x&gt;" in page


def test_delete_starts_from_nothing(client: OpenAI, http: httpx2.Client) -> None:
    client.images.generate(model="gpt-image-2", prompt=PROMPT)
    http.delete("/sandbox/requests")
    assert http.get("/sandbox/requests").json() == {
        "generations": 0,
        "edits": 0,
        "images": 0,
        "paths": {},
        "requests": [],
    }

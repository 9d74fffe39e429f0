from __future__ import annotations

import hashlib

import httpx2
from openai import OpenAI

from policyguard.request import Size
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

from __future__ import annotations

from typing import Any

import httpx2
import openai
import pytest
from openai import OpenAI

from policyguard.sandbox.faults import seconds

GENERATIONS = "/v1/images/generations"


def ask(client: OpenAI, fault: str | None = None, **changes: Any) -> Any:
    headers = {"x-sandbox-fault": fault} if fault else {}
    return client.images.generate(
        **{"model": "gpt-image-2", "prompt": "a paper boat", **changes}, extra_headers=headers
    )


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        ("429", 429, "rate_limit_exceeded"),
        ("500", 500, None),
        ("502", 502, None),
        ("503", 503, "server_is_overloaded"),
        ("moderation_blocked", 400, "moderation_blocked"),
    ],
)
def test_an_error_answer_has_openais_shape_and_makes_no_image(
    client: OpenAI, http: httpx2.Client, fault: str, status: int, code: str | None
) -> None:
    with pytest.raises(openai.APIStatusError) as caught:
        ask(client, fault)
    assert (status, code) == (caught.value.status_code, caught.value.code)
    assert (status in (429, 503)) == ("retry-after" in caught.value.response.headers)
    counts = http.get("/sandbox/requests").json()
    assert (0, status) == (counts["generations"], counts["requests"][0]["status"])


@pytest.mark.parametrize("stream", [False, True])
def test_a_cut_ends_in_the_middle_of_the_body_and_the_image_counts(
    client: OpenAI, http: httpx2.Client, stream: bool
) -> None:
    body = {"model": "gpt-image-2", "prompt": "a paper boat", "stream": stream}
    with pytest.raises(httpx2.RemoteProtocolError):
        http.post(GENERATIONS, json=body, headers={"x-sandbox-fault": "cut"})
    assert http.get("/sandbox/requests").json()["images"] == 1


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("429", openai.RateLimitError),
        ("500", openai.InternalServerError),
        ("503", openai.InternalServerError),
        ("moderation_blocked", openai.BadRequestError),
        ("cut", openai.APIConnectionError),
    ],
)
def test_the_sdk_raises_its_own_error(client: OpenAI, fault: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        ask(client, fault)


@pytest.mark.parametrize("path", ["/v1/moderations", "/v1/decisions"])
def test_nonsense_is_of_no_shape_that_can_be_read(http: httpx2.Client, path: str) -> None:
    question = {"type": "predicate", "instructions": "a boat?"}
    body = {"input": "a boat"} | ({"model": "gpt-6-luna", "questions": [question]} if "decisions" in path else {})
    answer = http.post(path, json=body, headers={"x-sandbox-fault": "nonsense"}).json()
    assert "none" in (answer.get("results"), answer.get("answers"))


def test_usage_can_be_left_out_of_a_decision(http: httpx2.Client) -> None:
    body = {"model": "gpt-6-luna", "input": "x", "questions": [{"type": "predicate", "instructions": "a boat?"}]}
    assert "usage" not in http.post("/v1/decisions", json=body, headers={"x-sandbox-fault": "no_usage"}).json()


def test_usage_can_be_left_out_of_an_answer_and_of_a_stream(client: OpenAI) -> None:
    assert ask(client, "no_usage").usage is None
    assert "usage" not in list(ask(client, "no_usage", stream=True))[-1].to_dict()


def test_a_stream_can_break_in_the_middle_and_the_image_counts(client: OpenAI, http: httpx2.Client) -> None:
    unfinished = list(ask(client, "unfinished", stream=True, partial_images=2))
    assert [event.type for event in unfinished] == ["image_generation.partial_image"] * 2
    broken = ask(client, "error_event", stream=True, partial_images=1)
    assert next(broken).type == "image_generation.partial_image"
    with pytest.raises(openai.APIError) as caught:
        next(broken)
    assert caught.value.code == "moderation_blocked"
    assert http.get("/sandbox/requests").json()["generations"] == 2


@pytest.mark.parametrize("fault", ["error_event", "unfinished"])
def test_a_fault_for_streams_is_refused_elsewhere(client: OpenAI, fault: str) -> None:
    with pytest.raises(openai.BadRequestError):
        ask(client, fault)


def test_nonsense_is_no_json(http: httpx2.Client) -> None:
    body = {"model": "gpt-image-2", "prompt": "a paper boat"}
    answer = http.post(GENERATIONS, json=body, headers={"x-sandbox-fault": "nonsense"})
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")


def test_a_slow_answer_comes_late_but_whole(client: OpenAI) -> None:
    assert ask(client, "slow=0.05").usage.output_tokens > 0
    assert [seconds(None), seconds("slow"), seconds("slow=2.5")] == [0.0, 1.0, 2.5]


@pytest.mark.parametrize("fault", ["sloww", "slow=x", "slow=", "404"])
def test_a_misspelt_fault_is_refused(http: httpx2.Client, fault: str) -> None:
    assert http.get("/v1/models", headers={"x-sandbox-fault": fault}).status_code == 400
    assert http.post("/sandbox/faults", json={"path": GENERATIONS, "fault": fault}).status_code == 400


def test_a_switch_lasts_as_often_as_it_says(client: OpenAI, http: httpx2.Client) -> None:
    http.post("/sandbox/faults", json={"path": GENERATIONS, "fault": "500", "times": 1})
    with pytest.raises(openai.InternalServerError):
        ask(client)
    assert ask(client).usage is not None


def test_a_switch_is_for_its_path_and_lasts_until_cleared(client: OpenAI, http: httpx2.Client) -> None:
    http.post("/sandbox/faults", json={"path": "/v1/moderations", "fault": "503"})
    assert ask(client).usage is not None
    for _ in range(2):
        with pytest.raises(openai.InternalServerError):
            client.moderations.create(input="a paper boat")
    http.delete("/sandbox/faults")
    assert client.moderations.create(input="a paper boat").results


@pytest.mark.parametrize("times", [0, -1, "x", True, 1.5])
def test_times_is_a_whole_number_or_null(http: httpx2.Client, times: Any) -> None:
    answer = http.post("/sandbox/faults", json={"path": GENERATIONS, "fault": "500", "times": times})
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "times")

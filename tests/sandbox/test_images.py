from __future__ import annotations

import base64
import io
from typing import Any

import httpx2
import openai
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai import AsyncOpenAI, OpenAI
from PIL import Image

from policyguard import pricing
from policyguard.request import ImageRequest, Size, Usage
from policyguard.sandbox import SandboxServer
from policyguard.sandbox.app import answer_body
from policyguard.sandbox.pictures import picture

GENERATIONS = "/v1/images/generations"
PROMPT = "a lighthouse made of paper"


def opened(encoded: str | None) -> Image.Image:
    assert encoded is not None
    return Image.open(io.BytesIO(base64.b64decode(encoded)))


def ask(client: OpenAI, **changes: Any) -> Any:
    return client.images.generate(**{"model": "gpt-image-2", "prompt": PROMPT, **changes})


@pytest.mark.parametrize("output_format", ["png", "webp", "jpeg"])
def test_a_picture_has_the_size_and_format_that_were_asked(client: OpenAI, output_format: str) -> None:
    answer = ask(client, size="1536x1024", quality="low", output_format=output_format)
    image = opened(answer.data[0].b64_json)
    assert ((1536, 1024), output_format.upper()) == (image.size, image.format)
    assert ("1536x1024", "low", output_format) == (answer.size, answer.quality, answer.output_format)


def test_auto_is_resolved_and_the_background_is_said(client: OpenAI) -> None:
    answer = ask(client, size="auto", quality="auto")
    assert (answer.size, answer.quality, answer.background) == ("1024x1024", "medium", "opaque")
    assert ask(client, background="transparent").background == "transparent"


def test_usage_follows_the_price_book_and_one_usage_covers_all_images(client: OpenAI) -> None:
    usage = ask(client, size="1024x1024", quality="low", n=3).usage
    text = 8 + len(PROMPT) // 4
    assert (text, 3 * 196, text + 3 * 196) == (usage.input_tokens, usage.output_tokens, usage.total_tokens)
    assert usage.output_tokens_details.image_tokens == 3 * 196


def test_the_same_request_gives_the_same_answer_and_images_of_one_answer_differ(client: OpenAI) -> None:
    first, second = ask(client, n=2, safety_identifier="u1"), ask(client, n=2, safety_identifier="u1")
    assert first.to_dict() == second.to_dict()
    assert first.data[0].b64_json != first.data[1].b64_json
    assert first.to_dict()["safety_identifier"] == "u1"


def test_headers_carry_a_request_id_of_their_own(client: OpenAI) -> None:
    ids = {client.images.with_raw_response.generate(model="gpt-image-2", prompt=PROMPT).headers["x-request-id"]}
    raw = client.images.with_raw_response.generate(model="gpt-image-2", prompt=PROMPT)
    assert raw.headers["x-request-id"] not in ids
    assert raw.headers["x-request-id"].startswith("req_")
    assert {"openai-version", "openai-processing-ms"} <= set(raw.headers)


def test_an_edit_as_a_form_counts_its_input_images(client: OpenAI) -> None:
    size = Size(640, 480)
    files = [("a.png", picture("aa", size, "png")), ("b.webp", picture("bb", size, "webp"))]
    answer = client.images.edit(model="gpt-image-2", prompt=PROMPT, image=files, n=2)
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == 2 * pricing.input_image_tokens(size)
    assert len(answer.data or []) == 2


def test_an_edit_of_one_file_with_a_mask_counts_the_file_alone(client: OpenAI) -> None:
    size = Size(640, 480)
    image, mask = ("a.png", picture("aa", size, "png")), ("m.png", picture("mm", size, "png"))
    answer = client.images.edit(model="gpt-image-2", prompt=PROMPT, image=image, mask=mask)
    assert answer.usage is not None
    assert answer.usage.input_tokens_details.image_tokens == pricing.input_image_tokens(size)


@pytest.mark.anyio
async def test_the_async_sdk_makes_edits_moderates_and_streams(server: SandboxServer) -> None:
    async with AsyncOpenAI(api_key="sk-sandbox", base_url=f"{server.url}/v1", max_retries=0) as client:
        made = await client.images.generate(model="gpt-image-2", prompt=PROMPT, quality="low", n=2)
        assert len(made.data or []) == 2
        file = ("a.png", picture("aa", Size(64, 64), "png"))
        edited = await client.images.edit(model="gpt-image-2", prompt=PROMPT, image=file, size="1024x1536")
        assert opened((edited.data or [])[0].b64_json).size == (1024, 1536)
        assert len((await client.moderations.create(input=["a", "b"])).results) == 2
        stream = await client.images.generate(model="gpt-image-2", prompt=PROMPT, stream=True, partial_images=1)
        kinds = [event.type async for event in stream]
        assert kinds == ["image_generation.partial_image", "image_generation.completed"]


@given(prompt=st.text(min_size=1, max_size=400).filter(str.strip), data=st.data())
def test_what_is_billed_never_exceeds_the_ceiling(prompt: str, data: st.DataObject) -> None:
    model = data.draw(st.sampled_from(["gpt-image-2", "gpt-image-2.5-flare", "gpt-image-2.6-sunburst"]))
    quality = data.draw(st.sampled_from([*pricing.qualities(model), "auto"]))
    size, n = data.draw(st.sampled_from(["auto", "1024x1024", "1536x864"])), data.draw(st.integers(1, 10))
    request = ImageRequest(prompt=prompt, model=model, size=size, quality=quality, n=n)
    usage = answer_body({"prompt": prompt, "model": model, "size": size, "quality": quality, "n": n}, ())["usage"]
    billed = Usage(
        input_text_tokens=usage["input_tokens_details"]["text_tokens"],
        output_image_tokens=usage["output_tokens_details"]["image_tokens"],
    )
    assert pricing.actual(model, billed) <= pricing.ceiling(request).ceiling_micros


def test_an_edit_as_json_counts_data_urls_and_bounds_what_it_cannot_see(http: httpx2.Client) -> None:
    size = Size(640, 480)
    url = "data:image/png;base64," + base64.b64encode(picture("aa", size, "png")).decode()
    body = {"model": "gpt-image-2", "prompt": PROMPT, "images": [{"image_url": url}, {"file_id": "file-1"}]}
    answer = http.post("/v1/images/edits", json=body)
    expected = pricing.input_image_tokens(size) + pricing.input_image_tokens(None)
    assert answer.json()["usage"]["input_tokens_details"]["image_tokens"] == expected


@pytest.mark.parametrize(
    "images", [[], [{}], [{"image_url": "data:image/png;base64,?"}], "x", [{"image_url": "data:,"}]]
)
def test_an_edit_as_json_needs_readable_images(http: httpx2.Client, images: Any) -> None:
    answer = http.post("/v1/images/edits", json={"model": "gpt-image-2", "prompt": PROMPT, "images": images})
    assert answer.status_code == 400


def test_a_stream_has_partial_images_then_one_completed_event_with_usage(client: OpenAI) -> None:
    events: list[Any] = list(ask(client, stream=True, partial_images=2, quality="low", safety_identifier="u1"))
    kinds = [event.type.removeprefix("image_generation.") for event in events]
    assert kinds == ["partial_image", "partial_image", "completed"]
    assert [event.partial_image_index for event in events[:2]] == [0, 1]
    assert events[-1].usage.output_tokens == 196 + 200
    assert events[-1].to_dict()["safety_identifier"] == "u1"
    assert opened(events[-1].b64_json).size == (1024, 1024)


def test_a_stream_of_several_images_completes_each_with_its_share_of_the_usage(client: OpenAI) -> None:
    plain = ask(client, quality="low", n=3).usage
    events: list[Any] = list(ask(client, stream=True, quality="low", n=3))
    assert [event.type for event in events] == ["image_generation.completed"] * 3
    assert len({event.b64_json for event in events}) == 3
    assert sum(event.usage.output_tokens for event in events) == plain.output_tokens
    assert sum(event.usage.input_tokens for event in events) == plain.input_tokens


def test_an_edit_streams_under_its_own_name(client: OpenAI) -> None:
    file = ("a.png", picture("aa", Size(64, 64), "png"))
    events = list(client.images.edit(model="gpt-image-2", prompt=PROMPT, image=file, stream=True, partial_images=1))
    assert [event.type for event in events] == ["image_edit.partial_image", "image_edit.completed"]


@pytest.mark.parametrize(
    ("changes", "status", "code", "param"),
    [
        ({"model": "gpt-image-9"}, 404, "model_not_found", "model"),
        ({"model": ["gpt-image-2"]}, 404, "model_not_found", "model"),
        ({"size": "512x512"}, 400, "invalid_value", "size"),
        ({"size": "1920x1080"}, 400, "invalid_value", "size"),
        ({"size": 1024}, 400, "invalid_type", "size"),
        ({"quality": "max"}, 400, "invalid_value", "quality"),
        ({"n": 0}, 400, "invalid_value", "n"),
        ({"n": 11}, 400, "invalid_value", "n"),
        ({"n": True}, 400, "invalid_value", "n"),
        ({"prompt": None}, 400, "missing_required_parameter", "prompt"),
        ({"prompt": ""}, 400, "invalid_value", "prompt"),
        ({"prompt": "x" * 32_001}, 400, "string_above_max_length", "prompt"),
        ({"size": []}, 400, "invalid_type", "size"),
        ({"size": ""}, 400, "invalid_value", "size"),
        ({"quality": 5}, 400, "invalid_type", "quality"),
        ({"response_format": "b64_json"}, 400, "unknown_parameter", "response_format"),
        ({"image": "a.png"}, 400, "unknown_parameter", "image"),
        ({"background": "transparent", "output_format": "jpeg"}, 400, "invalid_value", "background"),
        ({"output_compression": 50}, 400, "invalid_value", "output_compression"),
        ({"output_compression": 101, "output_format": "jpeg"}, 400, "invalid_value", "output_compression"),
        ({"stream": "yes"}, 400, "invalid_value", "stream"),
        ({"safety_identifier": "x" * 129}, 400, "invalid_value", "safety_identifier"),
        ({"input_fidelity": "high"}, 400, "invalid_input_fidelity_model", "input_fidelity"),
        ({"output_format": "svg", "model": "gpt-image-2.6-flare"}, 400, "invalid_value", "output_format"),
        ({"model": "gpt-image-1"}, 404, "model_not_found", "model"),
        ({"model": "dall-e-3"}, 404, "model_not_found", "model"),
        ({"colour": "red"}, 400, "unknown_parameter", "colour"),
        ({"moderation": "off"}, 400, "invalid_value", "moderation"),
        ({"background": "striped"}, 400, "invalid_value", "background"),
        ({"partial_images": 4}, 400, "invalid_value", "partial_images"),
        ({"output_format": "gif"}, 400, "invalid_value", "output_format"),
    ],
)
def test_what_the_api_refuses_is_refused_in_its_shape(
    http: httpx2.Client, changes: dict[str, Any], status: int, code: str, param: str
) -> None:
    answer = http.post(GENERATIONS, json={"model": "gpt-image-2", "prompt": PROMPT, **changes})
    error = answer.json()["error"]
    assert (status, code, param) == (answer.status_code, error["code"], error["param"])
    assert http.get("/sandbox/requests").json()["generations"] == 0


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b'{"prompt": "\\ud800"}', b"[" * 100_000])
def test_a_body_that_is_no_json_object_is_a_400(http: httpx2.Client, body: bytes) -> None:
    assert http.post(GENERATIONS, content=body).status_code == 400


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary=b", "text/plain"])
def test_a_form_that_cannot_be_read_is_a_400_of_the_same_shape(http: httpx2.Client, content_type: str) -> None:
    answer = http.post("/v1/images/edits", content=b"xx", headers={"content-type": content_type})
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert answer.headers["x-request-id"].startswith("req_")


@pytest.mark.parametrize("n", ["0", "11", "two", "9" * 5000, "-1"])
def test_a_number_in_a_form_is_checked_like_one_in_json(http: httpx2.Client, n: str) -> None:
    files = [("image", ("a.png", picture("aa", Size(64, 64), "png"), "image/png"))]
    answer = http.post("/v1/images/edits", data={"model": "gpt-image-2", "prompt": PROMPT, "n": n}, files=files)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/v1/nothing", 404), ("GET", GENERATIONS, 405)])
def test_no_route_has_the_same_body(http: httpx2.Client, method: str, path: str, status: int) -> None:
    answer = http.request(method, path)
    assert (status, {"message", "type", "param", "code"}) == (answer.status_code, set(answer.json()["error"]))


def test_a_null_counts_as_absent(http: httpx2.Client) -> None:
    body = {"model": "gpt-image-2", "prompt": PROMPT, "n": None, "size": None, "moderation": None}
    assert http.post(GENERATIONS, json=body).status_code == 200


def test_a_key_is_needed_and_a_wrong_one_is_refused(server: SandboxServer, http: httpx2.Client) -> None:
    wrong = OpenAI(api_key="sk-wrong", base_url=f"{server.url}/v1", max_retries=0)
    with wrong as client, pytest.raises(openai.AuthenticationError) as caught:
        ask(client)
    assert caught.value.code == "invalid_api_key"
    assert http.post(GENERATIONS, headers={"authorization": ""}, json={}).status_code == 401


def test_a_scripted_block_says_its_stage(client: OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, prompt="a lantern [sandbox: block]")
    assert caught.value.code == "moderation_blocked"
    assert isinstance(caught.value.body, dict)
    assert caught.value.body["moderation_details"]["moderation_stage"] == "input"


def test_models_are_those_of_the_price_book(client: OpenAI) -> None:
    names = {model.id for model in client.models.list()}
    assert "gpt-image-2" in names
    assert client.models.retrieve("gpt-image-2").id == "gpt-image-2"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("gpt-image-9")

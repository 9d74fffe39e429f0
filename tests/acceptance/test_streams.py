"""Streams and edits as JSON over real HTTP: the SDK, the guarded app in its own process, the sandbox behind it."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from typing import Any

import httpx2
import openai
import pytest
from patience import HANGS_S
from PIL import Image
from support import AVATARS

pytestmark = pytest.mark.acceptance
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
BUDGET = "budgets: [{id: day, limit: $10 / day}, {id: images, limit: 50 images / day}]\n"
STREAMED = AVATARS.replace("  n:       {max: 2}", "  n: {max: 2}\n  partial_images: {max: 2}") + BUDGET


def png(width: int = 64, height: int = 64) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGBA", (width, height), "teal").save(buffer, "PNG")
    return buffer.getvalue()


URL = "data:image/png;base64," + base64.b64encode(png()).decode()


def http(app: Any, user: str = "u1") -> httpx2.Client:
    return httpx2.Client(base_url=f"{app.url}/avatars", trust_env=False, headers={"x-user-id": user}, timeout=HANGS_S)


def ends(app: Any) -> list[Any]:
    """How the legs ended, once the app has finished what was in flight."""
    app.stop()
    store = app.store()
    rows = [row.event for row in store.events(limit=1000)]
    store.close()
    return [
        (event.type, event.body["failure"], (event.body["usage"] or {}).get("output_image_tokens"))
        for event in rows
        if event.type.startswith("leg.")
    ]


def spent(app: Any) -> dict[str, int]:
    store = app.store()
    windows = store.budget_windows()
    store.close()
    assert all(window.reserved == 0 for window in windows)
    return {window.budget_id: window.spent for window in windows}


# ---- streams ----------------------------------------------------------------------------------------------


def test_a_stream_is_generated_once_passed_on_and_charged_by_its_usage(serve: Callable[..., Any], sandbox: Any) -> None:
    app = serve(avatars=STREAMED)
    kinds = [event.type for event in app.client().images.generate(prompt="a cat", stream=True, partial_images=2)]
    assert kinds == ["image_generation.partial_image"] * 2 + ["image_generation.completed"]
    counts = sandbox.counts()
    assert (counts["generations"], counts["requests"][0]["moderation"]) == (1, "auto")
    assert ends(app) == [("leg.settled", None, 196 + 200)]
    usage = 396 * 30 + (8 + len("a cat") // 4) * 5
    assert spent(app) == {"day": usage, "images": 1}


def test_an_edit_streams_as_a_form_and_as_json(serve: Callable[..., Any], sandbox: Any) -> None:
    app = serve(avatars=STREAMED)
    form = app.client().images.edit(prompt="a hat", image=("a.png", png()), stream=True, partial_images=1)
    assert [event.type for event in form] == ["image_edit.partial_image", "image_edit.completed"]
    body = {"prompt": "a hat", "images": [{"image_url": URL}], "stream": True, "partial_images": 1, "n": 2}
    with http(app) as client:
        answer = client.post(EDITS, json=body)
    assert answer.text.count("event: image_edit.completed") == 2
    assert [row["fields"].count("partial_images") for row in sandbox.counts()["requests"]] == [1, 1]
    assert ends(app) == [("leg.settled", None, 296), ("leg.settled", None, 2 * 296)]


def test_a_client_that_leaves_after_the_first_event_is_charged_once(serve: Callable[..., Any], sandbox: Any) -> None:
    app = serve(avatars=STREAMED)
    stream = app.client().images.generate(
        prompt="a cat", stream=True, partial_images=2, extra_headers={"x-sandbox-fault": "slow=600"}
    )
    assert next(iter(stream)).type == "image_generation.partial_image"
    stream.close()
    assert ends(app) == [("leg.presumed", "cancelled", None)]
    assert sandbox.counts()["generations"] == 1
    store = app.store()
    (event,) = (row.event for row in store.events(limit=100) if row.event.type == "leg.presumed")
    store.close()
    assert spent(app) == {"day": event.body["ceiling_micros"], "images": 1}


@pytest.mark.parametrize(
    ("fault", "error", "end"),
    [
        ("cut", openai.APIConnectionError, ("leg.presumed", "error", None)),
        ("error_event", openai.APIError, ("leg.presumed", "error", None)),
        ("unfinished", None, ("leg.presumed", "no_usage", None)),
        ("no_usage", None, ("leg.presumed", "no_usage", None)),
        ("slow=0.05", None, ("leg.settled", None, 296)),
        ("500", openai.InternalServerError, ("leg.presumed", "error", None)),
    ],
)
def test_a_stream_that_breaks_is_presumed_and_said_to_the_client(
    serve: Callable[..., Any], fault: str, error: type[Exception] | None, end: Any
) -> None:
    app = serve(avatars=STREAMED)

    def read() -> list[Any]:
        headers = {"x-sandbox-fault": fault}
        return list(app.client().images.generate(prompt="a", stream=True, partial_images=1, extra_headers=headers))

    if error is None:
        assert read()
    else:
        with pytest.raises(error):
            read()
    assert ends(app) == [end]


def test_a_refusal_before_the_stream_is_the_usual_error(serve: Callable[..., Any], sandbox: Any) -> None:
    app = serve(avatars=AVATARS)
    client = app.client()
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a cat", stream=True, partial_images=1)
    assert (caught.value.code, caught.value.param) == ("policy_violation", "partial_images")
    with pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a swordfight at dawn", stream=True)
    assert caught.value.code == "moderation_blocked"
    assert [event.type for event in client.images.generate(prompt="a cat", stream=True)] == [
        "image_generation.completed"
    ]
    assert sandbox.counts()["generations"] == 1


# ---- edits as JSON ----------------------------------------------------------------------------------------


def test_an_edit_as_json_is_guarded_like_a_form(serve: Callable[..., Any], sandbox: Any) -> None:
    app = serve(avatars=STREAMED)
    body = {"prompt": "a hat", "images": [{"image_url": URL}], "mask": {"image_url": URL}, "moderation": "low"}
    with http(app) as client:
        answer = client.post(EDITS, json=body)
        assert answer.status_code == 200
        sword = client.post(EDITS, json={**body, "prompt": "a swordfight at dawn"})
    assert sword.json()["error"]["code"] == "moderation_blocked"
    (row,) = sandbox.counts()["requests"]
    assert (row["moderation"], row["input_images"], row["quality"]) == ("auto", 1, "low")
    assert [end[0] for end in ends(app)] == ["leg.settled"]


def _edit(**changes: Any) -> tuple[str, dict[str, Any]]:
    return EDITS, {"json": {"prompt": "a hat", "images": [{"image_url": URL}], **changes}}


def _images(*images: Any, **more: Any) -> tuple[str, dict[str, Any]]:
    return _edit(images=list(images), **more)


def _raw(text: str | bytes, path: str = EDITS, **headers: str) -> tuple[str, dict[str, Any]]:
    content = text.encode() if isinstance(text, str) else text
    return path, {"content": content, "headers": {"content-type": "application/json", **headers}}


def _stream(path: str = GENERATIONS, **changes: Any) -> tuple[str, dict[str, Any]]:
    return path, {"json": {"prompt": "a cat", "stream": True, **changes}}


def _form(**fields: Any) -> tuple[str, dict[str, Any]]:
    return EDITS, {"data": {"prompt": "a hat", **fields}, "files": [("image", ("a.png", png(), "image/png"))]}


TEXT = json.dumps({"prompt": "a hat", "images": [{"image_url": URL}]})
BAD: dict[str, tuple[str, dict[str, Any]]] = {
    "no images": _edit(images=None),
    "an empty list": _images(),
    "an object": _edit(images={"image_url": URL}),
    "a bare url": _images(URL),
    "null in the list": _images(None),
    "seventeen": _images(*[{"image_url": URL}] * 17),
    "http": _images({"image_url": "http://example.com/a.png"}),
    "https": _images({"image_url": "https://example.com/a.png"}),
    "the sandbox itself": _images({"image_url": "http://127.0.0.1/a.png"}),
    "a file url": _images({"image_url": "file:///etc/passwd"}),
    "capitals": _images({"image_url": URL.upper()}),
    "a space": _images({"image_url": " " + URL}),
    "a file id": _images({"file_id": "file-1"}),
    "a file id beside": _images({"image_url": URL, "file_id": "file-1"}),
    "one good and one by id": _images({"image_url": URL}, {"file_id": "file-1"}),
    "another key": _images({"image_url": URL, "detail": "low"}),
    "an object as url": _images({"image_url": {"url": URL}}),
    "no base64": _images({"image_url": "data:image/png,abc"}),
    "wrong base64": _images({"image_url": URL + "!"}),
    "too much padding": _images({"image_url": URL + "===="}),
    "a gif": _images({"image_url": "data:image/gif;base64,R0lGODlhAQABAAAAACw="}),
    "a gif that says png": _images({"image_url": "data:image/png;base64,R0lGODlhAQABAAAAACw="}),
    "no picture": _images({"image_url": "data:image/png;base64,aGVsbG8="}),
    "a mask by id": _edit(mask={"file_id": "file-1"}),
    "a mask on the web": _edit(mask={"image_url": "https://example.com/m.png"}),
    "a mask as text": _edit(mask=URL),
    "a picture elsewhere": _edit(reference=URL),
    "a picture as prompt": _edit(prompt=URL),
    "image instead of images": _edit(images=None, image=URL),
    "image beside images": _edit(image="a"),
    "markup": _edit(markup="a"),
    "messages": _edit(messages=[{"role": "user", "content": "a cat"}]),
    "a prompt in parts": _edit(prompt=[{"type": "text", "text": "a hat"}]),
    "a prompt as object": _edit(prompt={"text": "a hat"}),
    "a prompt as number": _edit(prompt=7),
    "no prompt": _edit(prompt=None),
    "an empty prompt": _edit(prompt=""),
    "a long prompt": _edit(prompt="x" * 32_001),
    "n as text": _edit(n="2"),
    "n as a fraction": _edit(n=1.0),
    "n as exponent": _raw(TEXT[:-1] + ', "n": 1e0}'),
    "n too large": _edit(n=3),
    "a wrong model": _edit(model="gpt-image-9"),
    "a wrong size": _edit(size="16x16"),
    "a prompt twice": _raw(TEXT[:-1] + ', "prompt": "a cat"}'),
    "a prompt twice, escaped": _raw(TEXT[:-1] + ', "\\u0070rompt": "a cat"}'),
    "images twice": _raw(TEXT[:-1] + ', "images": []}'),
    "moderation twice": _raw(TEXT[:-1] + ', "moderation": "auto", "moderation": "low"}'),
    "an url twice": _raw(TEXT.replace('"image_url"', '"image_url": "https://example.com/a.png", "image_url"')),
    "an escaped url": _raw(TEXT.replace("data:", "\\u0064ata:")),
    "NaN for a picture": _raw('{"prompt": "a", "images": [{"image_url": NaN}]}'),
    "cut off": _raw(TEXT[:-3]),
    "no JSON": _raw("prompt=a"),
    "UTF-16": _raw(TEXT.encode("utf-16")),
    "gzip": _raw(TEXT, **{"content-encoding": "gzip"}),
    "another charset": _raw(TEXT, **{"content-type": "application/json; charset=latin-1"}),
    "a type of its own": _raw(TEXT, **{"content-type": "application/vnd.api+json"}),
    "JSON as text": _raw(TEXT, **{"content-type": "text/plain"}),
    "JSON as form": _raw(TEXT, **{"content-type": "multipart/form-data; boundary=x"}),
    "a form as JSON": _raw(b"--x\r\n\r\n", **{"content-type": "application/json"}),
    "two megabytes beside": _edit(style="x" * 2_000_000),
    "deep": _raw(TEXT[:-1] + ', "x": ' + "[" * 100 + "]" * 100 + "}"),
    "a stream as text": _stream(stream="true"),
    "a stream as number": _stream(stream=1),
    "a stream as list": _stream(stream=[True]),
    "partial images as text": _stream(partial_images="1"),
    "partial images below": _stream(partial_images=-1),
    "partial images above": _stream(partial_images=4),
    "partial images beyond the policy": _stream(partial_images=3),
    "partial images beyond it without a stream": _stream(stream=False, partial_images=3),
    "stream options": _stream(stream_options={"include_usage": True}),
    "a stream twice": _raw('{"prompt": "a", "stream": true, "stream": false}', GENERATIONS),
    "a stream of a wrong size": _stream(size="16x16"),
    "a stream of an edit beyond": _stream(EDITS, images=[{"image_url": URL}], partial_images=3),
    "a stream of an edit by id": _stream(EDITS, images=[{"file_id": "file-1"}]),
    "a form that streams as 1": _form(stream="1"),
    "a form that streams loudly": _form(stream="True"),
    "a form that streams twice": _form(stream=["true", "false"]),
    "a form with partial images beyond": _form(stream="true", partial_images="3"),
    "a form with partial images as fraction": _form(stream="true", partial_images="1.0"),
}


def test_bad_edits_and_streams_are_a_clear_4xx_with_one_row_and_reach_nobody(
    serve: Callable[..., Any], sandbox: Any
) -> None:
    assert len(BAD) >= 60
    app = serve(avatars=STREAMED)
    seen = {}
    with http(app) as client:
        for name, (path, request) in BAD.items():
            answer = client.post(path, **request)
            error = answer.json()["error"]
            assert {"message", "type", "param", "code", "policy"} <= error.keys(), name
            seen[name] = answer.status_code
    assert {name: status for name, status in seen.items() if status not in (400, 413)} == {}
    assert ends(app) == []
    store = app.store()
    outcomes = [(row.event.type, row.event.outcome) for row in store.events(limit=1000)]
    store.close()
    assert outcomes == [("request.decided", "deny")] * len(BAD)
    assert spent(app) == {}
    assert not any(path.startswith("/v1/images/") for path in sandbox.counts()["paths"])

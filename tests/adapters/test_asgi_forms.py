"""Apps behind the middleware see the form that was decided, whoever wrote it and whichever framework reads it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256
from typing import Any

import pytest
from adapters.form_apps import APPS, PATH
from adapters.test_asgi import ask
from wire.client_forms import CLIENTS, Written, lines, prompt_of
from wire.form_grammar import png, png_with
from wire.form_readers import django

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.guard.guard import Guard

pytestmark = pytest.mark.anyio


@pytest.fixture(autouse=True)
def _settings() -> Iterator[None]:
    with django():
        yield


@pytest.fixture
def sent(open_guard: Callable[..., Guard]) -> Callable[..., Any]:
    """What the app of a framework answers to a form, or the middleware in its place."""
    guard = open_guard()

    async def send(framework: str, form: Written) -> Any:
        door = PolicyGuardMiddleware(APPS[framework](), guard=guard)
        body, kind = form
        headers = [(b"content-type", kind.encode("latin-1")), (b"content-length", str(len(body)).encode())]
        headers.append((b"x-user-id", b"u1"))
        return await ask(door, body, path=PATH, headers=headers, http_version="1.1", scheme="http", root_path="")

    return send


@pytest.mark.parametrize("framework", APPS)
async def test_every_framework_sees_what_was_decided(sent: Callable[..., Any], framework: str) -> None:
    seen = {client: seen_of(await sent(framework, write(png()))) for client, write in CLIENTS.items()}
    assert seen == {client: (DECIDED | {"prompt": prompt_of(client)}, [PICTURE]) for client in CLIENTS}


DECIDED = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": "1"}
PICTURE = sha256(png()).hexdigest()


def seen_of(answer: Any) -> tuple[dict[str, str], list[str]]:
    """Fields but for the safety identifier, and files."""
    fields = dict(answer.document["fields"])
    assert len(fields) == len(answer.document["fields"])
    assert fields.pop("safety_identifier")
    return fields, [digest for _, digest in answer.document["files"]]


PART = 'Content-Disposition: form-data; name="prompt"'
IMAGE = 'Content-Disposition: form-data; name="image"; filename="a.png"\r\nContent-Type: image/png'
NESTED = b'a\r\n--b0\r\nContent-Disposition: form-data; name="n"\r\n\r\n9\r\n--b0--\r\n'
HOSTILE: dict[str, Written] = {
    "a form inside of a picture": (
        lines("b0", (PART, b"a cat"), (IMAGE, png_with(NESTED))),
        "multipart/form-data; boundary=b0",
    ),
    "a name with a vertical tab": (
        lines("b0", (PART, b"a cat"), ('Content-Disposition: form-data; name="n"\x0b', b"9"), (IMAGE, png())),
        "multipart/form-data; boundary=b0",
    ),
    "a form in UTF-16": (
        lines("b0", (PART, b"a cat"), (IMAGE, png())),
        "multipart/form-data; charset=utf-16; boundary=b0",
    ),
    "another boundary for some": (
        lines("b0", (PART, b"a cat"), (IMAGE, png())),
        "multipart/form-data; boundary=b0; boundary*=utf-8''b1",
    ),
    "a field in base64": (
        lines("b0", (f"{PART}\r\nContent-Transfer-Encoding: base64", b"YSBjYXQ="), (IMAGE, png())),
        "multipart/form-data; boundary=b0",
    ),
}


async def test_a_form_with_a_second_reading_reaches_no_app(sent: Callable[..., Any]) -> None:
    answers = {name: await sent("starlette", form) for name, form in HOSTILE.items()}
    assert {name: (a.status, a.code) for name, a in answers.items()} == dict.fromkeys(HOSTILE, (400, "invalid_request"))

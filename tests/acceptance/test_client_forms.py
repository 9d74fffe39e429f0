"""The proxy before clients in other languages: each of their forms makes a picture, and goes up as one of ours."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import pytest
from acceptance.forms import png
from acceptance.greedy import Greedy
from wire.client_forms import CLIENTS, prompt_of
from wire.form_readers import starlette

from policyguard.sandbox.server import Server

pytestmark = pytest.mark.acceptance
TYPE = re.compile(r'multipart/form-data; boundary=(?:[\w\'+.-]+|"[^"]+")')


@pytest.fixture
def greedy() -> Greedy:
    return Greedy()


@pytest.fixture
def sandbox(greedy: Greedy) -> Iterator[Server]:
    """One that keeps what it was sent."""
    with Server(greedy) as server:
        yield server


def test_the_proxy_serves_the_forms_of_every_client(proxy: Callable[..., Any], greedy: Greedy) -> None:
    app = proxy()
    headers = {"authorization": f"Bearer {app.key('avatars', user='u1')}"}
    with httpx2.Client(base_url=app.url, headers=headers, trust_env=False) as http:
        for client, write in CLIENTS.items():
            body, kind = write(png())
            answer = http.post("/v1/images/edits", content=body, headers={"content-type": kind})
            assert answer.status_code == 200, (client, answer.text)
            check(client, *arrived(greedy))


def arrived(greedy: Greedy) -> tuple[str, bytes]:
    (kind,) = [value for name, value in greedy.reached[-1].headers if name == "content-type"]
    return kind, greedy.reached[-1].body


def check(client: str, kind: str, body: bytes) -> None:
    assert TYPE.fullmatch(kind), client
    seen = starlette(body, kind, random.Random(0))
    fields = {name: data.decode() for name, filename, data in seen if filename is None}
    assert (fields["prompt"], fields["n"], "response_format" in fields) == (prompt_of(client), "1", False)
    assert [data for _, filename, data in seen if filename is not None] == [png()]

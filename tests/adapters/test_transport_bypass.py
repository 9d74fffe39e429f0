"""Attempts to get past the client door: no client made from it, no path, no body and no method leads around it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from adapters.upstream import ANSWER, URL, Upstream, ends, png, rows
from openai import OpenAI
from wire.client_forms import CLIENTS
from wire.form_ways import HOSTILE, TYPES

import policyguard
from policyguard.adapters.calls import Call, call_of, is_plain
from policyguard.adapters.transport import guarded
from policyguard.guard.guard import Guard


@pytest.fixture
def guard(open_guard: Callable[..., Guard]) -> Guard:
    return open_guard()


@pytest.fixture(autouse=True)
def _somebody() -> Iterator[None]:
    with policyguard.caller(user="u1"):
        yield


# ---- nothing leads around it ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "derived",
    [
        lambda client: client,
        lambda client: client.with_options(timeout=3, max_retries=0),
        lambda client: client.copy(api_key="other"),
        lambda client: client.with_options(base_url="http://elsewhere.test/deep/v1"),
        lambda client: client.with_options(default_headers={"x-a": "b"}).with_options(default_query={"c": "d"}),
    ],
)
def test_every_client_made_from_a_guarded_one_is_guarded(guard: Guard, derived: Any) -> None:
    upstream = Upstream()
    client = derived(guarded(upstream.client(), guard, surface="avatars"))
    client.images.generate(prompt="a cat")
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt="a cat", n=9)
    assert (len(upstream.requests), ends(guard)) == (1, [("leg.settled", None)])


def test_a_transport_that_is_mounted_for_some_addresses_is_behind_the_guard_too(guard: Guard) -> None:
    mounted, other = Upstream(), Upstream()
    below = httpx2.Client(
        transport=httpx2.MockTransport(other), mounts={"http://api.test": httpx2.MockTransport(mounted)}
    )
    client = guarded(OpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    client.images.generate(prompt="a cat")
    client.with_options(base_url="http://elsewhere.test/v1").images.generate(prompt="a cat")
    with pytest.raises(openai.BadRequestError):
        client.images.generate(prompt="a cat", quality="auto", size="3840x2160")
    assert (len(mounted.requests), len(other.requests), len(ends(guard))) == (1, 1, 2)


def test_what_the_clients_http_client_adds_is_still_added(guard: Guard) -> None:
    upstream, seen = Upstream(), []
    below = httpx2.Client(
        transport=httpx2.MockTransport(upstream),
        headers={"x-team": "growth"},
        params={"tag": "7"},
        cookies={"c": "1"},
        event_hooks={"request": [lambda request: seen.append(request.url.path)]},
    )
    client = guarded(OpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    client.images.generate(prompt="a cat")
    sent = upstream.requests[-1]
    assert (sent.headers["x-team"], sent.headers["cookie"], sent.url.query) == ("growth", "c=1", b"tag=7")
    assert seen == ["/v1/images/generations"]


def test_a_redirect_is_a_request_of_its_own(guard: Guard) -> None:
    def moved(request: httpx2.Request) -> httpx2.Response:
        if request.url.host == "api.test":
            return httpx2.Response(307, headers={"location": "http://elsewhere.test/v1/images/generations"})
        return httpx2.Response(200, json=ANSWER)

    below = httpx2.Client(transport=httpx2.MockTransport(moved), follow_redirects=True)
    client = guarded(OpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    client.images.generate(prompt="a cat")
    assert [kind for kind, _ in ends(guard)] == ["leg.presumed", "leg.settled"]


def test_sockets_lead_nowhere(guard: Guard) -> None:
    client = guarded(Upstream().client(), guard, surface="avatars").with_options(timeout=1)
    assert str(client.websocket_base_url).endswith(".invalid")


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/images//generations", {"prompt": "a cat"}),
        ("/images/generations/", {"prompt": "a cat"}),
        ("/images/%2e/generations", {"prompt": "a cat"}),
        ("/images/%67enerations", {"prompt": "a cat"}),
        ("/Images/Generations", {"prompt": "a cat"}),
        ("/images/generations;x=1", {"prompt": "a cat"}),
        ("/images/generations/new", {"prompt": "a cat"}),
        ("/images/variations", {"prompt": "a cat"}),
        ("/images", {"prompt": "a cat"}),
        ("/deployments/gpt-image-2/images/generations", {"prompt": "a cat"}),
        ("/batches", {"endpoint": "/v1/images/generations", "input_file_id": "file_1", "completion_window": "24h"}),
        ("/batches?x=1", {}),
        ("/responses/", {"model": "gpt-6", "input": "a cat", "tools": [{"type": "image_generation"}]}),
        ("/responses/compact", {"input": "a cat", "tools": [{"type": "image_generation"}]}),
        ("/deployments/gpt-6/responses", {"input": "a cat", "tools": [{"type": "image_generation"}]}),
        ("/responses", {"input": "a cat", "previous_response_id": "resp_1"}),
        ("/responses", {"input": "a cat", "conversation": {"id": "conv_1"}}),
        ("/responses", {"input": "a cat", "prompt": {"id": "pmpt_1"}}),
        ("/responses", {"input": [{"type": "item_reference", "id": "tso_1"}]}),
        ("/responses", {"input": [{"type": "compaction", "encrypted_content": "x"}]}),
        ("/responses", {"input": "a cat", "tools": [{"type": "mcp", "server_url": "https://tools.example.com"}]}),
        ("/responses", {"input": "a cat", "tools_of_tomorrow": ["tool_1"]}),
        ("/beta/anything", {"delegation": {"deep": [{"tools": [{"type": "image_generation"}]}]}}),
    ],
)
def test_what_could_make_images_unseen_is_refused_before_the_network(guard: Guard, path: str, body: Any) -> None:
    upstream = Upstream()
    client = guarded(upstream.client(), guard, surface="avatars")
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.post(path, body=body, cast_to=object)
    assert (caught.value.code, upstream.requests) == ("policy_no_surface", [])
    assert [event.outcome for event in rows(guard, "request.decided")] == ["deny"]


def test_turns_of_a_conversation_in_words_pass_untouched(guard: Guard) -> None:
    """Agents SDK, AI SDK and others refer to what they were answered before."""
    upstream, body = Upstream(), {"model": "m", "tools": [{"type": "function", "name": "f"}], "store": True}
    told = [{"type": "item_reference", "id": "msg_1"}, {"type": "reasoning", "id": "rs_1", "summary": []}]
    client = guarded(upstream.client(), guard, surface="avatars")
    client.post("/responses", body={**body, "input": [{"role": "user", "content": "hello"}, *told]}, cast_to=object)
    assert (len(upstream.requests), rows(guard, "request.decided")) == (1, [])


TOOL = '{"input": "a", "tools": [{"type": "image_generation"}]}'


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        ("/responses", TOOL.replace("_", "\\u005f").encode(), {}, 400),
        ("/responses", TOOL.encode("utf-16"), {}, 400),
        ("/responses", TOOL.replace('"tools"', '"tools": [], "tools"').encode(), {}, 400),
        ("/responses", TOOL[:-1].encode() + b', "tools": []}', {}, 400),
        ("/responses", b'{"input": "a cat", "tool_choice": {"type": "image_generation"}}', {}, 400),
        ("/responses", TOOL.encode(), {"content-type": "text/plain"}, 400),
        ("/responses", TOOL.encode(), {"content-encoding": "gzip"}, 400),
        ("/responses", TOOL.encode()[:-1], {}, 400),
        ("/responses", b"[" * 100_000 + TOOL.encode(), {}, 400),
        ("/images/generations", b'{"prompt": "a", "prompt": "b"}', {}, 400),
        ("/images/generations", b'{"prompt": ["a"]}', {}, 400),
        ("/images/generations", b'{"prompt": "a", "messages": []}', {}, 400),
        ("/images/generations", b"prompt=a", {"content-type": "application/x-www-form-urlencoded"}, 400),
        ("/images/generations", b'{"prompt": "a"}', {"content-encoding": "br"}, 400),
        ("/images/generations", b'{"prompt": "%s"}' % (b"a" * 1_000_001), {}, 413),
        ("/images/edits", b"prompt=a", {"content-type": "application/x-www-form-urlencoded"}, 400),
    ],
)
def test_a_body_that_is_not_plain_is_refused_before_the_network(
    guard: Guard, path: str, content: bytes, headers: dict[str, str], status: int
) -> None:
    upstream = Upstream()
    client = guarded(upstream.client(), guard, surface="avatars")
    with pytest.raises(openai.APIStatusError) as caught:
        client.post(path, content=content, options={"headers": headers}, cast_to=object)
    assert (caught.value.status_code, upstream.requests) == (status, [])
    assert [event.outcome for event in rows(guard, "request.decided")] == ["deny"]


def edited(client: OpenAI, body: bytes, kind: str) -> int:
    """A form by the HTTP client of the SDK: the SDK itself writes its own."""
    headers = [(b"content-type", kind.encode())]
    return client._client.send(httpx2.Request("POST", f"{URL}/images/edits", content=body, headers=headers)).status_code


def test_a_form_goes_on_with_a_content_type_and_headers_of_ours(guard: Guard) -> None:
    upstream = Upstream()
    client = guarded(upstream.client(), guard, surface="avatars")
    for name, write in CLIENTS.items():
        body, kind = write(png())
        assert edited(client, body, kind) == 200
        sent = upstream.requests[-1]
        assert sent.headers.get_list("content-type") == [kind.replace('"', "") if name == "dotnet" else kind]
        heads = re.findall(rb"^content-[a-z-]+(?=:)", sent.content, re.IGNORECASE | re.MULTILINE)
        assert set(heads) <= {b"Content-Disposition", b"Content-Type"}


def test_a_form_whose_content_type_says_more_is_refused_before_the_network(guard: Guard) -> None:
    upstream = Upstream()
    client = guarded(upstream.client(), guard, surface="avatars")
    body, _ = CLIENTS["browser"](png())
    said = [kind.replace("{b}", "----WebKitFormBoundary7MA4YWxkTrZu0gW") for kind in TYPES[HOSTILE]]
    assert {kind: edited(client, body, kind) for kind in said} == dict.fromkeys(said, 400)
    assert upstream.requests == []


@pytest.mark.parametrize("method", ["post", "Post"])
def test_a_method_counts_in_any_case(method: str) -> None:
    assert call_of(method, "/v1/images/generations", {}) is Call.GENERATIONS
    assert call_of(method, "/v1/responses", {}) is Call.RESPONSES
    assert is_plain(method, "/v1/responses")


def test_another_method_in_a_header_is_refused(guard: Guard) -> None:
    upstream = Upstream()
    client = guarded(upstream.client(), guard, surface="avatars")
    with pytest.raises(openai.PermissionDeniedError):
        client.get("/images/generations", options={"headers": {"X-HTTP-Method-Override": "POST"}}, cast_to=object)
    with pytest.raises(openai.PermissionDeniedError):
        client.put("/images/generations", body={"prompt": "a cat"}, cast_to=object)
    assert upstream.requests == []


@pytest.mark.parametrize(
    ("method", "path", "content"),
    [
        ("POST", "/chat/completions", b'{"model": "gpt-6",  "messages": [], "x": 1, "x": 2}'),
        ("POST", "/embeddings", b'{"input": "image_generation"}'),
        ("POST", "/moderations", b'{"input": "a \\u0061 \\"image_generation\\""}'),
        ("POST", "/responses", b'{"input": "image_generation", "tools": [{"type": "web_search"}], "prompt": null}'),
        ("POST", "/responses", b'{"input": "the \\"prompt\\" of it"}'),
        ("GET", "/images", b""),
        ("GET", "/batches", b""),
        ("POST", "/batches/b_1/cancel", b""),
    ],
)
def test_other_traffic_passes_untouched(guard: Guard, method: str, path: str, content: bytes) -> None:
    upstream = Upstream()
    client = guarded(upstream.client(), guard, surface="avatars")
    request = client._client.build_request(
        method, URL + path, content=content, headers={"content-type": "application/json"}
    )
    answer = client._client.send(request)
    assert (answer.status_code, upstream.requests[-1].content, rows(guard, "")) == (200, content, [])
    assert "x-policyguard-decision" not in answer.headers


def test_a_form_with_files_passes_unread(guard: Guard) -> None:
    upstream = Upstream((200, {"id": "file_1"}))
    client = guarded(upstream.client(), guard, surface="avatars")
    client.files.create(file=("x.jsonl", b'{"type": "image_generation"}'), purpose="user_data")
    assert (len(upstream.requests), rows(guard, "")) == (1, [])

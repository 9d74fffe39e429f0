"""The client door over a scripted upstream: what goes through, what is refused before the network, how legs end."""

from __future__ import annotations

import io
import json
import logging
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from PIL import Image
from support import SURFACE

import policyguard
from policyguard.adapters.transport import guarded
from policyguard.errors import ConfigError
from policyguard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator

URL = "http://api.test/v1"
ANSWER = {"created": 1, "data": [{"b64_json": "aGk="}], "usage": {"input_tokens": 10, "output_tokens": 196}}
ERROR = {"error": {"message": "no", "type": "server_error", "code": None, "param": None}}
FORCED = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1, "moderation": "auto"}


def png() -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 64), "teal").save(buffer, "PNG")
    return buffer.getvalue()


class Upstream:
    """Answers each request with the next of `answers`, the last one for ever, and remembers what reached it."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers) or [(200, ANSWER)]
        self.requests: list[httpx2.Request] = []

    def __call__(self, request: httpx2.Request) -> httpx2.Response:
        request.read()
        self.requests.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        status, document = answer
        return httpx2.Response(status, json=document, headers={"x-request-id": "req_7", "retry-after-ms": "1"})

    @property
    def document(self) -> Any:
        return json.loads(self.requests[-1].content)

    def client(self, **options: Any) -> OpenAI:
        below = httpx2.Client(transport=httpx2.MockTransport(self))
        return OpenAI(**{"api_key": "k", "base_url": URL, "http_client": below, "max_retries": 0, **options})

    def async_client(self, **options: Any) -> AsyncOpenAI:
        below = httpx2.AsyncClient(transport=httpx2.MockTransport(self))
        return AsyncOpenAI(**{"api_key": "k", "base_url": URL, "http_client": below, "max_retries": 0, **options})


@pytest.fixture
def guard(open_guard: Callable[..., Guard]) -> Guard:
    return open_guard()


@pytest.fixture(autouse=True)
def _somebody() -> Iterator[None]:
    with policyguard.caller(user="u1"):
        yield


def rows(guard: Guard, prefix: str) -> list[Any]:
    return [row.event for row in guard.store.events(limit=1000) if row.event.type.startswith(prefix)]


def ends(guard: Guard) -> list[tuple[str, Any]]:
    return [(event.type, event.body["failure"]) for event in rows(guard, "leg.")]


# ---- what goes upstream -----------------------------------------------------------------------------------


def test_what_was_decided_goes_upstream_and_the_answer_comes_back_with_our_headers(guard: Guard) -> None:
    upstream = Upstream()
    with guarded(upstream.client(), guard, surface="avatars") as client:
        raw = client.images.with_raw_response.generate(
            prompt="a cat",
            moderation="low",
            user="somebody",
            extra_body={"moderation": "low", "safety_identifier": "me"},
            extra_headers={"x-policyguard-review": "", "x-mine": "1"},
        )
    sent = upstream.requests[-1]
    document = upstream.document
    assert document.pop("safety_identifier") not in ("me", "u1")
    assert document == {**FORCED, "prompt": "a cat", "user": "somebody"}
    assert (sent.headers["content-length"], sent.headers["x-mine"]) == (str(len(sent.content)), "1")
    assert not [name for name in sent.headers if name.startswith("x-policyguard")]
    assert raw.headers["x-policyguard-decision"].startswith("dec_")
    assert (raw.headers["x-policyguard-adjusted"], raw.headers["x-request-id"]) == ("moderation=low->auto", "req_7")
    assert raw.parse().data[0].b64_json == "aGk="  # type: ignore[index]
    (end,) = rows(guard, "leg.")
    assert (end.type, end.body["upstream_request_id"], end.body["door"]) == ("leg.settled", "req_7", "client")


def test_an_edit_goes_upstream_as_a_form_with_its_files(guard: Guard) -> None:
    upstream = Upstream()
    client = guarded(upstream.client(), guard, surface="avatars")
    client.images.edit(
        prompt="a hat",
        image=[("a.png", png(), "image/png"), ("b.png", png(), "image/png")],
        mask=("m.png", png(), "image/png"),
        extra_body={"moderation": "low"},
    )
    body = upstream.requests[-1].content
    assert body.count(png()) == 3
    assert (b'name="moderation"' in body, b'name="n"\r\n\r\n1' in body, b'filename="b.png"' in body) == (
        False,
        True,
        True,
    )
    assert ends(guard) == [("leg.settled", None)]


def test_an_answer_can_be_read_in_every_way_that_the_sdk_has(guard: Guard) -> None:
    client = guarded(Upstream().client(), guard, surface="avatars")
    with client.images.with_streaming_response.generate(prompt="a cat") as streamed:
        assert json.loads(b"".join(streamed.iter_bytes(7))) == ANSWER
    with client.images.with_streaming_response.generate(prompt="a cat") as streamed:
        assert json.loads(b"".join(streamed.http_response.iter_raw())) == ANSWER
    response: httpx2.Response = client.post("/images/generations", body={"prompt": "a cat"}, cast_to=httpx2.Response)
    assert (response.json(), response.elapsed.total_seconds() >= 0) == (ANSWER, True)
    assert ends(guard) == [("leg.settled", None)] * 3


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_compressed_answer_is_read_and_settled(guard: Guard, encoding: str) -> None:
    import gzip
    import zlib

    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding](json.dumps(ANSWER).encode())
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    below = httpx2.Client(
        transport=httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=packed))
    )
    client = guarded(OpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    assert client.images.generate(prompt="a cat").usage is not None
    assert ends(guard) == [("leg.settled", None)]


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
        ("/responses", {"model": "gpt-6", "input": "a cat", "tools": [{"type": "image_generation"}]}),
        ("/responses/", {"model": "gpt-6", "input": "a cat", "tools": [{"type": "image_generation"}]}),
        (
            "/responses",
            {"input": "a cat", "tools": [{"type": "web_search"}, {"size": "auto", "type": "image_generation"}]},
        ),
        ("/responses", {"input": "a cat", "tool_choice": {"type": "image_generation"}}),
        ("/responses", {"input": "a cat", "prompt": {"id": "pmpt_1"}}),
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


TOOL = '{"input": "a", "tools": [{"type": "image_generation"}]}'


@pytest.mark.parametrize(
    ("path", "content", "headers", "status"),
    [
        ("/responses", TOOL.replace("_", "\\u005f").encode(), {}, 403),
        ("/responses", TOOL.encode("utf-16"), {}, 403),
        ("/responses", TOOL.replace('"tools"', '"tools": [], "tools"').encode(), {}, 403),
        ("/responses", TOOL[:-1].encode() + b', "tools": []}', {}, 403),
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


# ---- refusals ---------------------------------------------------------------------------------------------

BUDGET = "budgets: [{id: nothing, limit: $0.001 / day}]\n"
REVIEWED = "review: {required: true, reviewers: [group:trust], expires: 4h}\n"


@pytest.mark.parametrize(
    ("extra", "scores", "ask", "error", "code"),
    [
        ("", {}, {"n": 9}, openai.BadRequestError, "policy_violation"),
        ("", {}, {"prompt": " "}, openai.BadRequestError, "invalid_request"),
        ("", {"violence": 0.9}, {}, openai.BadRequestError, "moderation_blocked"),
        (BUDGET, {}, {}, openai.RateLimitError, "policy_budget_exceeded"),
        (REVIEWED, {}, {}, openai.PermissionDeniedError, "policy_review_required"),
    ],
)
def test_a_refusal_raises_the_sdks_own_error_once(
    open_guard: Callable[..., Guard],
    moderator: ScriptedModerator,
    extra: str,
    scores: dict[str, float],
    ask: dict[str, Any],
    error: type[openai.APIStatusError],
    code: str,
) -> None:
    guard, upstream = open_guard(avatars=SURFACE + extra), Upstream()
    moderator.scores.update(scores)
    client = guarded(upstream.client(max_retries=3), guard, surface="avatars")
    with pytest.raises(error) as caught:
        client.images.generate(**{"prompt": "a cat", **ask})
    body: Any = caught.value.body
    assert (caught.value.code, caught.value.response.headers["x-should-retry"]) == (code, "false")
    assert body["policy"]["decision_id"] == caught.value.response.headers["x-policyguard-decision"]
    assert (upstream.requests, len(rows(guard, "request.decided"))) == ([], 1)


def test_moderation_that_is_down_is_a_503_with_the_time_to_come_back(
    guard: Guard, moderator: ScriptedModerator
) -> None:
    moderator.error = "timeout"
    upstream = Upstream()
    with pytest.raises(openai.InternalServerError) as caught:
        guarded(upstream.client(), guard, surface="avatars").images.generate(prompt="a cat")
    assert (caught.value.status_code, caught.value.code, upstream.requests) == (503, "policy_unavailable", [])
    assert caught.value.response.headers["retry-after"] == "30"


def test_a_surface_can_keep_its_reasons_to_itself(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=SURFACE + "reasons_on_wire: false\n")
    with pytest.raises(openai.BadRequestError) as caught:
        guarded(Upstream().client(), guard, surface="avatars").images.generate(prompt="a cat", n=9)
    assert caught.value.body["policy"]["reasons"] == []  # type: ignore[index]


def test_an_approved_request_is_sent_once_by_header_or_by_block(open_guard: Callable[..., Guard]) -> None:
    guard, upstream = open_guard(avatars=SURFACE + REVIEWED), Upstream()
    client = guarded(upstream.client(), guard, surface="avatars")
    for by_header in (True, False):
        with pytest.raises(openai.PermissionDeniedError) as caught:
            client.images.generate(prompt="a cat")
        review_id: str = caught.value.body["policy"]["review_id"]  # type: ignore[index]
        guard.store.vote(review_id, "ada@example.com", "approve", "fine", guard.clock())
        with policyguard.resume(review_id if not by_header else ""):
            headers = {"x-policyguard-review": review_id} if by_header else {}
            assert client.images.generate(prompt="a cat", extra_headers=headers).usage is not None
            with pytest.raises(openai.PermissionDeniedError):
                client.images.generate(prompt="a cat", extra_headers=headers)
    assert len(upstream.requests) == 2


# ---- who asks ---------------------------------------------------------------------------------------------


def test_who_asks_comes_from_the_code(guard: Guard) -> None:
    who: dict[str, str | None] = {"tenant": "acme"}
    client = guarded(Upstream().client(), guard, surface="avatars", caller=lambda: who)
    client.images.generate(prompt="a cat")
    who |= {"user": "u2"}
    client.images.generate(prompt="a cat")
    who |= {"user": None}
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.images.generate(prompt="a cat")
    assert caught.value.code == "policy_caller_missing"
    seen = [(event.dimensions["tenant"], event.dimensions["user"]) for event in rows(guard, "request.decided")]
    assert ([tenant for tenant, _ in seen], len({user for _, user in seen})) == (["acme"] * 3, 3)


def test_identity_headers_say_nothing_here(guard: Guard) -> None:
    client = guarded(Upstream().client(), guard, surface="avatars", caller=lambda: {"user": None})
    with pytest.raises(openai.PermissionDeniedError):
        client.images.generate(prompt="a cat", extra_headers={"x-user-id": "u9"})


# ---- how legs end -----------------------------------------------------------------------------------------


def error(code: str | None = None, **more: Any) -> dict[str, Any]:
    return {"error": {**ERROR["error"], "code": code, **more}}


BLOCKED = {"moderation_details": {"moderation_stage": "output", "categories": []}}


@pytest.mark.parametrize(
    ("answer", "end"),
    [
        ((200, ANSWER), ("leg.settled", None)),
        ((200, {"created": 1, "data": []}), ("leg.presumed", "no_usage")),
        ((400, error("invalid_value")), ("leg.released", "error")),
        ((401, error("invalid_api_key")), ("leg.released", "error")),
        ((429, error("rate_limit_exceeded")), ("leg.released", "error")),
        ((400, error("moderation_blocked", **BLOCKED)), ("leg.presumed", "error")),
        ((500, error()), ("leg.presumed", "error")),
        ((503, error("server_is_overloaded")), ("leg.released", "error")),
        ((503, {}), ("leg.presumed", "error")),
        (httpx2.ReadTimeout("slow"), ("leg.presumed", "timeout")),
        (httpx2.RemoteProtocolError("cut"), ("leg.presumed", "cut")),
        (httpx2.ConnectError("down"), ("leg.presumed", "cut")),
        (RuntimeError("of a hook"), ("leg.presumed", "error")),
    ],
)
@pytest.mark.parametrize("sync", [True, False])
async def test_every_end_upstream_is_one_end_of_the_leg(guard: Guard, answer: Any, end: Any, sync: bool) -> None:
    upstream = Upstream(answer)
    if sync:
        client = guarded(upstream.client(), guard, surface="avatars")
        _quietly(lambda: client.images.generate(prompt="a cat"))
    else:
        aclient = guarded(upstream.async_client(), guard, surface="avatars")
        try:
            await aclient.images.generate(prompt="a cat")
        except (openai.OpenAIError, RuntimeError):
            assert end != ("leg.settled", None)
    assert ends(guard) == [end]


pytestmark = pytest.mark.anyio


def _quietly(call: Callable[[], Any]) -> None:
    try:
        call()
    except (openai.OpenAIError, RuntimeError):
        return


def test_an_answer_that_is_cut_is_presumed(guard: Guard) -> None:
    def cut() -> Iterator[bytes]:
        yield b'{"created": 1, '
        raise httpx2.ReadError("cut")

    below = httpx2.Client(transport=httpx2.MockTransport(lambda _: httpx2.Response(200, content=cut())))
    client = guarded(OpenAI(api_key="k", base_url=URL, http_client=below, max_retries=0), guard, surface="avatars")
    with pytest.raises(openai.APIConnectionError):
        client.images.generate(prompt="a cat")
    assert ends(guard) == [("leg.presumed", "cut")]


def test_each_attempt_is_a_leg_of_its_own_and_says_of_which_call(guard: Guard) -> None:
    upstream = Upstream((500, ERROR), httpx2.ReadTimeout("slow"), (200, ANSWER))
    client = guarded(upstream.client(max_retries=2), guard, surface="avatars")
    client.images.generate(prompt="a cat")
    client.images.generate(prompt="a cat")
    first, *_ = decided = rows(guard, "request.decided")
    assert [event.body["retry_of"] for event in decided] == [None, first.decision_id, first.decision_id, None]
    legs = [(e.type, e.body["attempts"], e.body["retry_reasons"]) for e in rows(guard, "leg.")]
    assert legs == [
        ("leg.presumed", 1, []),
        ("leg.presumed", 2, ["500"]),
        ("leg.settled", 3, ["500", "timeout"]),
        ("leg.settled", 1, []),
    ]


def test_an_edit_that_is_tried_again_is_linked_too(guard: Guard) -> None:
    upstream = Upstream((500, ERROR), (200, ANSWER))
    client = guarded(upstream.client(max_retries=1), guard, surface="avatars")
    client.images.edit(prompt="a hat", image=io.BytesIO(png()))
    first, again = rows(guard, "request.decided")
    assert (again.body["retry_of"], [e.body["attempts"] for e in rows(guard, "leg.")]) == (first.decision_id, [1, 2])
    assert upstream.requests[0].content.count(png()) == upstream.requests[1].content.count(png()) == 1


def test_a_retry_that_the_budget_has_no_room_for_is_refused(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=SURFACE + "budgets: [{id: one, limit: 1 images / day}]\n")
    upstream = Upstream((500, ERROR))
    with pytest.raises(openai.RateLimitError) as caught:
        guarded(upstream.client(max_retries=5), guard, surface="avatars").images.generate(prompt="a cat")
    assert (caught.value.code, len(upstream.requests)) == ("policy_budget_exceeded", 1)


@pytest.mark.parametrize("native", [True, False])
async def test_a_cancelled_call_is_presumed(guard: Guard, native: bool) -> None:
    import asyncio

    arrived = asyncio.Event()

    async def never(request: httpx2.Request) -> httpx2.Response:
        arrived.set()
        await asyncio.Event().wait()
        raise AssertionError

    below = httpx2.AsyncClient(transport=httpx2.MockTransport(never))
    client = guarded(AsyncOpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    if native:
        task = asyncio.create_task(client.images.generate(prompt="a cat"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    else:
        async with anyio.create_task_group() as group:
            group.start_soon(lambda: client.images.generate(prompt="a cat"))
            await arrived.wait()
            group.cancel_scope.cancel()
    assert ends(guard) == [("leg.presumed", "cancelled")]


def test_thirty_two_threads_share_one_client(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(avatars=SURFACE + "budgets: [{id: ten, limit: 10 images / day}]\n")
    upstream = Upstream()
    client = guarded(upstream.client(), guard, surface="avatars", caller=lambda: {"user": "u1"})

    def ask(number: int) -> str | None:
        try:
            client.images.generate(prompt=f"a cat {number}")
        except openai.RateLimitError as refused:
            return refused.code
        return None

    with ThreadPoolExecutor(32) as pool:
        codes = Counter(pool.map(ask, range(32)))
    assert codes == {None: 10, "policy_budget_exceeded": 22}
    assert (len(upstream.requests), ends(guard)) == (10, [("leg.settled", None)] * 10)


def test_nothing_private_is_logged(guard: Guard, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    client = guarded(Upstream((400, error("invalid_value"))).client(), guard, surface="avatars")
    with policyguard.caller(user="canary-user"):
        _quietly(lambda: client.images.generate(prompt="canary prompt"))
        _quietly(lambda: client.images.generate(prompt="canary prompt", n=9))
        _quietly(lambda: client.images.edit(prompt="canary prompt", image=b"canary"))
    assert caplog.records
    assert "canary" not in caplog.text


# ---- what cannot be guarded -------------------------------------------------------------------------------


def test_a_surface_that_is_not_there_is_said_at_once(guard: Guard) -> None:
    with pytest.raises(ConfigError, match=r"there is no surface `avatar`, did you mean `avatars`"):
        guarded(Upstream().client(), guard, surface="avatar")


def test_a_client_is_guarded_once(guard: Guard) -> None:
    client = guarded(Upstream().client(), guard, surface="avatars")
    aclient = guarded(Upstream().async_client(), guard, surface="avatars")
    for twice in (client, aclient.with_options(timeout=1)):
        with pytest.raises(ConfigError, match="guarded already"):
            guarded(twice, guard, surface="avatars")


def test_only_the_sdks_clients_can_be_guarded(guard: Guard) -> None:
    with pytest.raises(ConfigError, match="only an `OpenAI`"):
        guarded(httpx2.Client(), guard, surface="avatars")  # type: ignore[type-var]


def test_closing_the_guarded_client_closes_the_one_below(guard: Guard) -> None:
    plain = Upstream().client()
    with guarded(plain, guard, surface="avatars"):
        assert not plain.is_closed()
    assert plain.is_closed()


async def test_closing_the_guarded_async_client_closes_the_one_below(guard: Guard) -> None:
    plain = Upstream().async_client()
    async with guarded(plain, guard, surface="avatars"):
        assert not plain.is_closed()
    assert plain.is_closed()

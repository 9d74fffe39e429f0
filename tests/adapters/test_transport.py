"""The client door over a scripted upstream: what goes through, what is refused, who asks, what cannot be guarded."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import openai
import pytest
from adapters.upstream import ANSWER, URL, Upstream, ends, png, rows
from openai import OpenAI
from support import SURFACE

import policyguard
from policyguard.adapters.transport import guarded
from policyguard.errors import ConfigError
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator

pytestmark = pytest.mark.anyio
FORCED = {"model": "gpt-image-2-2026-04-21", "size": "1024x1024", "quality": "low", "n": 1, "moderation": "auto"}


@pytest.fixture
def guard(open_guard: Callable[..., Guard]) -> Guard:
    return open_guard()


@pytest.fixture(autouse=True)
def _somebody() -> Iterator[None]:
    with policyguard.caller(user="u1"):
        yield


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
    packed = {"gzip": gzip.compress, "deflate": zlib.compress}[encoding](json.dumps(ANSWER).encode())
    headers = {"content-encoding": encoding, "content-type": "application/json"}
    below = httpx2.Client(
        transport=httpx2.MockTransport(lambda _: httpx2.Response(200, headers=headers, content=packed))
    )
    client = guarded(OpenAI(api_key="k", base_url=URL, http_client=below), guard, surface="avatars")
    assert client.images.generate(prompt="a cat").usage is not None
    assert ends(guard) == [("leg.settled", None)]


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

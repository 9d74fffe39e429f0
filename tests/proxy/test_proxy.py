"""The proxy in this process, over an upstream on a real socket: who is let in, what goes up, and how legs end."""

from __future__ import annotations

import asyncio
import json
import logging
import unicodedata
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from patience import HANGS_S
from proxy.wire_upstream import WireUpstream, http, scores, wire_upstream
from support import NOW, ORG, SURFACE

from policyguard.guard.guard import Guard
from policyguard.proxy.key_ring import KEPT_S, KeyRing
from policyguard.proxy.moderator import UpstreamModerator
from policyguard.proxy.proxy import Proxy, ProxyLimits
from policyguard.proxy.upstream import Upstream

pytestmark = pytest.mark.anyio
GENERATIONS, EDITS = "/v1/images/generations", "/v1/images/edits"
BUDGET = "budgets: [{id: day, limit: $10 / day}]\n"


@dataclass
class Client:
    """Sends requests to a proxy, by a key."""

    proxy: Proxy
    guard: Guard
    upstream: WireUpstream
    secrets: int = 0
    gone: asyncio.Event = field(default_factory=asyncio.Event)

    def key(self, *surfaces: str, names_user: bool = False, **caller: str) -> str:
        self.secrets += 1
        secret = f"sk-{self.secrets}"
        self.guard.store.proxy_keys.create(
            secret,
            name="test",
            surfaces=surfaces or ("avatars",),
            caller=caller or ({} if names_user else {"user": "u1"}),
            names_user=names_user,
            by="ada",
            now=NOW,
        )
        return secret

    async def ask(
        self,
        key: str | None,
        document: Any = None,
        *,
        path: str = GENERATIONS,
        method: str = "POST",
        query: bytes = b"",
        body: bytes | None = None,
        **headers: str,
    ) -> Answer:
        sent = json.dumps(document or {"prompt": "a cat"}).encode() if body is None else body
        given = {"content-type": "application/json", **headers}
        if key is not None:
            given["authorization"] = f"Bearer {key}"
        lines = [(name.replace("_", "-").encode(), value.encode()) for name, value in given.items()]
        messages: list[Any] = []
        bodies = [sent]

        async def receive() -> Any:
            if bodies:
                return {"type": "http.request", "body": bodies.pop(), "more_body": False}
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            messages.append(message)

        scope = {"type": "http", "method": method, "path": path, "query_string": query, "headers": lines}
        await self.proxy({**scope, "client": ("127.0.0.1", 5)}, receive, send)
        return Answer(messages)

    def events(self, type_: str) -> list[Any]:
        return [row.event for row in self.guard.store.events(limit=100) if row.event.type.startswith(type_)]


class Answer:
    def __init__(self, messages: list[Any]) -> None:
        self.status: int = messages[0]["status"]
        self.headers: Mapping[str, str] = {n.decode(): v.decode() for n, v in messages[0]["headers"]}
        self.body = b"".join(message.get("body", b"") for message in messages[1:])
        self.whole = not messages[-1].get("more_body", False)

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]

    @property
    def code(self) -> Any:
        return self.error["code"]


async def no_pages(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": []})
    await send({"type": "http.response.body"})


@pytest.fixture
async def upstream() -> AsyncIterator[WireUpstream]:
    async with wire_upstream() as running:
        yield running


@pytest.fixture
async def start(upstream: WireUpstream, open_guard: Callable[..., Guard]) -> AsyncIterator[Callable[..., Client]]:
    made: list[Upstream] = []

    def make(
        *,
        avatars: str = SURFACE + BUDGET,
        org: str = ORG,
        limits: ProxyLimits | None = None,
        silence_s: float = HANGS_S,
    ) -> Client:
        seam = Upstream(key="sk-upstream", base_url=upstream.url, read_timeout_s=silence_s)
        made.append(seam)
        guard = open_guard(avatars=avatars, org=org, moderator=UpstreamModerator(seam, retry_wait_s=0))
        pages = frozenset({"/healthz"})
        return Client(Proxy(guard, seam, pages=no_pages, open_paths=pages, limits=limits), guard, upstream)

    yield make
    for seam in made:
        await seam.aclose()


# ---- who --------------------------------------------------------------------------------------------------


async def test_a_key_says_who_asks_and_what_is_forced_goes_up(start: Callable[..., Client]) -> None:
    client = start()
    answer = await client.ask(
        client.key(user="u1", tenant="acme", tier="pro"), {"prompt": "a cat", "moderation": "low"}
    )
    assert (answer.status, answer.headers["x-policyguard-decision"][:4]) == (200, "dec_")
    moderated, made = client.upstream.seen
    assert json.loads(moderated.body)["input"] == "a cat"
    sent = json.loads(made.body)
    assert (sent["prompt"], sent["moderation"], sent["model"], sent["quality"]) == (
        "a cat",
        "auto",
        "gpt-image-2-2026-04-21",
        "low",
    )
    assert sent["safety_identifier"].startswith("pg_")
    assert made.headers["authorization"] == "Bearer sk-upstream"
    (decided,) = client.events("request.decided")
    assert (decided.dimensions["tenant"], decided.dimensions["tier"], decided.body["door"]) == ("acme", "pro", "proxy")
    assert [event.type for event in client.events("leg.")] == ["leg.settled"]


@pytest.mark.parametrize("given", [None, "", "sk-wrong", "sk-1 sk-1", "s" * 300, "sk-é"])
async def test_without_a_good_key_nothing_is_looked_at(start: Callable[..., Client], given: str | None) -> None:
    client = start()
    client.key()
    answer = await client.ask(given, body=b"not even JSON", path="/v1/anything")
    assert (answer.status, answer.code, answer.error["type"]) == (401, "invalid_api_key", "authentication_error")
    assert (answer.headers["x-should-retry"], answer.headers["www-authenticate"]) == (
        "false",
        'Bearer realm="policyguard"',
    )
    assert (client.upstream.seen, client.events("request.decided")) == ([], [])


async def test_identity_headers_mean_nothing_and_stay(start: Callable[..., Client]) -> None:
    client = start()
    answer = await client.ask(client.key(tenant="acme"), x_user_id="root", x_plan="pro", x_policyguard_user="root")
    assert (answer.status, answer.code) == (403, "policy_caller_missing")
    await client.ask(client.key(user="u1"), x_user_id="root", x_tenant="other", x_policyguard_user="root")
    (event,) = [e for e in client.events("request.decided") if e.outcome == "allow"]
    assert (event.dimensions["user"], event.dimensions["tenant"]) == (
        client.guard.vault.pseudonym("user", "u1"),
        "public",
    )
    assert {"x-user-id", "x-tenant", "x-policyguard-user"}.isdisjoint(client.upstream.images[0].headers)


@pytest.mark.parametrize(
    ("document", "headers", "user"),
    [
        ({}, {"x_policyguard_user": "ann"}, "ann"),
        ({"user": "ben"}, {}, "ben"),
        ({"user": "ben", "safety_identifier": "cat"}, {}, "cat"),
        ({"user": "ben"}, {"x_policyguard_user": "ann"}, "ann"),
    ],
)
async def test_a_key_may_let_its_holder_name_the_user(
    start: Callable[..., Client], document: dict[str, str], headers: dict[str, str], user: str
) -> None:
    client = start()
    answer = await client.ask(client.key(names_user=True), {"prompt": "a cat", **document}, **headers)
    assert answer.status == 200
    (event,) = client.events("request.decided")
    assert event.dimensions["user"] == client.guard.vault.pseudonym("user", user)


@pytest.mark.parametrize("name", ["Zo\u00eb", "\u5c71\u7530\u592a\u90ce"])
async def test_header_body_and_key_name_the_same_user_in_any_alphabet(start: Callable[..., Client], name: str) -> None:
    client, named = start(), unicodedata.normalize("NFD", name)
    key = client.key(names_user=True)
    await client.ask(key, x_policyguard_user=named)
    await client.ask(key, {"prompt": "a cat", "user": f" {named}"})
    await client.ask(client.key(user=named))
    users = [event.dimensions["user"] for event in client.events("request.decided")]
    assert users == [client.guard.vault.pseudonym("user", name)] * 3


async def test_a_user_in_a_header_that_is_no_name_is_refused_whatever_the_body_says(
    start: Callable[..., Client],
) -> None:
    client = start()
    answer = await client.ask(
        client.key(names_user=True), {"prompt": "a cat", "user": "u1"}, x_policyguard_user="u\u200b2"
    )
    assert answer.code == "policy_caller_missing"


async def test_a_value_of_a_key_that_is_not_declared_any_more_does_not_count(start: Callable[..., Client]) -> None:
    client = start()
    assert (await client.ask(client.key(user="u1", desk="12"))).status == 200


async def test_a_holder_who_should_name_the_user_and_does_not_is_refused(start: Callable[..., Client]) -> None:
    client = start()
    assert (await client.ask(client.key(names_user=True))).code == "policy_caller_missing"


async def test_a_revoked_key_ends_within_seconds(start: Callable[..., Client]) -> None:
    client, clock = start(), [0.0]
    ring = KeyRing(client.guard.store, clock=lambda: clock[0])
    secret = client.key()
    headers = [(b"authorization", f"Bearer {secret}".encode())]
    found = await ring.of(headers)
    assert found is not None
    client.guard.store.proxy_keys.revoke(found.id, why="leaked", by="ada", now=NOW)
    assert await ring.of(headers) is not None
    clock[0] = KEPT_S
    assert await ring.of(headers) is None


async def test_a_key_whose_user_was_erased_opens_nothing(start: Callable[..., Client]) -> None:
    client = start()
    secret = client.key(user="u1")
    client.guard.store.erase("u1", why="asked for", by="ada", now=NOW)
    assert (await client.ask(secret)).code == "invalid_api_key"


# ---- where to ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("allowed", "named", "status"),
    [
        (("avatars",), None, 200),
        (("avatars",), "avatars", 200),
        (("avatars",), "marketing", 403),
        (("avatars", "marketing"), "avatars", 200),
        (("avatars", "marketing"), None, 403),
        (("avatars", "marketing"), "unknown", 403),
        (("gone",), None, 403),
    ],
)
async def test_the_key_selects_the_surface(
    start: Callable[..., Client], allowed: tuple[str, ...], named: str | None, status: int
) -> None:
    client = start()
    headers = {} if named is None else {"x_policyguard_surface": named}
    answer = await client.ask(client.key(*allowed, user="u1"), **headers)
    assert answer.status == status
    if status == 403:
        assert (answer.code, answer.headers["x-policyguard-decision"][:4]) == ("policy_no_surface", "dec_")
        assert client.upstream.seen == []
        assert [event.outcome for event in client.events("request.decided")] == ["deny"]


async def test_a_method_counts_in_any_case(start: Callable[..., Client]) -> None:
    client = start()
    answer = await client.ask(client.key(user="u1"), method="post")
    assert (answer.status, len(client.events("request.decided"))) == (200, 1)


@pytest.mark.parametrize(
    "path",
    [
        "/v1/images/%67enerations",
        "/V1/Images/Generations",
        "/v1/images/variations",
        "/images/variations",
        "/v1/images",
        "/v1/./images/generations",
        "/v1/responses",
        "/v1/batches",
        "/openai/v1/batches",
        "/openai/deployments/x/images/variations",
    ],
)
async def test_what_could_make_images_and_is_not_decided_is_refused_and_recorded(
    start: Callable[..., Client], path: str
) -> None:
    client = start()
    answer = await client.ask(client.key(), path=path)
    assert (answer.status, answer.code) == (403, "policy_no_surface")
    assert (client.upstream.seen, len(client.events("request.decided"))) == ([], 1)


@pytest.mark.parametrize(
    ("path", "right"),
    [
        ("//v1/images/generations", GENERATIONS),
        ("/v1//images/generations", GENERATIONS),
        ("/v1/images/generations/", GENERATIONS),
        ("/images/generations", GENERATIONS),
        ("/images/edits", EDITS),
        ("/v1/v1/images/generations", GENERATIONS),
        ("/v1/v1/responses", "/v1/responses"),
        ("/responses", "/v1/responses"),
        ("/openai/images/generations", GENERATIONS),
        ("/openai/deployments/x/images/generations", GENERATIONS),
        ("/deployments/x/images/edits", EDITS),
        ("/v1/deployments/x/images/edits", EDITS),
    ],
)
async def test_an_address_that_is_written_wrongly_is_told_the_right_one_and_recorded(
    start: Callable[..., Client], path: str, right: str
) -> None:
    client = start()
    answer = await client.ask(client.key(), path=path)
    assert (answer.status, answer.code, answer.headers["x-should-retry"]) == (404, "not_found", "false")
    assert f"`{right}`" in answer.error["message"]
    (event,) = client.events("request.decided")
    assert (client.upstream.seen, event.outcome) == ([], "deny")
    assert answer.headers["x-policyguard-decision"] == event.decision_id


@pytest.mark.parametrize(
    ("path", "method", "right"),
    [
        ("/", "GET", None),
        ("/v1/chat/completions", "POST", None),
        ("/v1/files", "POST", None),
        ("/v1/models", "POST", None),
        ("/models", "GET", "/v1/models"),
        ("/v1/v1/models", "GET", "/v1/models"),
    ],
)
async def test_the_rest_is_not_found(start: Callable[..., Client], path: str, method: str, right: str | None) -> None:
    client = start()
    answer = await client.ask(client.key(), path=path, method=method)
    assert (answer.status, answer.code, client.upstream.seen) == (404, "not_found", [])
    assert (f"`{right}`" in answer.error["message"]) is (right is not None)
    assert client.events("request.decided") == []


# ---- what clients of other kinds send ---------------------------------------------------------------------


async def test_the_models_are_those_of_the_keys_surfaces(start: Callable[..., Client]) -> None:
    client = start()
    key = client.key()
    listed = await client.ask(key, path="/v1/models", method="GET")
    document = json.loads(listed.body)
    assert (listed.status, document["object"]) == (200, "list")
    names = [row["id"] for row in document["data"]]
    assert names == list(client.guard.policies.surfaces["avatars"].request.models or ())
    one = await client.ask(key, path=f"/v1/models/{names[0]}", method="GET")
    assert json.loads(one.body) == document["data"][0]
    other = await client.ask(key, path="/v1/models/dall-e-3", method="GET")
    assert (other.status, other.code) == (404, "model_not_found")
    assert (await client.ask(None, path="/v1/models", method="GET")).status == 401
    elsewhere = await client.ask(key, path="/v1/models", method="GET", x_policyguard_surface="marketing")
    assert json.loads(elsewhere.body) == document  # a surface that the key does not open adds nothing
    assert client.upstream.seen == []


@pytest.mark.parametrize("query", [b"", b"api-version=2025-04-01-preview", b"api-version="])
@pytest.mark.parametrize("path", [GENERATIONS, "/openai/v1/images/generations"])
async def test_azures_way_to_send_a_key_and_a_version_is_taken(
    start: Callable[..., Client], path: str, query: bytes
) -> None:
    client = start()
    answer = await client.ask(None, path=path, query=query, api_key=client.key())
    assert answer.status == 200
    (made,) = client.upstream.images
    assert (made.path, "api-key" in made.headers, made.headers["authorization"]) == (
        GENERATIONS,
        False,
        "Bearer sk-upstream",
    )


@pytest.mark.parametrize("query", [b"api-version=1&n=9", b"api-version=1;n=9", b"api-version=%26n=9", b"API-Version=1"])
async def test_beside_the_version_a_query_stays_refused(start: Callable[..., Client], query: bytes) -> None:
    client = start()
    assert (await client.ask(client.key(), query=query)).code == "invalid_request"
    assert client.upstream.seen == []


async def test_two_keys_are_none(start: Callable[..., Client]) -> None:
    client = start()
    key = client.key()
    assert (await client.ask(key, api_key=key)).code == "invalid_api_key"
    assert (await client.ask(None, api_key=f"Bearer {key}")).code == "invalid_api_key"


async def test_a_header_of_the_keys_own_names_the_user_and_stays(start: Callable[..., Client]) -> None:
    client = start()
    client.guard.store.proxy_keys.create(
        "sk-webui",
        name="Open WebUI",
        surfaces=("avatars",),
        caller={},
        names_user=True,
        user_header="X-OpenWebUI-User-Email",
        by="ada",
        now=NOW,
    )
    names = {"x_openwebui_user_email": "ann@example.com", "x_openwebui_user_name": "Ann"}
    assert (await client.ask("sk-webui", **names)).status == 200
    assert (await client.ask("sk-webui", {"prompt": "a cat", "user": "ben"})).status == 200
    assert (await client.ask("sk-webui", x_other_email="ann@example.com")).code == "policy_caller_missing"
    users = [event.dimensions["user"] for event in client.events("request.decided") if event.outcome == "allow"]
    assert set(users) == {client.guard.vault.pseudonym("user", name) for name in ("ann@example.com", "ben")}
    for made in client.upstream.images:
        assert not any(name.startswith("x-openwebui") for name in made.headers)


async def test_that_header_means_nothing_with_another_key(start: Callable[..., Client]) -> None:
    client = start()
    answer = await client.ask(client.key(names_user=True), x_openwebui_user_email="ann@example.com")
    assert answer.code == "policy_caller_missing"


async def test_a_stream_is_neither_gathered_nor_kept_on_its_way(start: Callable[..., Client]) -> None:
    client = start()
    event = (
        b'data: {"type":"image_generation.completed","b64_json":"","usage":{"input_tokens":1,"output_tokens":1}}\n\n'
    )
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ncache-control: no-cache\r\n"
    client.upstream.answers[GENERATIONS] = head + f"content-length: {len(event)}\r\n\r\n".encode() + event
    answer = await client.ask(client.key(), {"prompt": "a cat", "stream": True})
    assert (answer.status, answer.body) == (200, event)
    assert (answer.headers["cache-control"], answer.headers["x-accel-buffering"]) == ("no-store", "no")
    client.upstream.answers[GENERATIONS] = http(200, {"data": []})
    assert "x-accel-buffering" not in (await client.ask(client.key())).headers


@pytest.mark.parametrize("method", ["GET", "PUT", "PATCH", "OPTIONS"])
async def test_an_image_route_by_another_method_is_refused(start: Callable[..., Client], method: str) -> None:
    client = start()
    answer = await client.ask(client.key(), method=method, x_http_method_override="POST")
    assert (answer.status, client.upstream.seen) == (403, [])


async def test_a_query_is_refused(start: Callable[..., Client]) -> None:
    client = start()
    answer = await client.ask(client.key(), query=b"model=other")
    assert (answer.status, answer.code, client.upstream.seen) == (400, "invalid_request", [])


async def test_pages_need_no_key(start: Callable[..., Client]) -> None:
    assert (await start().ask(None, path="/healthz", method="GET")).status == 204


# ---- how it ends ------------------------------------------------------------------------------------------


async def test_moderation_goes_over_the_same_upstream_and_denies(start: Callable[..., Client]) -> None:
    client = start()
    client.upstream.answers["/v1/moderations"] = scores(sexual=0.9)
    assert (await client.ask(client.key())).code == "moderation_blocked"
    client.upstream.answers["/v1/moderations"] = http(500, {})
    assert (await client.ask(client.key())).code == "policy_unavailable"
    assert client.upstream.images == []


@pytest.mark.parametrize(
    ("status", "code", "ends"),
    [
        (400, "billing_hard_limit_reached", "leg.released"),
        (429, "rate_limit_exceeded", "leg.released"),
        (503, "overloaded", "leg.released"),
        (503, None, "leg.presumed"),
        (500, "server_error", "leg.presumed"),
        (200, None, "leg.presumed"),
    ],
)
async def test_the_apis_own_answer_passes_and_is_definite(
    start: Callable[..., Client], status: int, code: str | None, ends: str
) -> None:
    client = start()
    document = {"error": {"message": "no", "type": "x", "code": code}} if status != 200 else {"data": []}
    client.upstream.answers[GENERATIONS] = http(status, document, "x-request-id: req_9", "retry-after: 3")
    answer = await client.ask(client.key())
    assert (answer.status, json.loads(answer.body)) == (status, document)
    assert (answer.headers["x-request-id"], answer.headers["retry-after"]) == ("req_9", "3")
    (leg,) = client.events("leg.")
    assert (leg.type, leg.body["status"], leg.body["upstream_request_id"]) == (ends, status, "req_9")


async def test_our_own_key_being_refused_is_not_the_clients_fault_and_shows_nothing(
    start: Callable[..., Client],
) -> None:
    client = start()
    words = {"error": {"message": "Incorrect API key provided: sk-up****eam", "type": "x", "code": "invalid_api_key"}}
    client.upstream.answers[GENERATIONS] = http(401, words, "x-request-id: req_9")
    answer = await client.ask(client.key())
    assert (answer.status, answer.code) == (502, "upstream_key_refused")
    assert b"sk-up" not in answer.body
    assert {"x-request-id", "x-policyguard-decision"} <= answer.headers.keys()
    assert [(event.type, event.body["status"]) for event in client.events("leg.")] == [("leg.released", 401)]


async def test_silence_is_504_a_cut_502_and_both_are_presumed(start: Callable[..., Client]) -> None:
    client = start(silence_s=0.5)
    found = []
    for answer in ([b"", asyncio.Event()], [b""]):
        client.upstream.answers[GENERATIONS] = answer
        said = await client.ask(client.key())
        found.append((said.status, said.code, said.headers["x-policyguard-decision"][:4]))
    assert found == [(504, "upstream_unavailable", "dec_"), (502, "upstream_unavailable", "dec_")]
    legs = [(event.type, event.body["failure"]) for event in client.events("leg.")]
    assert legs == [("leg.presumed", "timeout"), ("leg.presumed", "cut")]


async def test_an_answer_that_breaks_off_is_not_ended_as_if_it_were_whole(start: Callable[..., Client]) -> None:
    client = start()
    client.upstream.answers[GENERATIONS] = [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{"]
    answer = await client.ask(client.key())
    assert (answer.status, answer.whole) == (200, False)
    assert [(event.type, event.body["failure"]) for event in client.events("leg.")] == [("leg.presumed", "cut")]


async def test_a_client_that_leaves_ends_the_call_and_is_charged(start: Callable[..., Client]) -> None:
    client = start()
    client.upstream.answers[GENERATIONS] = [b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n{", asyncio.Event()]
    asked = asyncio.create_task(client.ask(client.key()))
    while not client.upstream.images:
        await asyncio.sleep(0)
    client.gone.set()
    await asked
    async with asyncio.timeout(HANGS_S):
        await client.upstream.left.wait()
    assert [(event.type, event.body["failure"]) for event in client.events("leg.")] == [("leg.presumed", "cancelled")]


async def test_events_pass_as_they_come(start: Callable[..., Client]) -> None:
    client = start()
    done = {"type": "image_generation.completed", "b64_json": "AAAA", "usage": USAGE_OF_ONE}
    event = f"event: image_generation.completed\ndata: {json.dumps(done)}\n\n".encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    client.upstream.answers[GENERATIONS] = [head + b"%x\r\n%b\r\n0\r\n\r\n" % (len(event), event)]
    answer = await client.ask(client.key(), {"prompt": "a cat", "stream": True})
    assert (answer.body, answer.whole, "transfer-encoding" in answer.headers) == (event, True, False)
    assert [leg.type for leg in client.events("leg.")] == ["leg.settled"]


USAGE_OF_ONE = {"input_tokens": 10, "output_tokens": 196}


# ---- limits and faults ------------------------------------------------------------------------------------


async def test_headers_and_bodies_have_a_size(start: Callable[..., Client]) -> None:
    client = start(limits=ProxyLimits(header_bytes=1_000, json_bytes=1_000))
    key = client.key()
    assert (await client.ask(key, x_long="x" * 1_000)).status == 431
    assert (await client.ask(key, {"prompt": "x" * 1_000})).status == 413
    assert client.upstream.seen == []


async def test_more_requests_than_it_takes_are_told_to_come_again(start: Callable[..., Client]) -> None:
    client = start(limits=ProxyLimits(requests=1))
    key, over = client.key(), asyncio.Event()
    client.upstream.answers["/v1/moderations"] = [b"", over]
    first = asyncio.create_task(client.ask(key))
    while not client.upstream.seen:
        await asyncio.sleep(0)
    second = await client.ask(key)
    assert (second.status, second.headers["retry-after"]) == (503, "1")
    client.gone.set()
    over.set()
    await first
    await client.proxy.drained(1)


async def test_bodies_in_flight_have_a_bound_together(start: Callable[..., Client]) -> None:
    client = start(limits=ProxyLimits(bodies_bytes=4_000))
    key, over, body = client.key(), asyncio.Event(), {"prompt": "x" * 1_500}
    client.upstream.answers["/v1/moderations"] = [b"", over]
    first = asyncio.create_task(client.ask(key, body))
    while not client.upstream.seen:
        await asyncio.sleep(0)
    second = await client.ask(key, body)
    assert (second.status, second.headers["retry-after"]) == (503, "1")
    over.set()
    await first
    assert client.proxy._room.bytes.left == 4_000
    assert (await client.ask(key, {"prompt": "x" * 3_000})).status == 503


async def test_without_the_store_nothing_passes(start: Callable[..., Client], monkeypatch: pytest.MonkeyPatch) -> None:
    from policyguard.errors import StoreUnavailable

    client = start()

    async def down(_: str) -> None:
        raise StoreUnavailable("the store cannot answer")

    monkeypatch.setattr(client.proxy.guard.store, "aproxy_key", down)
    answer = await client.ask("sk-1")
    assert (answer.status, answer.code, client.upstream.seen) == (503, "policy_unavailable", [])


async def test_a_fault_of_ours_is_an_error_in_the_one_shape_and_tells_nothing(
    start: Callable[..., Client], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = start()

    def broken(*_: Any) -> None:
        raise RuntimeError("canary-4711")

    monkeypatch.setattr(client.guard, "aadmit", broken)
    with caplog.at_level(logging.INFO):
        answer = await client.ask(client.key())
    assert (answer.status, answer.code) == (500, "internal_error")
    assert "canary-4711" not in caplog.text + answer.body.decode()


@pytest.mark.parametrize("more", ["", "moderation: {check: [prompt, input_images, output_images]}\n"])
@pytest.mark.parametrize("status", [502, 503])
async def test_an_answer_without_a_body_comes_to_its_end(start: Callable[..., Client], status: int, more: str) -> None:
    client = start(avatars=SURFACE + more)
    client.upstream.answers[GENERATIONS] = [f"HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n".encode()]
    answer = await client.ask(client.key())
    assert (answer.status, answer.body, answer.whole) == (status, b"", True)


async def test_one_key_takes_half_of_the_room_at_most(start: Callable[..., Client]) -> None:
    client = start(limits=ProxyLimits(requests=4))
    greedy, other, over = client.key(), client.key(), asyncio.Event()
    client.upstream.answers["/v1/moderations"] = [b"", over]
    held = [asyncio.create_task(client.ask(greedy)) for _ in range(2)]
    while len(client.upstream.seen) < 2:
        await asyncio.sleep(0)
    assert (await client.ask(greedy)).status == 503
    third = asyncio.create_task(client.ask(other))
    while len(client.upstream.seen) < 3:
        await asyncio.sleep(0)
    over.set()
    await asyncio.gather(*held, third)
    assert client.proxy._room.requests.left == 4

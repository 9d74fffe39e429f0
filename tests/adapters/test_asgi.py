"""The middleware, driven by ASGI messages: what it forces, what it lets through untouched, and how legs end."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest
from support import ORG, SURFACE

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.routes import looks_like_images
from policyguard.guard.guard import Guard

pytestmark = pytest.mark.anyio
PATH = "/v1/images/generations"
USAGE = {"usage": {"input_tokens": 10, "output_tokens": 196}, "data": []}
HEADERS = [(b"content-type", b"application/json"), (b"x-user-id", b"u1")]


OWN = (
    "{route: POST /api/avatars, fields: {prompt: body.text}, usage: response.usage, "
    "constants: {model: gpt-image-2-2026-04-21, size: 1024x1024, quality: low, n: 1, moderation: auto}}"
)


class App:
    """Answers with `document`, and remembers what reached it."""

    def __init__(
        self, document: Any = USAGE, status: int = 200, chunks: int = 1, fail: Exception | None = None
    ) -> None:
        self.body = json.dumps(document).encode()
        self.status, self.chunks, self.fail = status, chunks, fail
        self.scopes: list[Any] = []
        self.bodies: list[bytes] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.scopes.append(dict(scope))  # as it is now: afterwards it says what the client sent
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        self.bodies.append(body)
        if self.fail is not None:
            raise self.fail
        await send({"type": "http.response.start", "status": self.status, "headers": [(b"x-request-id", b"req_7")]})
        step = max(1, len(self.body) // self.chunks)
        parts = [self.body[i : i + step] for i in range(0, len(self.body), step)]
        for number, part in enumerate(parts, start=1):
            await send({"type": "http.response.body", "body": part, "more_body": number < len(parts)})

    @property
    def document(self) -> Any:
        return json.loads(self.bodies[-1])


class Answer:
    def __init__(self, messages: list[Any]) -> None:
        self.status: int | None = messages[0]["status"] if messages else None
        self.headers = {n.decode(): v.decode() for n, v in messages[0]["headers"]} if messages else {}
        body = b"".join(m.get("body", b"") for m in messages[1:])
        self.document = json.loads(body) if body else None

    @property
    def code(self) -> Any:
        return self.document["error"]["code"]


async def ask(
    door: Any,
    body: bytes | list[bytes] = b'{"prompt": "a cat"}',
    *,
    path: str = PATH,
    method: str = "POST",
    headers: list[tuple[bytes, bytes]] | None = None,
    client: tuple[str, int] | None = ("127.0.0.1", 5),
    send: Any = None,
    **scope: Any,
) -> Answer:
    chunks = [body] if isinstance(body, bytes) else list(body)
    messages: list[Any] = []

    async def receive() -> Any:
        if not chunks:
            return {"type": "http.disconnect"}
        return {"type": "http.request", "body": chunks.pop(0), "more_body": bool(chunks)}

    async def keep(message: Any) -> None:
        messages.append(message)

    given = {"type": "http", "method": method, "path": path, "headers": HEADERS if headers is None else headers}
    await door({**given, "client": client, "query_string": b"", **scope}, receive, send or keep)
    return Answer(messages)


def ends(guard: Guard) -> list[tuple[str, Any]]:
    rows = [row.event for row in guard.store.events(limit=100) if row.event.type.startswith("leg.")]
    return [(event.type, event.body["failure"]) for event in rows]


def decisions(guard: Guard) -> list[Any]:
    return [row.event for row in guard.store.events(limit=100) if row.event.type == "request.decided"]


# ---- passing by -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "/v1/chat/completions"), ("GET", PATH), ("OPTIONS", PATH), ("POST", "/images"), ("GET", "/")],
)
async def test_other_traffic_passes_untouched(open_guard: Callable[..., Guard], method: str, path: str) -> None:
    guard, app = open_guard(), App()
    answer = await ask(PolicyGuardMiddleware(app, guard=guard), b"anything", method=method, path=path)
    assert (answer.status, app.bodies, decisions(guard)) == (200, [b"anything"], [])
    assert "x-policyguard-decision" not in answer.headers


@pytest.mark.parametrize("kind", ["lifespan", "websocket"])
async def test_lifespan_and_websockets_pass(open_guard: Callable[..., Guard], kind: str) -> None:
    app = App()
    await PolicyGuardMiddleware(app, guard=open_guard())({"type": kind, "path": PATH}, None, None)  # type: ignore[arg-type]
    assert app.scopes == [{"type": kind, "path": PATH}]


@pytest.mark.parametrize(
    "path",
    [
        "//v1/images/generations",
        "/v1//images/generations",
        "/v1/images/generations/",
        "/v1/images/./generations",
        "/v1/x/../images/generations",
        "/v1/images/%67enerations",
        "/v1/images%2Fgenerations",
        "/v1/images/%2e/generations",
        "/v1/Images/Generations",
        "/v1/images/generations;x=1",
        "/v1/images\\generations",
        "/v1/images/generations%00",
        "/v1/images;x=1/generations",
        "/v1/images/generations#top",
        "/v1/images/genera\ttions",
        "/v1/image\u017f/generations",
        "/v1/images/%2567enerations",
        "/v2/images/edits",
        "/v1/images/variations",
        "/openai/deployments/x/images/generations",
        "/v1/images/upscale",
        "/v1/images",
        "/v1/images/generations/list",
        "/v1/batches",
        "/openai/v1/batches/",
    ],
)
async def test_every_spelling_of_an_image_route_that_no_surface_claims_is_refused(
    open_guard: Callable[..., Guard], path: str
) -> None:
    guard, app = open_guard(), App()
    answer = await ask(PolicyGuardMiddleware(app, guard=guard), path=path)
    assert (answer.status, answer.code, app.bodies) == (403, "policy_no_surface", [])
    assert [event.outcome for event in decisions(guard)] == ["deny"]


@pytest.mark.parametrize("path", ["/api//avatars", "/api/avatars/", "/API/avatars", "/api/%61vatars", "/api/avatars;x"])
async def test_an_own_route_in_another_spelling_is_refused(open_guard: Callable[..., Guard], path: str) -> None:
    guard, app = open_guard(avatars=SURFACE.replace("POST /v1/images/edits", OWN)), App()
    door = PolicyGuardMiddleware(app, guard=guard)
    assert ((await ask(door, path=path)).code, app.bodies) == ("policy_no_surface", [])
    assert (await ask(door, b"{}", path=path, method="PUT")).status == 200


def test_what_is_no_image_route_does_not_look_like_one() -> None:
    others = ["/api/images", "/images/generation", "/images/edits-of-mine", "/api/v1/batches", "/v1/imagesque", "/"]
    assert not any(map(looks_like_images, others))


async def test_a_second_mount_does_not_decide_twice(open_guard: Callable[..., Guard]) -> None:
    guard, app = open_guard(), App()
    inner = PolicyGuardMiddleware(app, guard=guard)
    await ask(PolicyGuardMiddleware(inner, guard=guard))
    assert (len(app.bodies), len(decisions(guard))) == (1, 1)


@pytest.mark.parametrize(
    ("root", "path"), [("/prod", "/prod/api/avatars"), ("", "/api/avatars"), ("/prod", "/api/avatars")]
)
async def test_a_root_path_or_a_mount_leads_around_nothing(
    open_guard: Callable[..., Guard], root: str, path: str
) -> None:
    own = "{route: POST /api/avatars, fields: {prompt: body.text}, constants: {model: gpt-image-2-2026-04-21, "
    own += "size: 1024x1024, quality: low, n: 1}}"
    guard, app = open_guard(avatars=SURFACE.replace("POST /v1/images/edits", own)), App()
    answer = await ask(PolicyGuardMiddleware(app, guard=guard), b'{"text": "a cat"}', path=path, root_path=root)
    assert (answer.status, len(decisions(guard))) == (200, 1)
    assert "x-policyguard-decision" in answer.headers


async def test_what_is_admitted_counts_as_sent_before_the_app_hears_of_it(open_guard: Callable[..., Guard]) -> None:
    guard, app, states = open_guard(), App(), []

    async def looks(scope: Any, receive: Any, send: Any) -> None:
        states.extend(guard.store._read(lambda c: c.exec_driver_sql("SELECT state FROM legs").scalars().all()))
        await app(scope, receive, send)

    await ask(PolicyGuardMiddleware(looks, guard=guard))
    assert (states, len(app.bodies)) == (["sent"], 1)


async def test_a_request_cancelled_twice_is_settled_all_the_same(open_guard: Callable[..., Guard]) -> None:
    """A time-out and then a shutdown: a cancel scope's shield does not hold against the second."""
    import asyncio
    import threading

    guard, started = open_guard(), anyio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await anyio.sleep_forever()

    task = asyncio.ensure_future(ask(PolicyGuardMiddleware(slow, guard=guard)))
    await started.wait()
    task.cancel()
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for thread in threading.enumerate():
        if thread.name == "policyguard-settle":
            await anyio.to_thread.run_sync(thread.join)
    assert ends(guard) == [("leg.presumed", "cancelled")]


# ---- what reaches the app ---------------------------------------------------------------------------------


async def test_the_app_gets_what_was_decided_with_the_right_length(open_guard: Callable[..., Guard]) -> None:
    guard, app = open_guard(), App()
    body = b'{"prompt": "a cat", "moderation": "low"}'
    answer = await ask(PolicyGuardMiddleware(app, guard=guard), [body[:7], body[7:20], body[20:]])
    assert (app.document["moderation"], app.document["n"], app.document["quality"]) == ("auto", 1, "low")
    headers = dict(app.scopes[0]["headers"])
    assert headers[b"content-length"] == str(len(app.bodies[0])).encode()
    assert app.scopes[0]["policyguard"] == answer.headers["x-policyguard-decision"]
    assert app.scopes[0]["state"]["policyguard"].id == answer.headers["x-policyguard-decision"]


async def test_an_answer_is_asked_for_without_compression_so_that_its_usage_can_be_read(
    open_guard: Callable[..., Guard],
) -> None:
    app = App()
    await ask(PolicyGuardMiddleware(app, guard=open_guard()), headers=[*HEADERS, (b"Accept-Encoding", b"gzip, br")])
    sent = [value for name, value in app.scopes[0]["headers"] if name.lower() == b"accept-encoding"]
    assert sent == [b"identity"]


async def test_what_cannot_be_written_back_is_refused_before_anything_is_reserved(
    open_guard: Callable[..., Guard],
) -> None:
    guard, app = open_guard(avatars=SURFACE + "budgets: [{id: day, limit: $10 / day}]\n"), App()
    answer = await ask(PolicyGuardMiddleware(app, guard=guard), b'{"prompt": "a cat", "user": "\\ud800"}')
    assert (answer.code, app.bodies, guard.store.budget_windows()) == ("invalid_request", [], [])


@pytest.mark.parametrize("odd", [{"data": [{"b64_json": "\u00e9"}]}, {"data": {"b64_json": [1]}}, {"size": [1]}])
async def test_whatever_an_app_answers_its_leg_ends(open_guard: Callable[..., Guard], odd: Any) -> None:
    guard = open_guard()
    answer = await ask(PolicyGuardMiddleware(App({**USAGE, **odd}), guard=guard))
    assert (answer.status, ends(guard)) == (200, [("leg.settled", None)])


async def test_an_own_route_gets_adjusted_values_back_and_is_declared(open_guard: Callable[..., Guard]) -> None:
    own = (
        "{route: POST /api/avatars, fields: {prompt: body.text, n: body.count}, usage: response.tokens, "
        "constants: {model: gpt-image-2-2026-04-21, size: 1024x1024, quality: low, moderation: auto}}"
    )
    surface = SURFACE.replace("POST /v1/images/edits", own).replace("{max: 2}", "{max: 2}\n  on_excess: adjust")
    guard, app = open_guard(avatars=surface), App({"tokens": USAGE["usage"]})
    answer = await ask(
        PolicyGuardMiddleware(app, guard=guard), b'{"text": "a cat", "count": 5, "mood": 1}', path="/api/avatars"
    )
    assert (app.document, answer.headers["x-policyguard-adjusted"]) == (
        {"text": "a cat", "count": 2, "mood": 1},
        "n=5->2",
    )
    assert ends(guard) == [("leg.settled", None)]
    assert decisions(guard)[0].body["moderation_parameter"] == "declared"


# ---- who asks ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("client", [("10.1.2.3", 5), ("::1", 5), ("testclient", 5), None])
async def test_identity_headers_of_others_do_not_count(open_guard: Callable[..., Guard], client: Any) -> None:
    answer = await ask(PolicyGuardMiddleware(App(), guard=open_guard()), client=client)
    assert (answer.status, answer.code) == (403, "policy_caller_missing")


async def test_a_mapped_address_of_a_trusted_proxy_counts(open_guard: Callable[..., Guard]) -> None:
    answer = await ask(PolicyGuardMiddleware(App(), guard=open_guard()), client=("::ffff:127.0.0.1", 5))
    assert answer.status == 200


@pytest.mark.parametrize("extra", [(b"X-User-Id", b"u2"), (b"x-user-id", b"u1")])
async def test_a_duplicated_header_counts_as_absent(
    open_guard: Callable[..., Guard], extra: tuple[bytes, bytes]
) -> None:
    answer = await ask(PolicyGuardMiddleware(App(), guard=open_guard()), headers=[*HEADERS, extra])
    assert answer.code == "policy_caller_missing"


async def test_a_callable_says_who_asks_and_wins_over_headers(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    door = PolicyGuardMiddleware(App(), guard=guard, caller=lambda scope: {"user": "from-session", "tenant": "acme"})
    await ask(door)
    event = decisions(guard)[0]
    assert (event.dimensions["user"], event.dimensions["tenant"]) == (
        guard.vault.pseudonym("user", "from-session"),
        "acme",
    )


# ---- bodies -----------------------------------------------------------------------------------------------


async def test_a_body_that_never_ends_is_cut_by_size_and_by_time(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    small = PolicyGuardMiddleware(App(), guard=guard, max_json_bytes=1000)
    assert (await ask(small, [b"a" * 400] * 10)).status == 413
    door = PolicyGuardMiddleware(App(), guard=guard, body_timeout_s=0.05)

    async def never() -> Any:
        await anyio.sleep_forever()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await door({"type": "http", "method": "POST", "path": PATH, "headers": HEADERS, "client": None}, never, send)
    assert sent[0]["status"] == 400
    assert [event.outcome for event in decisions(guard)] == ["deny", "deny"]


async def test_a_client_that_leaves_while_it_sends_leaves_nothing(open_guard: Callable[..., Guard]) -> None:
    guard, app = open_guard(), App()
    answer = await ask(PolicyGuardMiddleware(app, guard=guard), [])
    assert (answer.status, app.bodies, guard.store.events()) == (None, [], [])


@pytest.mark.parametrize("headers", [[(b"content-encoding", b"gzip")], [(b"content-type", b"application/json")]])
async def test_odd_bodies_are_refused(open_guard: Callable[..., Guard], headers: Any) -> None:
    answer = await ask(PolicyGuardMiddleware(App(), guard=open_guard()), headers=[*HEADERS, *headers])
    assert (answer.status, answer.code) == (400, "invalid_request")


# ---- how legs end -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app", "end"),
    [
        (App(), ("leg.settled", None)),
        (App(chunks=7), ("leg.settled", None)),
        (App({"data": []}), ("leg.presumed", "no_usage")),
        (App({"error": {"code": "rate_limit_exceeded"}}, 429), ("leg.presumed", "error")),
        (App({"error": {}}, 500), ("leg.presumed", "error")),
    ],
)
async def test_the_apps_answer_settles_the_leg(open_guard: Callable[..., Guard], app: App, end: Any) -> None:
    guard = open_guard()
    answer = await ask(PolicyGuardMiddleware(app, guard=guard))
    assert (answer.status, ends(guard)) == (app.status, [end])


async def test_an_app_that_raises_is_presumed_and_its_error_goes_on(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    with pytest.raises(LookupError):
        await ask(PolicyGuardMiddleware(App(fail=LookupError()), guard=guard))
    assert ends(guard) == [("leg.presumed", "error")]


async def test_a_cancelled_request_is_presumed_not_forgotten(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    started = anyio.Event()

    async def slow(scope: Any, receive: Any, send: Any) -> None:
        started.set()
        await anyio.sleep_forever()

    async with anyio.create_task_group() as group:
        group.start_soon(ask, PolicyGuardMiddleware(slow, guard=guard))
        await started.wait()
        group.cancel_scope.cancel()
    assert ends(guard) == [("leg.presumed", "cancelled")]


async def test_a_client_that_left_does_not_change_what_the_app_answered(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()

    async def gone(message: Any) -> None:
        if message["type"] == "http.response.body":
            raise OSError("the client left")

    with pytest.raises(OSError, match="the client left"):
        await ask(PolicyGuardMiddleware(App(), guard=guard), send=gone)
    assert ends(guard) == [("leg.settled", None)]


async def test_a_reloaded_set_of_policies_is_in_force_at_the_next_request(
    open_guard: Callable[..., Guard], tmp_path: Any
) -> None:
    guard, app = open_guard(), App()
    door = PolicyGuardMiddleware(app, guard=guard)
    assert (await ask(door)).status == 200
    (tmp_path / "policies0" / "avatars.yaml").write_text(SURFACE.replace("POST /v1/images/generations, ", ""))
    guard.reload()
    assert (await ask(door)).code == "policy_no_surface"


async def test_the_store_down_refuses_and_nothing_passes(open_guard: Callable[..., Guard], monkeypatch: Any) -> None:
    from policyguard.errors import StoreUnavailable

    guard, app = open_guard(), App()

    def down(*_: Any) -> Any:
        raise StoreUnavailable("no")

    monkeypatch.setattr(guard.store, "aperform", down)
    answer = await ask(PolicyGuardMiddleware(app, guard=guard))
    assert (answer.status, answer.code, answer.headers["retry-after"], app.bodies) == (
        503,
        "policy_unavailable",
        "30",
        [],
    )


async def test_fifty_concurrent_requests_each_have_one_decision_and_one_end(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(org=ORG, avatars=SURFACE + "budgets: [{id: day, limit: 30 images / day}]\n")
    door = PolicyGuardMiddleware(App(), guard=guard)
    codes: list[Any] = []

    async def one(number: int) -> None:
        codes.append((await ask(door, json.dumps({"prompt": f"cat {number}"}).encode())).status)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(one, number)
    assert (codes.count(200), codes.count(429)) == (30, 20)
    assert (len(decisions(guard)), ends(guard)) == (50, [("leg.settled", None)] * 30)


@pytest.mark.parametrize("path", [PATH, "/v1/responses"])
async def test_a_long_body_is_not_read_on_the_event_loop(
    open_guard: Callable[..., Guard], monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    loop, threads, real = threading.get_ident(), [], json.loads

    def loads(*args: Any, **more: Any) -> Any:
        threads.extend([threading.get_ident()] if len(args[0]) > 10_000 else [])
        return real(*args, **more)

    monkeypatch.setattr(json, "loads", loads)
    body = b'{"prompt": "image_gen", "input": "a", "other": [' + b"{}," * 20_000 + b"1]}"
    answer = await ask(PolicyGuardMiddleware(App(), guard=open_guard()), body, path=path)
    monkeypatch.undo()
    assert (answer.status >= 400, len(threads), loop in threads) == (True, 1, False)

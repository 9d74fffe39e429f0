"""Images by the tool of the Responses API, with the real SDK against the sandbox, through both doors."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from support import write_policies
from tool_bodies import MAIN, PRICES, RESPONSES, asked, data_url

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.transport import guarded
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.sandbox import create_app

pytestmark = [pytest.mark.acceptance, pytest.mark.anyio]
TOOL = {"type": "image_generation"}


@pytest.fixture
def moderator() -> ScriptedModerator:
    return ScriptedModerator()


@pytest.fixture
def open_guard(tmp_path: Path, moderator: ScriptedModerator) -> Iterator[Callable[..., Guard]]:
    opened: list[Guard] = []

    def make(extra: str = "", base: str = RESPONSES) -> Guard:
        folder = write_policies(tmp_path / "policies", avatars=base + extra, prices=PRICES)
        store = f"sqlite:///{tmp_path / 'record.sqlite3'}"
        opened.append(Guard.open(folder, store=store, moderator=moderator))
        return opened[-1]

    yield make
    for guard in opened:
        guard.close()


def client_door(guard: Guard, sandbox: Any) -> OpenAI:
    plain = OpenAI(api_key="sk-sandbox", base_url=f"{sandbox.url}/v1", max_retries=0)
    return guarded(plain, guard, surface="avatars", caller=lambda: {"user": "u1"})


def asgi_door(guard: Guard, app: Any) -> AsyncOpenAI:
    door = PolicyGuardMiddleware(app, guard=guard, caller=lambda scope: {"user": "u1"})
    below = httpx2.AsyncClient(transport=httpx2.ASGITransport(door))
    return AsyncOpenAI(api_key="sk-sandbox", base_url="http://app.test/v1", max_retries=0, http_client=below)


def legs(guard: Guard) -> list[Any]:
    return [row.event for row in guard.store.events(limit=1000) if row.event.type.startswith("leg.")]


def decided(guard: Guard) -> list[tuple[str | None, list[str]]]:
    rows = [row.event for row in guard.store.events(limit=1000) if row.event.type == "request.decided"]
    return [(row.outcome, [reason["id"] for reason in row.body["reasons"]]) for row in rows]


# ---- the client door --------------------------------------------------------------------------------------


def test_a_call_is_decided_forced_and_settled_by_both_usages(open_guard: Callable[..., Guard], sandbox: Any) -> None:
    guard = open_guard()
    with client_door(guard, sandbox) as client:
        raw = client.responses.with_raw_response.create(**asked({"moderation": "low"}, max_tool_calls=2))
    answer = raw.parse()
    assert [item.type for item in answer.output].count("image_generation_call") == 2
    (sent,) = sandbox.counts()["requests"]
    shown = ("model", "size", "quality", "n", "moderation")
    assert [sent[name] for name in shown] == ["gpt-image-2-2026-04-21", "1024x1024", "low", 2, "auto"]
    assert sent["safety_identifier"]
    assert "u1" not in sent["safety_identifier"]
    (leg,) = legs(guard)
    usage = answer.usage
    assert usage is not None
    assert leg.type == "leg.settled"
    assert leg.body["usage"]["output_image_tokens"] == 392
    counted = (leg.body["usage"]["main_input_tokens"], leg.body["usage"]["main_output_tokens"])
    assert counted == (usage.input_tokens, usage.output_tokens)
    assert raw.headers["x-policyguard-decision"] == leg.decision_id


def test_what_says_nothing_of_its_number_makes_one_image(open_guard: Callable[..., Guard], sandbox: Any) -> None:
    guard = open_guard()
    with client_door(guard, sandbox) as client:
        answer = client.responses.create(model=MAIN, input="a cat", tools=[TOOL])
    assert (sandbox.counts()["images"], answer.max_tool_calls, answer.max_output_tokens) == (1, 1, 500)


def test_a_stream_is_settled_once_when_it_ends(open_guard: Callable[..., Guard], sandbox: Any) -> None:
    guard = open_guard("  partial_images: {max: 2}\n")
    body = asked({"partial_images": 2}, stream=True)
    with client_door(guard, sandbox) as client, client.responses.create(**body) as stream:
        kinds = [event.type for event in stream]
    assert kinds.count("response.image_generation_call.partial_image") == 2
    assert kinds[-1] == "response.completed"
    assert [(leg.type, leg.body["usage"]["output_image_tokens"]) for leg in legs(guard)] == [("leg.settled", 396)]
    assert sandbox.counts()["generations"] == 1


@pytest.mark.parametrize(
    ("fault", "end"),
    [
        ("500", ("leg.presumed", "error")),
        ("429", ("leg.released", "error")),
        ("no_usage", ("leg.presumed", "no_usage")),
        ("nonsense", ("leg.presumed", "no_usage")),
    ],
)
def test_faults_end_a_leg_as_elsewhere(
    open_guard: Callable[..., Guard], sandbox: Any, fault: str, end: tuple[str, str]
) -> None:
    guard = open_guard()
    with client_door(guard, sandbox) as client, suppress(openai.APIError, ValueError):
        client.post("/responses", body=asked(), options={"headers": {"x-sandbox-fault": fault}}, cast_to=object)
    assert [(leg.type, leg.body["failure"]) for leg in legs(guard)] == [end]


@pytest.mark.parametrize("fault", ["error_event", "unfinished"])
def test_a_stream_that_breaks_is_presumed(open_guard: Callable[..., Guard], sandbox: Any, fault: str) -> None:
    guard = open_guard()
    with client_door(guard, sandbox) as client, suppress(openai.APIError):
        list(client.responses.create(**asked(stream=True), extra_headers={"x-sandbox-fault": fault}))
    assert [leg.type for leg in legs(guard)] == ["leg.presumed"]


REFUSED = [
    ("", asked({"quality": "auto"}), "request.quality"),
    ("", asked({"size": "2048x2048"}), "request.size"),
    ("", asked({"model": "gpt-image-1.5"}), "request.model"),
    ("", asked(max_tool_calls=3), "request.n"),
    ("", asked({"partial_images": 1}, stream=True), "request.partial_images"),
    ("", asked(model="gpt-6"), "request.responses request.price"),
    ("", asked(max_output_tokens=501), "request.responses"),
    ("", asked({"complexity": "low"}), "request.extra"),
    ("", asked(previous_response_id="resp_1"), "request.malformed"),
    ("budgets: [{id: cent, limit: $0.01 / day}]\n", asked(), "budget.cent"),
    ("rules: [{id: no-cats, when: request.prompt.contains('cat'), then: deny}]\n", asked(), "no-cats"),
]


@pytest.mark.parametrize(("extra", "body", "reasons"), REFUSED)
async def test_both_doors_refuse_alike_before_the_network(
    open_guard: Callable[..., Guard], sandbox: Any, extra: str, body: dict[str, Any], reasons: str
) -> None:
    guard = open_guard(extra)
    errors = []
    with client_door(guard, sandbox) as client, pytest.raises(openai.APIStatusError) as caught:
        await anyio.to_thread.run_sync(lambda: client.responses.create(**body))
    errors.append(caught.value)
    async with asgi_door(guard, create_app()) as through_app:
        with pytest.raises(openai.APIStatusError) as caught:
            await through_app.responses.create(**body)
    errors.append(caught.value)
    assert decided(guard) == [("deny", reasons.split())] * 2
    assert len({(error.status_code, error.code, error.type) for error in errors}) == 1
    assert sandbox.counts()["paths"].get("/v1/responses") is None


async def test_what_is_moderated_is_every_text(
    open_guard: Callable[..., Guard], sandbox: Any, moderator: ScriptedModerator
) -> None:
    guard = open_guard()
    moderator.scores = {"violence": 0.9}
    with client_door(guard, sandbox) as client, pytest.raises(openai.BadRequestError):
        await anyio.to_thread.run_sync(lambda: client.responses.create(**asked(instructions="a fight")))
    assert (decided(guard), sandbox.counts()["images"]) == ([("deny", ["moderation.violence"])], 0)


def test_without_main_models_nobody_may(open_guard: Callable[..., Guard], sandbox: Any) -> None:
    base = RESPONSES.replace(", POST /v1/responses", "").replace(
        "  responses: {models: [gpt-6-luna], ", "  responses: {"
    )
    guard = open_guard(base=base)
    with client_door(guard, sandbox) as client, pytest.raises(openai.BadRequestError):
        client.responses.create(**asked())
    assert decided(guard) == [("deny", ["request.responses"])]


def test_excess_is_brought_down_where_the_policy_says_so(open_guard: Callable[..., Guard], sandbox: Any) -> None:
    guard = open_guard("  on_excess: adjust\n")
    with client_door(guard, sandbox) as client:
        raw = client.responses.with_raw_response.create(
            **asked({"quality": "max"}, max_tool_calls=9, max_output_tokens=9_000)
        )
    adjusted = "quality=max->high,n=9->2,max_output_tokens=9000->500"
    assert raw.headers["x-policyguard-adjusted"] == adjusted
    assert (raw.parse().max_output_tokens, sandbox.counts()["images"]) == (500, 2)


@pytest.mark.parametrize("calls", [1, 2])
@pytest.mark.parametrize("pictures", [0, 3])
@pytest.mark.parametrize("size", ["1024x1024", "1536x1024"])
def test_the_ceiling_bounds_what_it_costs(
    open_guard: Callable[..., Guard], sandbox: Any, calls: int, pictures: int, size: str
) -> None:
    guard = open_guard()
    content: list[Any] = [{"type": "input_text", "text": "a cat " * 300}]
    content += [{"type": "input_image", "image_url": data_url(), "detail": "auto"}] * pictures
    body = asked({"size": size, "quality": "high"}, max_tool_calls=calls, input=[{"role": "user", "content": content}])
    with client_door(guard, sandbox) as client:
        client.responses.create(**body)
    (leg,) = legs(guard)
    assert leg.type == "leg.settled"
    assert 0 < leg.body["charged_micros"] <= leg.body["ceiling_micros"]


# ---- the middleware ---------------------------------------------------------------------------------------


async def test_the_middleware_forces_and_settles_the_same(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    async with asgi_door(guard, create_app()) as client:
        answer = await client.responses.create(**asked({"moderation": "low"}, max_tool_calls=2))
        stream = await client.responses.create(**asked(stream=True))
        kinds = [event.type async for event in stream]
    tool: Any = answer.tools[0]
    assert (tool.moderation, tool.model, answer.max_output_tokens) == ("auto", "gpt-image-2-2026-04-21", 500)
    assert kinds[-1] == "response.completed"
    assert [leg.type for leg in legs(guard)] == ["leg.settled", "leg.settled"]


async def test_text_for_text_passes_untouched_on_a_claimed_route_and_on_none(open_guard: Callable[..., Guard]) -> None:
    for base in (RESPONSES, RESPONSES.replace(", POST /v1/responses", "")):
        guard = open_guard(base=base)
        async with asgi_door(guard, create_app()) as client:
            answer = await client.responses.create(model=MAIN, input="say hello", temperature=1.0)
            again = await client.responses.create(
                model=MAIN,
                input=[{"type": "item_reference", "id": "msg_1"}, {"role": "user", "content": "say hello"}],
                tools=[{"type": "web_search"}],
            )
        assert (answer.output_text, again.output_text, decided(guard)) == ("Here it is.", "Here it is.", [])


@pytest.mark.parametrize(
    "body",
    [
        asked(),
        {"model": MAIN, "input": "a", "previous_response_id": "resp_1"},
        {"model": MAIN, "input": "a", "conversation": "conv_1"},
        {"model": MAIN, "prompt": {"id": "pmpt_1"}},
        {"model": MAIN, "input": [{"type": "item_reference", "id": "tso_1"}]},
        {
            "model": MAIN,
            "input": "a",
            "tools": [{"type": "mcp", "server_label": "x", "server_url": "https://x.example"}],
        },
        {"model": MAIN, "input": "a", "extra_body": {"tools_of_tomorrow": ["tool_1"]}},
    ],
)
async def test_a_route_that_no_surface_claims_makes_no_images(open_guard: Callable[..., Guard], body: Any) -> None:
    guard = open_guard(base=RESPONSES.replace(", POST /v1/responses", ""))
    async with asgi_door(guard, create_app()) as client:
        with pytest.raises(openai.PermissionDeniedError) as caught:
            await client.responses.create(**body)
    assert (caught.value.code, decided(guard)) == ("policy_no_surface", [("deny", ["surface.none"])])


async def test_a_method_in_a_header_is_no_way_around(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard()
    async with asgi_door(guard, create_app()) as client:
        with pytest.raises(openai.PermissionDeniedError):
            await client.get(
                "/images/generations", options={"headers": {"X-HTTP-Method-Override": "POST"}}, cast_to=object
            )


async def test_a_method_in_a_header_is_no_way_around_the_look_at_the_body(open_guard: Callable[..., Guard]) -> None:
    guard = open_guard(base=RESPONSES.replace(", POST /v1/responses", ""))
    sent = {"method": "GET", "url": "/v1/responses", "json": asked(), "headers": {"x-http-method-override": "POST"}}
    door = PolicyGuardMiddleware(create_app(), guard=guard, caller=lambda scope: {"user": "u1"})
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(door), base_url="http://app.test") as client:
        answer = await client.request(**sent)
    assert (answer.status_code, decided(guard)) == (403, [("deny", ["surface.none"])])


@pytest.mark.parametrize(("path", "closed"), [("/v1/responses", True), ("/chat", False)])
async def test_a_socket_of_the_responses_api_is_closed(
    open_guard: Callable[..., Guard], path: str, closed: bool
) -> None:
    guard = open_guard()
    reached, sent = [], []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])

    async def send(message: Any) -> None:
        sent.append(message["type"])

    door = PolicyGuardMiddleware(app, guard=guard, caller=lambda scope: {"user": "u1"})
    await door({"type": "websocket", "path": path, "headers": []}, None, send)  # type: ignore[arg-type]
    assert (reached, sent) == (([], ["websocket.close"]) if closed else ([path], []))
    assert len(decided(guard)) == closed


# ---- one ticket, two doors --------------------------------------------------------------------------------


async def test_the_call_inside_an_admitted_request_runs_on_its_ticket(
    open_guard: Callable[..., Guard], sandbox: Any
) -> None:
    guard = open_guard()
    inner = guarded(
        AsyncOpenAI(api_key="sk-sandbox", base_url=f"{sandbox.url}/v1", max_retries=0),
        guard,
        surface="avatars",
        caller=lambda: {"user": "u1"},
    )

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body = (await receive())["body"]
        answer = await inner.with_raw_response.responses.create(**json.loads(body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"application/json")]})
        await send({"type": "http.response.body", "body": answer.http_response.content})

    async with asgi_door(guard, app) as client:
        await client.responses.create(**asked(max_tool_calls=2))
    await inner.close()
    assert [leg.type for leg in legs(guard)] == ["leg.settled"]
    assert decided(guard) == [("allow", [])]


def test_batches_lead_nowhere(open_guard: Callable[..., Guard], sandbox: Any) -> None:
    guard = open_guard()
    with client_door(guard, sandbox) as client, pytest.raises(openai.PermissionDeniedError):
        client.batches.create(endpoint="/v1/images/generations", input_file_id="file_1", completion_window="24h")
    assert sandbox.counts()["generations"] == 0


def test_the_sandbox_counts_a_batch_that_gets_through(sandbox: Any) -> None:
    with OpenAI(api_key="sk-sandbox", base_url=f"{sandbox.url}/v1", max_retries=0) as client:
        client.batches.create(endpoint="/v1/images/generations", input_file_id="file_1", completion_window="24h")
    assert sandbox.counts()["generations"] == 1

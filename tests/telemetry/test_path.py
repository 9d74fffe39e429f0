"""Spans and metrics of one request: the same from sync and async code, whatever becomes of it."""

from __future__ import annotations

import contextvars
import json
import logging
from collections.abc import Callable
from typing import Any

import anyio
import httpx2
import pytest
from adapters.upstream import Upstream
from openai import OpenAI
from opentelemetry.context import get_current
from opentelemetry.trace import get_current_span
from support import MODEL, SURFACE, caller, request
from telemetry.listening import Heard

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.transport import guarded
from policyguard.errors import StoreUnavailable
from policyguard.flow.drive import drive
from policyguard.flow.states import LegState
from policyguard.flow.steps import Moderate, Settled
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.request import Failure, Outcome, Usage, Verdict

pytestmark = pytest.mark.anyio
BUDGET = "budgets: [{id: day, limit: $1 / day, alert_at: [10%]}]\n"
REVIEWERS = "review: {reviewers: [group:trust], escalate: [{after: 1h, to: [group:oncall]}]}\n"
USAGE = Outcome(status=200, usage=Usage(input_text_tokens=10, output_image_tokens=196), latency_ms=1500)
Opener = Callable[..., Guard]
S = "policyguard.surface"


def ask(guard: Guard, **changes: Any) -> Any:
    return guard.admit(request(**changes), caller(), surface="avatars")


async def aask(guard: Guard, **changes: Any) -> Any:
    return await guard.aadmit(request(**changes), caller(), surface="avatars")


def upstream(guard: Guard, outcome: Outcome = USAGE) -> Any:
    ticket = ask(guard).ticket
    guard.sent(ticket)
    with guard.alive(ticket):
        pass
    guard.settle(ticket, outcome)
    return ticket


async def aupstream(guard: Guard) -> None:
    ticket = (await aask(guard)).ticket
    await guard.asent(ticket)
    with guard.alive(ticket):
        pass
    await guard.asettle(ticket, USAGE)


TREE = {
    "host": None,
    "policyguard.admit": "host",
    "policyguard.check_paused": "policyguard.admit",
    "policyguard.screen": "policyguard.admit",
    "policyguard.moderate": "policyguard.admit",
    "policyguard.judge": "policyguard.admit",
    "policyguard.reserve": "policyguard.admit",
    f"generate_content {MODEL}": "host",
    "policyguard.settle": "host",
}


def test_a_guarded_request_has_a_span_for_each_stage_below_the_hosts(open_guard: Opener, heard: Heard) -> None:
    guard = open_guard()
    with heard.tracing.get_tracer("host").start_as_current_span("host"):
        upstream(guard)
    assert heard.tree() == TREE


async def test_async_code_has_the_same_spans(open_guard: Opener, heard: Heard) -> None:
    guard = open_guard()
    with heard.tracing.get_tracer("host").start_as_current_span("host"):
        await aupstream(guard)
    assert heard.tree() == TREE


def test_without_a_span_of_the_host_the_call_and_its_end_belong_to_the_admission(
    open_guard: Opener, heard: Heard
) -> None:
    upstream(open_guard())
    assert heard.tree()[f"generate_content {MODEL}"] == "policyguard.admit"
    assert len({span.context.trace_id for span in heard.spans if span.context}) == 1


def test_connections_to_the_database_that_were_cut_are_counted(open_guard: Opener, heard: Heard) -> None:
    for told in open_guard().store.on_cut:
        told()
    assert heard.metric("policyguard.store.cut") == [({}, 1)]


def test_the_call_says_what_was_asked_and_what_it_used(open_guard: Opener, heard: Heard) -> None:
    ticket = upstream(open_guard())
    assert dict(heard.span(f"generate_content {MODEL}").attributes or {}) == {
        "gen_ai.operation.name": "generate_content",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": MODEL,
        "gen_ai.output.type": "image",
        "gen_ai.request.choice.count": 1,
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.output_tokens": 196,
        "gen_ai.usage.text.input_tokens": 10,
        "gen_ai.usage.image.input_tokens": 0,
        "policyguard.usage.image.output_tokens": 196,
        "http.response.status_code": 200,
        "policyguard.leg.id": ticket.leg_id,
        "policyguard.leg.state": "settled",
        "policyguard.decision.id": ticket.decision_id,
        "policyguard.surface": "avatars",
        "policyguard.attempts": 1,
        "policyguard.cost.ceiling_micros": ticket.ceiling_micros,
        "policyguard.cost.charged_micros": 5930,
    }


def test_tokens_of_a_main_model_stand_apart(open_guard: Opener, heard: Heard) -> None:
    upstream(open_guard(), Outcome(status=200, usage=Usage(output_image_tokens=196, main_input_tokens=50)))
    attributes = heard.span(f"generate_content {MODEL}").attributes or {}
    assert attributes["policyguard.usage.main.input_tokens"] == 50
    assert attributes["gen_ai.usage.input_tokens"] == 0


def test_a_refusal_names_its_rules_and_nothing_of_what_was_asked(open_guard: Opener, heard: Heard) -> None:
    answer = ask(open_guard(), model="a-model-of-ada", n=4)
    attributes = dict(heard.span("policyguard.admit").attributes or {})
    assert (attributes["policyguard.reasons"], attributes["gen_ai.request.model"]) == (
        ("request.model", "request.n", "request.price"),
        "other",
    )
    assert attributes["policyguard.decision.id"] == answer.decision.id
    assert heard.metric("policyguard.decisions") == [
        ({S: "avatars", "policyguard.outcome": "deny", "policyguard.reason.kind": "parameter"}, 1)
    ]


def test_what_is_counted_is_money_images_and_legs(open_guard: Opener, heard: Heard) -> None:
    guard = open_guard(avatars=SURFACE + BUDGET)
    ticket = upstream(guard)
    upstream(guard, Outcome(failure=Failure.TIMEOUT, latency_ms=600_000))
    model = {S: "avatars", "policyguard.model": MODEL}
    settled, presumed = ({**model, "policyguard.leg.state": state} for state in ("settled", "presumed"))
    assert heard.metric("policyguard.cost.reserved") == [(model, 2 * ticket.ceiling_micros)]
    assert heard.metric("policyguard.cost.charged") == [(settled, 5930), (presumed, ticket.ceiling_micros)]
    assert heard.metric("policyguard.images") == [(settled, 1), (presumed, 1)]
    assert [(point["policyguard.failure"], value) for point, value in heard.metric("policyguard.legs")] == [
        ("none", 1),
        ("timeout", 1),
    ]
    assert [value for _, value in heard.metric("gen_ai.client.operation.duration")] == [1.5, 600.0]
    assert [value for _, value in heard.metric("gen_ai.client.token.usage")] == [10, 196]


def test_a_leg_that_is_settled_twice_is_counted_once(open_guard: Opener, heard: Heard) -> None:
    guard = open_guard()
    ticket = upstream(guard)
    guard.settle(ticket, USAGE)
    assert [value for _, value in heard.metric("policyguard.legs")] == [1]


def test_a_budget_that_reaches_a_threshold_is_counted(open_guard: Opener, heard: Heard) -> None:
    guard = open_guard(avatars=SURFACE + "budgets: [{id: day, limit: 1 images / day, alert_at: [50%, 100%]}]\n")
    ask(guard)
    assert heard.metric("policyguard.budget.alerts") == [({"policyguard.budget.id": "day"}, 2)]


@pytest.mark.parametrize(
    ("error", "word"), [("timeout", "timeout"), ("status_503", "status_503"), ("adas_word", "other")]
)
def test_moderation_that_is_down_is_counted_in_a_word_of_ours(
    open_guard: Opener, heard: Heard, error: str, word: str
) -> None:
    ask(open_guard(moderator=ScriptedModerator(error=error)))
    assert heard.metric("policyguard.moderation.unavailable") == [({S: "avatars", "policyguard.error": word}, 1)]


def test_questions_are_a_stage_with_moderation_and_what_is_not_answered_is_counted(
    open_guard: Opener, heard: Heard
) -> None:
    asking = (
        SURFACE
        + REVIEWERS
        + "questions: {logo: {ask: Is there a logo?}}\nrules: [{id: a, when: answers.logo > 0.5, then: deny}]\n"
    )
    ask(open_guard(avatars=asking, moderator=ScriptedModerator(answers={"logo": None})))
    assert {"policyguard.screen", "policyguard.look", "policyguard.judge"} <= heard.tree().keys()
    ((labels, count),) = heard.metric("policyguard.moderation.unavailable")
    assert (labels[S], count) == ("avatars", 1)


def test_an_exception_is_recorded_by_its_kind_alone(
    open_guard: Opener, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = open_guard()
    with pytest.raises(RuntimeError), guard.alive(ask(guard).ticket):
        raise RuntimeError("a cat")
    monkeypatch.setattr(guard.store, "perform", lambda step, now: (_ for _ in ()).throw(ValueError("a cat")))
    with pytest.raises(ValueError, match="a cat"):
        ask(guard)
    *_, stage, whole = heard.spans
    assert [(dict(span.attributes or {}), list(span.events)) for span in (stage, whole)] == [
        ({"error.type": "ValueError"}, [])
    ] * 2
    assert (whole.status.is_ok, whole.status.description) == (False, None)


def test_a_store_that_is_down_is_a_decision_too(
    open_guard: Opener, heard: Heard, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    guard = open_guard()
    monkeypatch.setattr(guard.store, "perform", lambda step, now: (_ for _ in ()).throw(StoreUnavailable("is down")))
    answer = ask(guard)
    kind = {S: "avatars", "policyguard.outcome": "deny", "policyguard.reason.kind": "unavailable"}
    assert heard.metric("policyguard.decisions") == [(kind, 1)]
    assert [(record.levelno, record.policyguard["event"]) for record in caplog.records] == [  # type: ignore[attr-defined]
        (logging.ERROR, "store.down"),
        (logging.WARNING, "request.decided"),
    ]
    assert answer.status == 503


def test_a_surface_that_there_is_not_is_no_label(open_guard: Opener, heard: Heard) -> None:
    open_guard().admit(request(), caller(), surface="whatever a path said")
    ((labels, _),) = heard.metric("policyguard.decisions")
    assert labels[S] == "none"


def test_every_stage_has_its_time(open_guard: Opener, heard: Heard) -> None:
    upstream(open_guard())
    stages = [labels["policyguard.stage"] for labels, _ in heard.metric("policyguard.stage.duration")]
    assert stages == ["check_paused", "screen", "moderate", "judge", "reserve", "admit", "settle"]


def test_an_unsettled_leg_keeps_its_span_no_longer_than_its_end(
    open_guard: Opener, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    guard = open_guard()
    ticket = ask(guard).ticket
    guard.sent(ticket)
    monkeypatch.setattr(guard.store, "perform", lambda step, now: (_ for _ in ()).throw(StoreUnavailable("is down")))
    with guard.alive(ticket):
        pass
    guard.settle(ticket, USAGE)
    assert heard.span(f"generate_content {MODEL}").end_time is not None


# ---- context ----------------------------------------------------------------------------------------------


async def test_what_runs_inside_the_call_is_a_child_of_it(open_guard: Opener, heard: Heard) -> None:
    """Of the moderator's own HTTP client as well: in threads and in tasks."""
    seen: dict[str, str] = {}

    class Watching(ScriptedModerator):
        def moderate(self, step: Moderate) -> Verdict:
            seen["moderator"] = get_current_span().name  # type: ignore[attr-defined]
            return super().moderate(step)

    guard = open_guard(moderator=Watching())
    await aupstream(guard)
    assert seen == {"moderator": "policyguard.moderate"}
    ticket = (await aask(guard)).ticket
    before = get_current()
    with guard.alive(ticket):
        seen["task"] = get_current_span().name  # type: ignore[attr-defined]
        await anyio.to_thread.run_sync(lambda: seen.update(thread=get_current_span().name))  # type: ignore[attr-defined]
    assert (seen["task"], seen["thread"], get_current()) == (f"generate_content {MODEL}",) * 2 + (before,)


def test_requests_at_once_do_not_mix(open_guard: Opener, heard: Heard) -> None:
    guard = open_guard()

    async def one(number: int) -> None:
        with heard.tracing.get_tracer("host").start_as_current_span(f"host {number}"):
            await aupstream(guard)

    async def run() -> None:
        async with anyio.create_task_group() as tasks:
            for number in range(20):
                tasks.start_soon(one, number)

    anyio.run(run)
    traces: dict[int, list[str]] = {}
    for span in heard.spans:
        assert span.context is not None
        traces.setdefault(span.context.trace_id, []).append(span.name)
    assert {len(names) for names in traces.values()} == {9}


def event(kind: str, **more: Any) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **more})}\n\n".encode()


def test_a_stream_that_ends_elsewhere_stays_in_its_trace(open_guard: Opener, heard: Heard) -> None:
    done = event("image_generation.completed", b64_json="aGk=", usage={"input_tokens": 10, "output_tokens": 196})

    def answer(sent: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, content=done, headers={"content-type": "text/event-stream"})

    below = httpx2.Client(transport=httpx2.MockTransport(answer))
    client = guarded(
        OpenAI(api_key="k", base_url="http://api.test/v1", http_client=below),
        open_guard(avatars=SURFACE.replace("n:       {max: 2}", "n: {max: 2}\n  partial_images: {max: 1}")),
        surface="avatars",
        caller=lambda: caller(),
    )
    with heard.tracing.get_tracer("host").start_as_current_span("host"):
        stream = client.images.generate(prompt="a cat", stream=True)
        assert get_current_span().name == "host"  # type: ignore[attr-defined]
    contextvars.Context().run(lambda: list(stream))
    settle = [span for span in heard.spans if span.name == "policyguard.settle"]
    host, call = heard.span("host"), heard.span(f"generate_content {MODEL}")
    assert {span.context.trace_id for span in settle if span.context} == {host.context.trace_id}  # type: ignore[union-attr]
    assert (call.attributes or {})["gen_ai.usage.output_tokens"] == 196


@pytest.mark.parametrize("prompt", ["a cat", "a dog, which is looked at again"])
async def test_a_call_that_takes_the_ticket_stands_below_the_request_around_it(
    open_guard: Opener, heard: Heard, prompt: str
) -> None:
    guard, api = open_guard(), Upstream()
    client = guarded(api.async_client(), guard, surface="avatars")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await client.images.generate(prompt=prompt, model=MODEL, size="1024x1024", quality="low")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"{}"})

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"prompt": "a cat"}', "more_body": False}

    async def send(message: Any) -> None:
        return None

    headers = [(b"content-type", b"application/json"), (b"x-user-id", b"u1")]
    scope = {"type": "http", "method": "POST", "path": "/v1/images/generations", "headers": headers}
    door = PolicyGuardMiddleware(app, guard=guard)
    await door({**scope, "client": ("127.0.0.1", 5), "query_string": b""}, receive, send)
    inner, outer = [span for span in heard.spans if span.name == f"generate_content {MODEL}"]
    assert inner.parent is not None
    assert outer.context is not None
    assert inner.parent.span_id == outer.context.span_id
    used = [(span.attributes or {}).get("gen_ai.usage.output_tokens") for span in (inner, outer)]
    assert used == [196, None]
    assert guard.telemetry.spans._legs == {}


def test_legs_that_nobody_settles_are_forgotten_in_the_end(
    open_guard: Opener, heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("policyguard.telemetry.spans._MOST", 3)
    guard = open_guard()
    for _ in range(10):
        with guard.alive(ask(guard).ticket):
            pass
    assert len(guard.telemetry.spans._legs) == 3
    assert [span.name for span in heard.spans].count(f"generate_content {MODEL}") == 7


def test_a_request_without_room_in_its_budget_has_reserved_nothing(open_guard: Opener, heard: Heard) -> None:
    guard = open_guard(avatars=SURFACE + "budgets: [{id: day, limit: $0.001 / day}]\n")
    assert ask(guard).code == "policy_budget_exceeded"
    assert heard.metric("policyguard.cost.reserved") == []


# ---- answers that are looked at ---------------------------------------------------------------------------


def looked_at(said: Any) -> Any:
    """A flow that moderates what came out and ends the leg with it."""
    yield Moderate("omni-moderation-latest", request(), False, True, 1.0)
    yield "settle"
    return said


@pytest.mark.parametrize("outcome", ["release", "withhold", "hold"])
def test_an_answer_that_is_looked_at_is_a_stage_that_settles(open_guard: Opener, heard: Heard, outcome: str) -> None:
    guard = open_guard(avatars=SURFACE + "rules: [{id: two, when: request.n == 2, then: review}]\n" + REVIEWERS)
    said = {"release": None, "withhold": ask(guard, n=9), "hold": ask(guard, n=2)}[outcome]
    ticket = ask(guard).ticket
    heard.exporter.clear()
    answers = {"settle": Settled(LegState.SETTLED, 5930, 6000, True)}
    with guard.alive(ticket):
        pass
    drive(
        guard.telemetry.inspecting(looked_at(said), ticket, USAGE),
        lambda step: answers.get(step) if isinstance(step, str) else Verdict(model="m"),
    )
    assert heard.metric("policyguard.output.inspected") == [({S: "avatars", "policyguard.outcome": outcome}, 1)]
    assert [value for _, value in heard.metric("policyguard.cost.charged")] == [5930]
    assert (heard.span(f"generate_content {MODEL}").attributes or {})["gen_ai.usage.output_tokens"] == 196
    assert heard.tree()["policyguard.moderate"] == "policyguard.inspect"
    assert (heard.span("policyguard.inspect").attributes or {})["policyguard.leg.state"] == "settled"

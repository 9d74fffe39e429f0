"""The scope is the app's own: what stands around the guard reads what the app put into it, beside real middleware."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import sentry_sdk
from fastapi import FastAPI, Request, Response
from opentelemetry.instrumentation.asgi import OpenTelemetryMiddleware
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import REGISTRY
from sentry_sdk.integrations.asgi import SentryAsgiMiddleware
from slowapi import Limiter
from slowapi.middleware import SlowAPIASGIMiddleware, SlowAPIMiddleware
from starlette.testclient import TestClient
from starlette_exporter import PrometheusMiddleware
from support import SURFACE

from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.fastapi import decision
from policyguard.decision import Decision
from policyguard.errors import ConfigError
from policyguard.guard.guard import Guard

PATH = "/banners/v1/images/generations"
USAGE = {"usage": {"input_tokens": 10, "output_tokens": 196}, "data": []}
USER = {"x-user-id": "u1"}
BODY = {"prompt": "a cat"}
HERE = SURFACE.replace("POST /v1/images/generations", f"POST {PATH}")


@pytest.fixture
def app(open_guard: Callable[..., Guard]) -> FastAPI:
    """A guarded app, whose handler leaves something in the state of the request."""
    app = FastAPI()
    app.add_middleware(PolicyGuardMiddleware, guard=open_guard(avatars=HERE))

    @app.post("/{place}/v1/images/generations")
    async def draw(request: Request, response: Response, place: str) -> dict[str, Any]:
        request.state.drawn = place
        return USAGE

    return app


def ask(app: Any, **more: Any) -> Any:
    return TestClient(app, client=("127.0.0.1", 50_000), **more).post(PATH, json=BODY, headers=USER)


class Around:
    """Remembers the scope that it gave, and what stood in it when the answer began and when it was over."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.begun: dict[str, Any] = {}
        self.ended: dict[str, Any] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        async def sees(message: Any) -> None:
            self.begun = self.begun or dict(scope)
            await send(message)

        self.given = dict(scope)
        self.state = Request(scope).state  # made before the guard, as middleware outside does
        await self.app(scope, receive, sees)
        self.ended = dict(scope)


def test_what_stands_outside_reads_route_endpoint_parameters_and_state(app: FastAPI) -> None:
    around = Around(app)
    assert ask(around).status_code == 200
    for seen in (around.begun, around.ended):
        assert (seen["route"].path, seen["endpoint"].__name__) == ("/{place}/v1/images/generations", "draw")
        assert seen["path_params"] == {"place": "banners"}
        assert (around.state.drawn, seen["state"]["drawn"]) == ("banners", "banners")
    assert isinstance(around.state.policyguard, Decision)


def test_after_the_answer_the_scope_says_what_the_client_sent(app: FastAPI) -> None:
    around = Around(app)
    ask(around)
    for name in ("headers", "method", "extensions"):
        assert around.ended.get(name) == around.given.get(name)
    assert around.begun["headers"] != around.given["headers"]  # while it runs: what was decided
    assert ("policyguard" in around.begun, "policyguard" in around.ended) == (True, False)


@pytest.mark.anyio
async def test_who_runs_the_app_again_with_the_same_scope_is_decided_again(open_guard: Callable[..., Guard]) -> None:
    """Middleware that tries again, outside of the guard."""
    guard, bodies = open_guard(avatars=HERE), []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        bodies.append((await receive())["body"])
        await send({"type": "http.response.start", "status": 500, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"prompt": "a cat"}'}

    async def send(message: Any) -> None:
        pass

    headers = [(b"content-type", b"application/json"), (b"x-user-id", b"u1"), (b"content-length", b"19")]
    scope = {"type": "http", "method": "POST", "path": PATH, "headers": headers, "client": ("127.0.0.1", 5)}
    for _ in range(2):
        await PolicyGuardMiddleware(app, guard=guard)(scope, receive, send)
    decided = [row for row in guard.store.events(limit=100) if row.event.type == "request.decided"]
    assert (len(bodies), len(decided)) == (2, 2)


def test_a_state_that_a_server_shares_among_requests_lends_no_decision(open_guard: Callable[..., Guard]) -> None:
    app = FastAPI()
    app.add_middleware(PolicyGuardMiddleware, guard=open_guard(avatars=HERE))
    shared: dict[str, Any] = {}

    async def careless(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": shared}, receive, send)

    @app.post(PATH)
    async def draw(request: Request) -> Any:
        await decision(request)
        return USAGE

    @app.post("/other")
    async def other(request: Request) -> str:
        return (await decision(request)).id

    assert ask(careless).status_code == 200
    with pytest.raises(ConfigError):
        TestClient(careless).post("/other")


# ---- beside others ----------------------------------------------------------------------------------------


def test_starlette_exporter_counts_a_guarded_request_by_its_route(app: FastAPI) -> None:
    app.add_middleware(
        PrometheusMiddleware, app_name="guarded", prefix="scope", group_paths=True, filter_unhandled_paths=True
    )
    ask(app)
    labels = {"app_name": "guarded", "method": "POST", "path": "/{place}/v1/images/generations", "status_code": "200"}
    assert REGISTRY.get_sample_value("scope_requests_total", labels) == 1.0


@pytest.mark.parametrize("outside", [SlowAPIMiddleware, SlowAPIASGIMiddleware])
def test_slowapi_limits_and_writes_its_headers_around_the_guard(app: FastAPI, outside: Any) -> None:
    limiter = Limiter(key_func=lambda: "everybody", default_limits=["1/hour"], headers_enabled=True)
    app.state.limiter = limiter
    app.add_middleware(outside)
    first, second = ask(app), ask(app)
    assert (first.status_code, first.headers["x-ratelimit-limit"], "drawn" in first.text) == (200, "1", False)
    assert (second.status_code, "x-policyguard-decision" in second.headers) == (429, False)


def test_slowapi_leaves_what_a_guarded_handler_is_limited_to_in_the_state(open_guard: Callable[..., Guard]) -> None:
    app = FastAPI()
    app.add_middleware(PolicyGuardMiddleware, guard=open_guard(avatars=HERE))
    app.state.limiter = limiter = Limiter(key_func=lambda: "everybody")

    @app.post(PATH)
    @limiter.limit("5/hour")
    async def draw(request: Request) -> Any:
        return USAGE

    around = Around(app)
    ask(around)
    assert str(around.state.view_rate_limit[0]) == "5 per 1 hour"


@pytest.fixture
def told() -> Iterator[list[Any]]:
    """What Sentry would send: nothing leaves this process."""
    events: list[Any] = []

    class Local(sentry_sdk.Transport):
        def capture_envelope(self, envelope: Any) -> None:
            events.extend(item.payload.json for item in envelope.items if item.payload.json)

    client = sentry_sdk.Client(
        dsn="http://key@127.0.0.1:9/1", transport=Local, default_integrations=False, traces_sample_rate=1.0
    )
    with sentry_sdk.isolation_scope(), sentry_sdk.new_scope() as scope:
        scope.set_client(client)
        yield events
    client.close(timeout=0)


def test_sentry_names_the_transaction_of_a_guarded_request(app: FastAPI, told: list[Any]) -> None:
    door = SentryAsgiMiddleware(app, mechanism_type="fastapi")  # as its own integrations mount it
    assert ask(door).status_code == 200
    assert [event["transaction"].rpartition(".")[2] for event in told] == ["draw"]


def test_sentry_names_the_transaction_of_a_guarded_handler_that_fails(
    open_guard: Callable[..., Guard], told: list[Any]
) -> None:
    app = FastAPI()
    app.add_middleware(PolicyGuardMiddleware, guard=open_guard(avatars=HERE))

    @app.post(PATH)
    async def fails() -> None:
        raise RuntimeError("the handler failed")

    ask(SentryAsgiMiddleware(app, mechanism_type="fastapi"), raise_server_exceptions=False)
    error = next(event for event in told if "exception" in event)
    assert error["transaction"].rpartition(".")[2] == "fails"
    lengths = [value for name, value in error["request"]["headers"].items() if name.lower() == "content-length"]
    assert lengths == [str(len(b'{"prompt":"a cat"}'))]  # of what the client sent


def test_opentelemetry_measures_a_guarded_request_by_its_route(app: FastAPI) -> None:
    reader = InMemoryMetricReader()
    door = OpenTelemetryMiddleware(
        app, tracer_provider=TracerProvider(), meter_provider=MeterProvider(metric_readers=[reader])
    )
    assert ask(door).status_code == 200
    data = reader.get_metrics_data()
    points = [
        point
        for resource in (data.resource_metrics if data else [])
        for scope in resource.scope_metrics
        for metric in scope.metrics
        if "duration" in metric.name
        for point in metric.data.data_points
    ]
    assert {point.attributes.get("http.target") for point in points} == {"/{place}/v1/images/generations"}

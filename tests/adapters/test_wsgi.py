"""The WSGI door with real Flask and Django apps; what every door has in common is in the acceptance matrix."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import flask
import pytest
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.http import HttpRequest, JsonResponse, StreamingHttpResponse
from django.test import override_settings
from django.urls import path
from support import SURFACE
from werkzeug.test import Client, EnvironBuilder

import policyguard
from policyguard.adapters.wsgi import KEY, PolicyGuardMiddleware
from policyguard.guard.current import current_caller
from policyguard.guard.guard import Guard

GENERATIONS = "/v1/images/generations"
USAGE = {"input_tokens": 10, "output_tokens": 196}
ANSWER = {"data": [{"b64_json": "eA=="}], "usage": USAGE}
EVENTS = [
    b'data: {"type": "image_generation.partial_image", "b64_json": "eA=="}\n\n',
    b'data: {"type": "image_generation.completed", "b64_json": "eA==", "usage": '
    + json.dumps(USAGE).encode()
    + b"}\n\n",
]
STREAMED = SURFACE.replace("{max: 2}", "{max: 2}\n  partial_images: {max: 2}")
Open = Callable[..., Guard]
seen: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_seen() -> None:
    seen.clear()


def note(environ: Any, body: bytes) -> None:
    seen.append((environ[KEY], environ["REQUEST_METHOD"], json.loads(body)))


def flask_app() -> Any:
    app = flask.Flask("images")

    @app.post(GENERATIONS)
    def draw() -> Any:
        note(flask.request.environ, flask.request.get_data())
        if flask.request.get_json().get("stream"):
            return flask.Response(iter(EVENTS), mimetype="text/event-stream")
        return flask.jsonify(ANSWER)

    @app.get("/")
    def home() -> str:
        return "home"

    return app.wsgi_app


def _draw(request: HttpRequest) -> Any:
    note(request.META, request.body)
    if json.loads(request.body).get("stream"):
        return StreamingHttpResponse(iter(EVENTS), content_type="text/event-stream")
    return JsonResponse(ANSWER)


URLS = (path(GENERATIONS[1:], _draw), path("", lambda request: JsonResponse({})))


@pytest.fixture(autouse=True)
def _django() -> Iterator[None]:
    if not settings.configured:
        settings.configure(SECRET_KEY="only for tests")
    with override_settings(ROOT_URLCONF=URLS, ALLOWED_HOSTS=["*"], MIDDLEWARE=[]):
        yield


APPS: dict[str, Callable[[], Any]] = {"flask": flask_app, "django": WSGIHandler}


@pytest.fixture(params=APPS)
def app(request: pytest.FixtureRequest) -> Any:
    return APPS[request.param]()


def door(guard: Guard, app: Any) -> Client:
    return Client(PolicyGuardMiddleware(app, guard=guard, caller=lambda environ: {"user": environ["HTTP_X_WHO"]}))


def ask(client: Client, document: Any, where: str = GENERATIONS) -> Any:
    return client.post(where, json=document, headers={"x-who": "u1"})


def ends(guard: Guard) -> list[Any]:
    rows = [row.event for row in guard.store.events(limit=100) if row.event.type.startswith("leg.")]
    return [(event.type, event.body["failure"], event.body["door"]) for event in rows]


# ---- real apps --------------------------------------------------------------------------------------------


def test_the_app_reads_what_was_decided_and_the_leg_is_settled(open_guard: Open, app: Any) -> None:
    guard = open_guard()
    answer = ask(door(guard, app), {"prompt": "a cat", "moderation": "low", "n": 2})
    assert (answer.status_code, answer.json) == (200, ANSWER)
    ((decision, method, asked),) = seen
    assert (answer.headers["x-policyguard-decision"], method) == (decision, "POST")
    assert (asked["moderation"], asked["n"], asked["size"]) == ("auto", 2, "1024x1024")
    assert asked["safety_identifier"] == guard.vault.safety_identifier("u1")
    assert ends(guard) == [("leg.settled", None, "wsgi")]


def test_a_refusal_never_reaches_the_app(open_guard: Open, app: Any) -> None:
    guard = open_guard()
    answer = ask(door(guard, app), {"prompt": "a cat", "n": 3})
    assert (answer.status_code, answer.json["error"]["param"], seen) == (400, "n", [])
    assert ends(guard) == []


def test_an_image_route_that_no_surface_claims_is_refused_and_others_pass(open_guard: Open, app: Any) -> None:
    client = door(open_guard(), app)
    assert ask(client, {"prompt": "a cat"}, "/v1/images/variations").json["error"]["code"] == "policy_no_surface"
    assert client.get("/", headers={"x-who": "u1"}).status_code == 200


def test_a_stream_passes_piece_by_piece_and_is_settled_once(open_guard: Open, app: Any) -> None:
    guard = open_guard(avatars=STREAMED)
    answer = ask(door(guard, app), {"prompt": "a cat", "stream": True, "partial_images": 1})
    assert list(answer.response) == EVENTS
    answer.close()
    assert ends(guard) == [("leg.settled", None, "wsgi")]


# ---- how answers end --------------------------------------------------------------------------------------


class Pieces:
    """An app of WSGI whose answer has these pieces; it says when it was closed."""

    def __init__(self, *pieces: bytes | Exception, kind: str = "application/json") -> None:
        self.pieces, self.kind, self.is_closed = pieces, kind, False

    def __call__(self, environ: Any, start_response: Any) -> Iterable[bytes]:
        start_response("200 OK", [("Content-Type", self.kind)])
        return self

    def __iter__(self) -> Iterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, Exception):
                raise piece
            yield piece

    def close(self) -> None:
        self.is_closed = True


def environ(document: Any = None, **more: Any) -> Any:
    given = EnvironBuilder(GENERATIONS, method="POST", json=document or {"prompt": "a cat"}).get_environ()
    return {**given, "HTTP_X_WHO": "u1", **more}


def raw(guard: Guard, app: Any) -> Any:
    return PolicyGuardMiddleware(app, guard=guard, caller=lambda given: {"user": given["HTTP_X_WHO"]})


def start(*_: Any) -> Any: ...


def test_who_leaves_before_the_end_is_presumed_and_the_app_is_closed(open_guard: Open) -> None:
    guard, app = open_guard(avatars=STREAMED), Pieces(*EVENTS, kind="text/event-stream")
    answer: Any = raw(guard, app)(environ({"prompt": "a cat", "stream": True}), start)
    assert next(iter(answer)) == EVENTS[0]
    answer.close()
    answer.close()
    assert (ends(guard), app.is_closed) == ([("leg.presumed", "cancelled", "wsgi")], True)


def test_an_answer_that_nobody_begins_to_read_ends_as_well(open_guard: Open) -> None:
    guard = open_guard()
    answer: Any = raw(guard, Pieces(json.dumps(ANSWER).encode()))(environ(), start)
    answer.close()
    assert ends(guard) == [("leg.presumed", "cancelled", "wsgi")]


def test_an_app_that_breaks_off_is_presumed(open_guard: Open) -> None:
    guard = open_guard()
    with pytest.raises(ZeroDivisionError):
        list(raw(guard, Pieces(b'{"data"', ZeroDivisionError()))(environ(), start))
    assert ends(guard) == [("leg.presumed", "error", "wsgi")]


def test_an_app_that_raises_at_once_is_presumed(open_guard: Open) -> None:
    guard = open_guard()

    def app(given: Any, start_response: Any) -> Any:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        raw(guard, app)(environ(), start)
    assert ends(guard) == [("leg.presumed", "error", "wsgi")]


def test_what_an_old_app_writes_comes_before_what_it_returns(open_guard: Open) -> None:
    guard, whole = open_guard(), json.dumps(ANSWER).encode()

    def app(given: Any, start_response: Any) -> Any:
        start_response("200 OK", [("Content-Type", "application/json")])(whole[:9])
        return [whole[9:]]

    assert b"".join(raw(guard, app)(environ(), start)) == whole
    assert ends(guard) == [("leg.settled", None, "wsgi")]


def test_a_caller_that_the_app_names_does_not_outlive_its_request(open_guard: Open) -> None:
    guard = open_guard()

    def app(given: Any, start_response: Any) -> Any:
        policyguard.caller(user="somebody").__enter__()
        start_response("200 OK", [])
        return []

    list(raw(guard, app)(environ(), start))
    assert current_caller().user is None


# ---- bodies -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("more", "status", "message"),
    [
        ({"CONTENT_LENGTH": str(10**9)}, 413, "the body is larger than"),
        ({"CONTENT_LENGTH": "50"}, 400, "the body is shorter than its declared length"),
        ({"CONTENT_LENGTH": ""}, 400, "the body is no JSON"),
        ({"CONTENT_LENGTH": "-1"}, 400, "the body is no JSON"),
    ],
)
def test_a_body_that_is_not_what_it_says_is_refused(
    open_guard: Open, more: dict[str, str], status: int, message: str
) -> None:
    told: list[str] = []
    given = environ(**more)
    body = b"".join(raw(open_guard(), Pieces())(given, lambda status, headers: told.append(status)))
    assert int(told[0].split()[0]) == status
    assert message in json.loads(body)["error"]["message"]


def test_a_body_of_no_declared_length_is_read_where_the_server_marks_its_end(open_guard: Open) -> None:
    guard = open_guard()
    text = json.dumps({"prompt": "a cat"}).encode()
    more = {"wsgi.input": io.BytesIO(text), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
    given = {name: value for name, value in environ(**more).items() if name != "CONTENT_LENGTH"}
    list(raw(guard, Pieces(json.dumps(ANSWER).encode()))(given, start))
    assert ends(guard) == [("leg.settled", None, "wsgi")]

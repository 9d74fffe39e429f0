"""Every door with a guard of its own, over one sandbox and one policies folder, and what a request shows at each.

All guards have one key, so that pseudonyms and hashes can be compared; each has its own record.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, Self

import httpx2
import openai
from acceptance.forms import JSON, STREAMED, Asked, Form, png
from anyio.from_thread import BlockingPortal, start_blocking_portal
from openai import AsyncOpenAI, OpenAI
from patience import HANGS_S
from starlette.applications import Starlette
from support import NOW
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wsgi import ClosingIterator

import policyguard
from policyguard.adapters import wsgi
from policyguard.adapters.asgi import PolicyGuardMiddleware
from policyguard.adapters.environ import scope_of
from policyguard.adapters.fastapi import lifespan
from policyguard.adapters.transport import guarded
from policyguard.decision import PolicyRefused
from policyguard.guard.guard import Guard
from policyguard.moderation.openai import OpenAIModerator
from policyguard.proxy.moderator import UpstreamModerator
from policyguard.proxy.serving import Options
from policyguard.proxy.serving import create_app as create_proxy
from policyguard.proxy.upstream import Upstream
from policyguard.sandbox import create_app as create_sandbox
from policyguard.sandbox.server import Server
from policyguard.wire.refusals import render

KEY = "sk-sandbox"
USER = {"user": "u1"}


@dataclass(frozen=True)
class Answer:
    """What the caller got. `body` is of an answer over HTTP; a refusal in Python is rendered as it would be there."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def document(self) -> Any:
        return json.loads(self.body)


class Door(Protocol):
    """`ask` returns when nothing of the request is left to be done, its leg included."""

    guard: Guard

    def ask(self, surface: str, form: Form, asked: Asked) -> Answer: ...


class World:
    """One sandbox and as many guards as there are doors."""

    def __init__(self, folder: Path, policies: Path, stack: ExitStack) -> None:
        self.folder, self.policies, self._stack = folder, policies, stack
        self.sandbox = create_sandbox()
        self.url = f"{self.stay(Server(self.sandbox)).url}/v1"
        self.http = self.stay(httpx2.Client(trust_env=False, timeout=HANGS_S))

    def stay(self, entered: Any) -> Any:
        """Until the world ends."""
        return self._stack.enter_context(entered)

    def guard(self, name: str, moderator: Any = None) -> Guard:
        return Guard.open(
            self.policies,
            store=f"sqlite:///{self.folder / name}.sqlite3",
            moderator=moderator or OpenAIModerator(base_url=self.url, api_key=KEY, retry_wait_s=0),
            key_file=self.folder / "key",
            watch=False,
            clock=lambda: NOW,
        )

    def counts(self) -> Any:
        return self.http.get(f"{self.url[:-3]}/sandbox/requests").json()

    def reset(self) -> None:
        self.http.delete(f"{self.url[:-3]}/sandbox/requests")

    @contextmanager
    def fault(self, path: str, fault: str) -> Iterator[None]:
        faults = f"{self.url[:-3]}/sandbox/faults"
        assert self.http.post(faults, json={"path": path, "fault": fault}).status_code == 200
        yield
        self.http.delete(faults)


# ---- over HTTP --------------------------------------------------------------------------------------------


class Watched:
    """An app that says when it is done with a request: an answer is there before its leg has ended."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.done = threading.Semaphore(0)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        try:
            await self.app(scope, receive, send)
        finally:
            if scope["type"] == "http":
                self.done.release()

    def wait(self) -> None:
        assert self.done.acquire(timeout=HANGS_S)


Places = Callable[[str], tuple[str, dict[str, str]]]


class HttpDoor:
    """A door with a server before it. `place` says where a surface is."""

    def __init__(self, world: World, guard: Guard, app: Any, place: Places, serve: Any = Server) -> None:
        self.guard, self._place = guard, place
        self._http, self._app = world.http, (Watched if serve is Server else WatchedWsgi)(app)
        self.url = world.stay(serve(self._app)).url

    @contextmanager
    def open(self, surface: str, form: Form, asked: Asked) -> Iterator[httpx2.Response]:
        """The answer with its body unread; what is not read of it is dropped."""
        base, headers = self._place(surface)
        body, content_type = form.write(asked)
        headers = {**headers, "content-type": content_type}
        with self._http.stream("POST", f"{self.url}{base}{form.path}", content=body, headers=headers) as response:
            yield response
        self._app.wait()

    def ask(self, surface: str, form: Form, asked: Asked) -> Answer:
        with self.open(surface, form, asked) as response:
            return Answer(response.status_code, response.headers, response.read())

    def leave(self, surface: str, form: Form, asked: Asked) -> None:
        with self.open(surface, form, asked) as response:
            next(response.iter_raw())


def asgi_door(world: World) -> HttpDoor:
    """The middleware before an app of its own, whose routes end like OpenAI's."""
    guard = world.guard("asgi")
    started = Starlette(lifespan=lifespan(guard))

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await started(scope, receive, send)
            return
        _, _, path = scope["path"][1:].partition("/")
        headers = [*scope["headers"], (b"authorization", f"Bearer {KEY}".encode())]
        await world.sandbox({**scope, "path": f"/{path}", "headers": headers}, receive, send)

    place = lambda surface: (f"/{surface}/v1", {"x-user-id": "u1"})  # noqa: E731
    return HttpDoor(world, guard, PolicyGuardMiddleware(app, guard=guard), place)


class WatchedWsgi:
    """The same for WSGI, where the server says by `close` that it is done."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.done = threading.Semaphore(0)

    def __call__(self, environ: Any, start_response: Any) -> Any:
        try:
            answer = self.app(environ, start_response)
        except BaseException:
            self.done.release()
            raise
        return ClosingIterator(answer, self.done.release)

    def wait(self) -> None:
        assert self.done.acquire(timeout=HANGS_S)


class WsgiServer:
    """Werkzeug's, with a thread for each request."""

    def __init__(self, app: Any) -> None:
        self._server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=_Quiet)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(HANGS_S)
        self._server.server_close()


class _Quiet(WSGIRequestHandler):
    protocol_version = "HTTP/1.1"

    def log(self, *_: object) -> None: ...


def wsgi_door(world: World) -> HttpDoor:
    """The middleware before an app that begins to answer when it is asked for the first piece."""
    guard = world.stay(world.guard("wsgi"))

    def app(environ: Any, start_response: Any) -> Iterator[bytes]:
        scope = scope_of(environ)
        _, _, path = scope["path"][1:].partition("/")
        mine = (b"host", b"content-length", b"connection")
        headers = [(name, value) for name, value in scope["headers"] if name not in mine]
        headers.append((b"authorization", f"Bearer {KEY}".encode()))
        body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
        with world.http.stream("POST", f"{world.url[:-3]}/{path}", content=body, headers=headers) as answer:
            hops = ("connection", "transfer-encoding", "date", "server")
            kept = [(name, value) for name, value in answer.headers.items() if name not in hops]
            start_response(f"{answer.status_code} {answer.reason_phrase}", kept)
            yield from answer.iter_raw()

    place = lambda surface: (f"/{surface}/v1", {"x-user-id": "u1"})  # noqa: E731
    return HttpDoor(world, guard, wsgi.PolicyGuardMiddleware(app, guard=guard), place, WsgiServer)


def proxy_door(world: World) -> HttpDoor:
    upstream = Upstream(key=KEY, base_url=world.url)
    guard = world.guard("proxy", UpstreamModerator(upstream))  # its server closes it
    surfaces = tuple(guard.policies.surfaces)
    guard.store.proxy_keys.create(
        "sk-key", name="test", surfaces=surfaces, caller=USER, names_user=False, by="ada", now=NOW
    )
    place = lambda surface: ("/v1", {"authorization": "Bearer sk-key", "x-policyguard-surface": surface})  # noqa: E731
    return HttpDoor(world, guard, create_proxy(Options(), (guard, upstream)), place)


# ---- the SDK ----------------------------------------------------------------------------------------------


class ClientDoor:
    """The guarded `OpenAI` client, by what lies below all its methods."""

    def __init__(self, world: World) -> None:
        self.guard = world.stay(world.guard("client"))
        self._plain = world.stay(OpenAI(api_key=KEY, base_url=world.url, max_retries=0))

    def _client(self, surface: str) -> OpenAI:
        return guarded(self._plain, self.guard, surface=surface, caller=lambda: USER)

    def ask(self, surface: str, form: Form, asked: Asked) -> Answer:
        try:
            response = self._client(surface).post(form.path, **posted(form, asked), cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            response = error.response
        return Answer(response.status_code, response.headers, response.content)

    def leave(self, surface: str, form: Form, asked: Asked) -> None:
        stream = self._client(surface).post(
            form.path, **posted(form, asked), cast_to=object, stream=True, stream_cls=openai.Stream[object]
        )
        next(iter(stream))
        stream.close()


class AsyncClientDoor:
    """The same for `AsyncOpenAI`, in an event loop of its own."""

    def __init__(self, world: World, portal: BlockingPortal) -> None:
        self.guard = world.guard("async_client")
        self._portal = portal
        self._plain = AsyncOpenAI(api_key=KEY, base_url=world.url, max_retries=0)
        world.stay(_last(lambda: portal.call(self._close)))

    async def _close(self) -> None:
        await self._plain.close()
        await self.guard.aclose()

    def _client(self, surface: str) -> AsyncOpenAI:
        return guarded(self._plain, self.guard, surface=surface, caller=lambda: USER)

    def ask(self, surface: str, form: Form, asked: Asked) -> Answer:
        return self._portal.call(self._ask, surface, form, asked)

    async def _ask(self, surface: str, form: Form, asked: Asked) -> Answer:
        try:
            response = await self._client(surface).post(form.path, **posted(form, asked), cast_to=httpx2.Response)
        except openai.APIStatusError as error:
            response = error.response
        return Answer(response.status_code, response.headers, response.content)

    def leave(self, surface: str, form: Form, asked: Asked) -> None:
        self._portal.call(self._leave, surface, form, asked)

    async def _leave(self, surface: str, form: Form, asked: Asked) -> None:
        stream = await self._client(surface).post(
            form.path, **posted(form, asked), cast_to=object, stream=True, stream_cls=openai.AsyncStream[object]
        )
        async for _ in stream:
            break
        await stream.close()


def posted(form: Form, asked: Asked) -> dict[str, Any]:
    """How the SDK is told; a form it writes itself."""
    body, content_type = form.write(asked)
    if content_type == JSON:
        return {"content": body, "options": {"headers": {"content-type": JSON}}}
    files = [("image", ("a.png", png(), "image/png"))]
    streamed = STREAMED if form.streams else {}
    return {
        "body": {**asked.values, **streamed},
        "files": files,
        "options": {"headers": {"content-type": "multipart/form-data"}},
    }


@contextmanager
def _last(close: Callable[[], object]) -> Iterator[None]:
    yield
    close()


# ---- functions --------------------------------------------------------------------------------------------


class DecoratorDoor:
    """A function that makes images or edits them by its arguments, with a plain client inside."""

    def __init__(self, world: World) -> None:
        self.guard = world.stay(world.guard("decorator"))
        self._plain = world.stay(OpenAI(api_key=KEY, base_url=world.url, max_retries=0))
        self._made: dict[str, Any] = {}

    def ask(self, surface: str, form: Form, asked: Asked) -> Answer:
        image = {"image": ("a.png", png(), "image/png")} if form.edits else {}
        function = self._made.get(surface) or self._made.setdefault(surface, self._function(surface))
        try:
            with policyguard.caller(**USER):
                function(**asked.values, **image)
        except PolicyRefused as error:
            status, headers, body = render(error.answer)
            return Answer(status, dict(headers), body)
        return Answer(200)

    def _function(self, surface: str) -> Any:
        @self.guard.enforce(
            surface,
            images=lambda result: [image.b64_json for image in result.data],
            restore=lambda images: images,
        )
        def draw(
            prompt: str,
            model: str | None = None,
            size: str | None = None,
            quality: str | None = None,
            n: int | None = None,
            moderation: str | None = None,
            safety_identifier: str | None = None,
            image: Any = None,
        ) -> Any:
            drawn: dict[str, Any] = {"prompt": prompt, "model": model, "size": size, "quality": quality, "n": n}
            if image is None:
                more = {"safety_identifier": safety_identifier}
                return self._plain.images.generate(**drawn, moderation=moderation, extra_body=more)  # type: ignore[arg-type]
            return self._plain.images.edit(**drawn, image=image, extra_body={"safety_identifier": safety_identifier})

        return draw


DOORS: Mapping[str, Callable[[World, BlockingPortal], Any]] = {
    "asgi": lambda world, _: asgi_door(world),
    "wsgi": lambda world, _: wsgi_door(world),
    "decorator": lambda world, _: DecoratorDoor(world),
    "client": lambda world, _: ClientDoor(world),
    "async client": AsyncClientDoor,
    "proxy": lambda world, _: proxy_door(world),
}
STREAMING = tuple(name for name in DOORS if name != "decorator")
LEAVING = tuple(name for name in STREAMING if name != "wsgi")  # a WSGI server does not tell an app that waits


@contextmanager
def all_doors(folder: Path, policies: Path) -> Iterator[tuple[World, dict[str, Any]]]:
    with start_blocking_portal() as portal, ExitStack() as stack:
        world = World(folder, policies, stack)
        yield world, {name: make(world, portal) for name, make in DOORS.items()}

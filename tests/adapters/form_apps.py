"""An app on each framework that answers with what it was sent: fields, and files by their digests.

Each is real: its own request object, its own parser of forms.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any

import flask
import orjson
import quart
from asgiref.wsgi import WsgiToAsgi
from django.core.handlers.asgi import ASGIRequest
from starlette.applications import Starlette
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

PATH = "/v1/images/edits"


def told(fields: Iterable[tuple[str, str]], files: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    """As JSON: each field and file in order."""
    return {
        "fields": [list(field) for field in fields],
        "files": [[name, sha256(data).hexdigest()] for name, data in files],
    }


async def _starlette(request: Request) -> Response:
    async with request.form() as form:
        items = form.multi_items()
        files = [(name, await value.read()) for name, value in items if isinstance(value, UploadFile)]
        return JSONResponse(told([(name, value) for name, value in items if isinstance(value, str)], files))


def starlette_app() -> Any:
    return Starlette(routes=[Route(PATH, _starlette, methods=["POST"])])


def quart_app() -> Any:
    app = quart.Quart("forms")

    async def view() -> Any:
        form, files = await quart.request.form, await quart.request.files
        return told(form.items(multi=True), [(name, file.read()) for name, file in files.items(multi=True)])

    app.add_url_rule(PATH, "view", view, methods=["POST"])
    return app


def flask_app() -> Any:
    app = flask.Flask("forms")

    def view() -> Any:
        files = flask.request.files.items(multi=True)
        return told(flask.request.form.items(multi=True), [(name, file.read()) for name, file in files])

    app.add_url_rule(PATH, "view", view, methods=["POST"])
    return WsgiToAsgi(app)


def django_app() -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        message = await receive()
        request = ASGIRequest(scope, io.BytesIO(message["body"]))
        fields = [(name, value) for name, values in request.POST.lists() for value in values]
        files = [(name, file.read()) for name, found in request.FILES.lists() for file in found]
        body = orjson.dumps(told(fields, files))
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


APPS: Mapping[str, Callable[[], Any]] = {
    "starlette": starlette_app,
    "quart": quart_app,
    "flask": flask_app,
    "django": django_app,
}

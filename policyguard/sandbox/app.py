"""The server: OpenAI's images, Responses, moderations, decisions and models routes.

Deterministic, with faults on demand and counters.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Awaitable, Callable, Mapping
from html import escape
from typing import Any

import anyio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from policyguard import pricing
from policyguard.request import AUTO, Size, parse_size
from policyguard.sandbox import scores
from policyguard.sandbox.counters import Counters
from policyguard.sandbox.edit_body import EditForm, read_edit
from policyguard.sandbox.events import events
from policyguard.sandbox.faults import FOR_STREAMS, HEADER, Faults, raise_fault, seconds
from policyguard.sandbox.moderations import decisions, moderations
from policyguard.sandbox.pictures import picture
from policyguard.sandbox.responses import batch_body, read_asked, response_body, response_events
from policyguard.sandbox.scores import output_script
from policyguard.sandbox.wire import ApiError, blocked, check_images, json_object, usable_model

CREATED = 1_764_000_000  # every answer's time: the same request gives the same bytes
NOTED = ("/v1/images/", "/v1/responses")
_IN_BATCHES = ("/v1/images/generations", "/v1/images/edits", "/v1/responses")


def create_app() -> Starlette:
    """A sandbox with its own faults and counters."""
    sandbox = _Sandbox()
    routes = [
        Route("/v1/images/generations", sandbox.api(sandbox.generations), methods=["POST"]),
        Route("/v1/images/edits", sandbox.api(sandbox.edits), methods=["POST"]),
        Route("/v1/responses", sandbox.api(sandbox.responses), methods=["POST"]),
        Route("/v1/batches", sandbox.api(sandbox.batches), methods=["POST"]),
        Route("/v1/moderations", sandbox.api(moderations), methods=["POST"]),
        Route("/v1/decisions", sandbox.api(decisions), methods=["POST"]),
        Route("/v1/models", sandbox.api(_models)),
        Route("/v1/models/{id}", sandbox.api(_model)),
        Route("/sandbox/requests", sandbox.counted, methods=["GET", "DELETE"]),
        Route("/sandbox/faults", sandbox.switched, methods=["POST", "DELETE"]),
        Route("/", sandbox.page),
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_route})


Handler = Callable[[Request, str | None], Awaitable[Response]]


class _Sandbox:
    def __init__(self) -> None:
        self.faults = Faults()
        self.counters = Counters()

    def api(self, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
        """What all of OpenAI's routes share: the key, the request id, faults, errors."""

        async def answer(request: Request) -> Response:
            path = request.url.path
            number = self.counters.arrived(path)
            headers = {"x-request-id": f"req_{number:08}", "openai-version": "2020-10-01", "openai-processing-ms": "7"}
            row: dict[str, Any] = {}
            request.state.row = row
            try:
                fault = self.faults.take(path, request.headers.get(HEADER))
                _check_key(request)
                if not path.startswith(NOTED):  # requests for images are noted first
                    raise_fault(fault)
                response = await handler(request, fault)
                if not isinstance(response, StreamingResponse):
                    await _wait(request, seconds(fault))  # the work is done and counted, whoever still listens
            except ApiError as error:
                if error.status in (429, 503):
                    headers["retry-after"] = "1"
                request.state.row["status"] = error.status
                return error.response(headers)
            request.state.row["status"] = response.status_code
            response.headers.update(headers)
            return _Cut(response) if fault == "cut" else response

        return answer

    # ---- images -----------------------------------------------------------------------------------------------

    async def generations(self, request: Request, fault: str | None) -> Response:
        return self._images(request, EditForm(await json_object(request), (), ()), fault)

    async def edits(self, request: Request, fault: str | None) -> Response:
        return self._images(request, await read_edit(request), fault)

    def _images(self, request: Request, asked: EditForm, fault: str | None) -> Response:
        retry, inputs = request.headers.get("x-stainless-retry-count"), asked.sizes
        row = self.counters.asked(request.url.path, asked.values, asked.files, len(inputs), retry)
        request.state.row = row
        raise_fault(fault)
        values = {name: value for name, value in asked.values.items() if value is not None}
        check_images(values)
        if fault in FOR_STREAMS and not values.get("stream"):
            raise ApiError(400, "This fault is for streams.", param="fault")
        prompt = values["prompt"]
        if scores.BLOCK in prompt:
            raise blocked(["violence"])
        body = answer_body(values, inputs)
        self.counters.made(row, edit=bool(inputs), images=len(body["data"]))
        if fault == "no_usage":
            del body["usage"]
        if fault == "nonsense":
            return Response(b"<html>not the API</html>", media_type="text/html")
        if values.get("stream"):
            kind = "image_edit" if inputs else "image_generation"
            stream = events(kind, body, values.get("partial_images", 0), fault)
            return StreamingResponse(stream, media_type="text/event-stream")
        return JSONResponse(body)

    async def responses(self, request: Request, fault: str | None) -> Response:
        asked = read_asked(await json_object(request))
        path, retry, streamed = (
            request.url.path,
            request.headers.get("x-stainless-retry-count"),
            asked.document.get("stream"),
        )
        if asked.calls:
            values = {**asked.values, "n": asked.document.get("max_tool_calls")}
            values["safety_identifier"] = asked.document.get("safety_identifier")
            request.state.row = self.counters.asked(path, values, (), len(asked.sizes), retry)
        raise_fault(fault)
        if fault in FOR_STREAMS and not streamed:
            raise ApiError(400, "This fault is for streams.", param="fault")
        images = None
        if asked.calls and scores.BLOCK not in str(asked.document["input"]):
            images = answer_body({**asked.values, "n": asked.calls}, asked.sizes)
            self.counters.made(request.state.row, edit=bool(asked.sizes), images=asked.calls)
        body = response_body(asked, images, CREATED)
        if fault == "no_usage":
            del body["tool_usage"]
        if fault == "nonsense":
            return Response(b"<html>not the API</html>", media_type="text/html")
        if streamed:
            stream = response_events(body, asked.values.get("partial_images", 0), fault)
            return StreamingResponse(stream, media_type="text/event-stream")
        return JSONResponse(body)

    async def batches(self, request: Request, fault: str | None) -> Response:
        document = await json_object(request)
        body = batch_body(document, CREATED)
        if body["endpoint"] in _IN_BATCHES:
            row = self.counters.asked(request.url.path, {"prompt": ""}, (), 0, None)
            self.counters.made(row, edit=False, images=1)
        return JSONResponse(body)

    # ---- about the sandbox ------------------------------------------------------------------------------------

    async def counted(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.counters.reset()
        return JSONResponse(self.counters.data())

    async def switched(self, request: Request) -> Response:
        if request.method == "DELETE":
            self.faults.clear()
            return JSONResponse({"cleared": True})
        try:
            values = await json_object(request)
            self.faults.add(str(values.get("path")), str(values.get("fault")), values.get("times"))
        except ApiError as error:
            return error.response({})
        return JSONResponse({"path": values["path"], "fault": values["fault"]})

    async def page(self, request: Request) -> Response:
        data = self.counters.data()
        rows = "".join(f"<tr><td>{escape(path)}<td>{count}" for path, count in sorted(data["paths"].items()))
        return HTMLResponse(
            "<!doctype html><meta charset=utf-8><title>policyguard sandbox</title><h1>policyguard sandbox</h1>"
            f"<p>{data['generations']} requests made {data['images']} images.<table>{rows}</table>"
        )


async def _no_route(request: Request, error: Exception) -> Response:
    """A path or a method that is not there: OpenAI's body here too."""
    status = error.status_code if isinstance(error, HTTPException) else 500
    message = f"Invalid URL ({request.method} {request.url.path})"
    return ApiError(status, message, code="unknown_url" if status == 404 else None).response({})


async def _wait(request: Request, seconds: float) -> None:
    """So long, or until the client has left."""
    if seconds:
        with anyio.move_on_after(seconds):
            while (await request.receive())["type"] != "http.disconnect":
                pass


def _check_key(request: Request) -> None:
    kind, _, key = request.headers.get("authorization", "").partition(" ")
    if kind.lower() != "bearer" or not key or key == "sk-wrong":
        raise ApiError(401, "Incorrect API key provided.", code="invalid_api_key")


def answer_body(values: Mapping[str, Any], inputs: tuple[Size | None, ...]) -> dict[str, Any]:
    """The answer, with `auto` resolved and tokens by the formula of the price book."""
    size = "1024x1024" if values.get("size") in (None, AUTO) else values["size"]
    quality = "medium" if values.get("quality") in (None, AUTO) else values["quality"]
    count, output_format = values.get("n", 1), values.get("output_format", "png")
    seed, script = hashlib.sha256(values["prompt"].encode()).hexdigest()[:8], output_script(values["prompt"])
    shape = parse_size(size) or Size(1024, 1024)
    partial = values.get("partial_images", 0) if values.get("stream") else 0
    background = values.get("background", AUTO)
    body = {
        "created": CREATED,
        "background": "opaque" if background == AUTO else background,
        "output_format": output_format,
        "quality": quality,
        "size": size,
        "data": [{"b64_json": _base64(picture(f"{seed}{i}", shape, output_format, script))} for i in range(count)],
        "usage": _usage(values, inputs, pricing.output_tokens(values["model"], size, quality, count, partial)),
    }
    if values.get("safety_identifier"):
        body["safety_identifier"] = values["safety_identifier"]
    return body


def _usage(values: Mapping[str, Any], inputs: tuple[Size | None, ...], output: int) -> dict[str, Any]:
    text = 8 + len(values["prompt"].encode()) // 4
    image = sum(pricing.input_image_tokens(size) for size in inputs)
    return {
        "input_tokens": text + image,
        "input_tokens_details": {"text_tokens": text, "image_tokens": image},
        "output_tokens": output,
        "output_tokens_details": {"image_tokens": output, "text_tokens": 0},
        "total_tokens": text + image + output,
    }


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


class _Cut(Response):
    """Promises the whole body, sends half of it, and closes the connection."""

    def __init__(self, whole: Response) -> None:
        super().__init__()
        self._whole = whole

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        whole = self._whole
        if isinstance(whole, StreamingResponse):
            body = b"".join([bytes(chunk) async for chunk in whole.body_iterator])  # type: ignore[arg-type]
        else:
            body = bytes(whole.body)
        whole.headers["content-length"] = str(len(body))
        await send({"type": "http.response.start", "status": whole.status_code, "headers": whole.raw_headers})
        await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
        # leaving the answer open makes the server close the connection


async def _models(request: Request, fault: str | None) -> Response:
    names = [name for name, row in pricing.price_book().models.items() if row.usable]
    return JSONResponse({"object": "list", "data": [_model_row(name) for name in names]})


async def _model(request: Request, fault: str | None) -> Response:
    name = request.path_params["id"]
    usable_model(name)
    return JSONResponse(_model_row(name))


def _model_row(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": CREATED, "owned_by": "system"}

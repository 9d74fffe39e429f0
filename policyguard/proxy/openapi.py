"""The proxy's routes as an OpenAPI document: what each takes, and every answer that it may give, errors included.

Parameters are OpenAI's own, by the table that the doors read by; which values are allowed says the policy of the key's
surface, so the document says no more than their types. Refusals come from the one table that fixes them on every door.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse

from policyguard.adapters.fastapi import responses
from policyguard.proxy.health import HEALTH, READY
from policyguard.proxy.proxy import MODELS, ROUTES, SURFACE, USER
from policyguard.request import AUTO, MAX_IMAGES, MAX_INPUT_IMAGES, MAX_PROMPT_CHARS
from policyguard.wire.forms import WireForm
from policyguard.wire.parameters import BOOLEANS, KNOWN, WHOLE_NUMBERS

OPENAPI = "/openapi.json"
Json = dict[str, Any]
REVIEW = "x-policyguard-review"

_TEXT: Json = {"type": "string"}
_SECURITY: list[dict[str, list[str]]] = [{"key": []}]
_MODEL: Json = {"name": "model", "in": "path", "required": True, "schema": _TEXT}
_SUMMARIES: Mapping[WireForm, str] = {
    "generations": "Make images from a prompt",
    "edits": "Make images from images and a prompt",
    "responses": "Make images by the tool `image_generation` of the Responses API",
}
_SAYS: Mapping[str, Json] = {
    "prompt": {"maxLength": MAX_PROMPT_CHARS, "minLength": 1},
    "size": {"description": "`auto`, or width and height in pixels, like 1024x1536."},
    "n": {"minimum": 1, "maximum": MAX_IMAGES},
    "output_compression": {"minimum": 0, "maximum": 100},
    "partial_images": {"minimum": 0, "maximum": 3},
    "moderation": {"description": f"Goes on as `{AUTO}`, whatever it says."},
    "safety_identifier": {"description": "Replaced by one of the proxy's own."},
}
# Answers of the proxy that are no decision, besides those that share a status with one.
_OWN: Mapping[int, str] = {
    401: "`invalid_api_key`: the key is missing, wrong or revoked",
    404: "`not_found`: the proxy does not serve this route; `model_not_found`",
    408: "`invalid_request`: the headers did not arrive in time",
    431: "`invalid_request`: the headers are too large",
    502: "`upstream_unavailable`, `upstream_key_refused`, `upstream_misconfigured`: OpenAI cannot be reached, refuses"
    " the proxy's key, or is not where the proxy was told",
    504: "`upstream_unavailable`: OpenAI did not answer in time",
}


def document() -> Json:
    """The whole of it, as plain JSON."""
    paths: Json = {path: {"post": _operation(route.shape)} for path, route in ROUTES.items()}  # type: ignore[arg-type]
    paths[MODELS] = {"get": _models("What the surfaces of the key let through", [])}
    paths[f"{MODELS}/{{model}}"] = {"get": _models("One of them", [_MODEL])}
    paths[HEALTH] = {"get": _page("Whether the process lives", {200: "it does"})}
    paths[READY] = {"get": _page("Whether it can decide", {200: "it can", 503: "it cannot, and why not"})}
    paths[OPENAPI] = {"get": _page("This document", {200: "it"})}
    return {
        "openapi": "3.1.0",
        "info": {"title": "policyguard", "version": version("policyguard")},
        "paths": paths,
        "components": {
            "schemas": {"Error": _error()},
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "Azure's clients send it in the header `api-key` instead.",
                }
            },
        },
    }


async def page(request: Request) -> JSONResponse:
    """`GET /openapi.json`."""
    return JSONResponse(document())


def _operation(shape: WireForm) -> Json:
    return {
        "summary": _SUMMARIES[shape],
        "operationId": shape,
        "security": _SECURITY,
        "parameters": [
            _header(SURFACE, "The surface, where the key is for several."),
            _header(USER, "Who asks, where the key lets its holder name the user."),
            _header(REVIEW, "The review that this request was approved in."),
        ],
        "requestBody": {"required": True, "content": _bodies(shape)},
        "responses": {"200": _made(), **_refusals()},
    }


def _models(summary: str, parameters: list[Json]) -> Json:
    surface = _header(SURFACE, "The surface, where the key is for several; without it the models of all of them.")
    answers = {"200": {"description": "OpenAI's form of it.", "content": _json({"type": "object"})}, **_refusals()}
    return {"summary": summary, "security": _SECURITY, "parameters": [*parameters, surface], "responses": answers}


def _header(name: str, words: str) -> Json:
    return {"name": name, "in": "header", "required": False, "description": words, "schema": _TEXT}


# ---- requests ----------------------------------------------------------------------------------------------


def _bodies(shape: WireForm) -> Json:
    if shape == "generations":
        return _json(_parameters(KNOWN, "prompt"))
    if shape == "responses":
        return _json(_tool_call())
    reference = _object({"image_url": {**_TEXT, "description": "A `data:` URL of a picture."}}, "image_url")
    images = {"type": "array", "items": reference, "minItems": 1, "maxItems": MAX_INPUT_IMAGES}
    drawn = _parameters(KNOWN, "prompt")
    as_json = {**drawn["properties"], "images": images, "mask": reference}
    files = {"type": "array", "items": {**_TEXT, "format": "binary"}, "minItems": 1, "maxItems": MAX_INPUT_IMAGES}
    overlay = {**_TEXT, "format": "binary"}
    as_form = {**drawn["properties"], "image": files, "mask": overlay, "markup": overlay}
    form = {"multipart/form-data": {"schema": _object(as_form, "prompt", "image")}}
    return form | _json(_object(as_json, "prompt", "images"))


def _parameters(names: tuple[str, ...], *required: str) -> Json:
    return _object({name: _parameter(name) for name in names}, *required)


def _parameter(name: str) -> Json:
    kind = "integer" if name in WHOLE_NUMBERS else "boolean" if name in BOOLEANS else "string"
    return {"type": kind, **_SAYS.get(name, {})}


def _tool_call() -> Json:
    drawn = [name for name in KNOWN if name not in ("prompt", "n", "stream", "user", "safety_identifier")]
    tool = _object({"type": {"const": "image_generation"}, **_parameters(tuple(drawn))["properties"]}, "type")
    message = _object({"role": _TEXT, "content": _TEXT}, "role", "content")
    properties = {
        "model": _TEXT,
        "input": {"anyOf": [_TEXT, {"type": "array", "items": message}]},
        "instructions": _TEXT,
        "tools": {"type": "array", "items": tool, "minItems": 1, "maxItems": 1},
        "max_tool_calls": {"type": "integer", "minimum": 1, "maximum": MAX_IMAGES},
        "max_output_tokens": {"type": "integer", "minimum": 16},
        "stream": {"type": "boolean"},
    }
    return _object(properties, "model", "input", "tools")


# ---- answers -----------------------------------------------------------------------------------------------


def _made() -> Json:
    said = {"x-policyguard-decision": {"schema": _TEXT}, "x-policyguard-adjusted": {"schema": _TEXT}}
    return {
        "description": "What OpenAI answered.",
        "headers": {**said, "x-request-id": {"schema": _TEXT}},
        "content": {
            **_json({"type": "object"}),
            "text/event-stream": {"schema": {"description": "OpenAI's events, as they come."}},
        },
    }


def _refusals() -> Json:
    """Every answer that is no image; OpenAI's own errors pass on in the same shape."""
    says = dict(_OWN) | {int(status): row["description"] for status, row in responses().items()}
    found = {str(status): _refused(says[status]) for status in sorted(says)}
    return {**found, "default": _refused("an error of OpenAI's own")}


def _refused(words: str) -> Json:
    headers = {"x-policyguard-decision": {"schema": _TEXT, "description": "There where a decision was made."}}
    return {"description": words, "headers": headers, "content": _json({"$ref": "#/components/schemas/Error"})}


def _error() -> Json:
    """The one body of errors. `policy` is there where the policy refused."""
    some = {"anyOf": [_TEXT, {"type": "null"}]}
    reason = _object({"id": _TEXT, "effect": _TEXT, "message": _TEXT, "values": {"type": "object"}}, "id", "effect")
    decided = {"surface": some, "decision_id": _TEXT, "reasons": {"type": "array", "items": reason}, "review_id": some}
    error = {"message": _TEXT, "type": _TEXT, "param": some, "code": some, "policy": _object(decided, *decided)}
    return _object({"error": _object(error, "message", "type", "param", "code")}, "error")


def _page(summary: str, answers: Mapping[int, str]) -> Json:
    body = _json({"type": "object"})
    found: Json = {str(status): {"description": words, "content": body} for status, words in answers.items()}
    return {"summary": summary, "responses": {**found, "405": _refused("`not_allowed`: pages are read")}}


def _json(schema: Json) -> Json:
    return {"application/json": {"schema": schema}}


def _object(properties: Json, *required: str) -> Json:
    return {"type": "object", "properties": properties, "required": list(required)}

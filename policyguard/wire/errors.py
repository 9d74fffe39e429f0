"""An error of a server of ours that is no decision, in OpenAI's shape, so that clients raise their typed errors.

Decisions have the same body, made in `refusals`.
"""

from __future__ import annotations

import orjson

from policyguard.wire.refusals import Headers, Rendered


def render_error(status: int, type_: str, code: str, message: str, *more: tuple[str, str]) -> Rendered:
    """`more` are headers."""
    error = {"message": message, "type": type_, "param": None, "code": code}
    body = orjson.dumps({"error": error})
    headers: Headers = [("content-type", "application/json"), ("content-length", str(len(body))), *more]
    return Rendered(status, headers, body)

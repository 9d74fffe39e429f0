"""What a page of ours answers to who may not see it, or asks otherwise than by GET: in the one body of errors.

Pages of an app that has pages of its own must not answer like another product.
"""

from __future__ import annotations

from starlette.responses import Response

from policyguard.wire.errors import render_error


def not_allowed() -> Response:
    return _error(405, "not_allowed", "this page is read by GET", ("allow", "GET, HEAD"))


def not_for_you() -> Response:
    """For who asks from a network that may not see a page."""
    return _error(403, "not_allowed", "this page is not shown to your address")


def _error(status: int, code: str, words: str, *headers: tuple[str, str]) -> Response:
    answer = render_error(status, "invalid_request_error", code, words, *headers)
    return Response(answer.body, answer.status, dict(answer.headers))

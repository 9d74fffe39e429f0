"""The proxy's own OpenAPI document, and requests that Schemathesis makes up from it, right ones and wrong ones.

Whatever comes, the proxy does not fail, and answers as the document says: its statuses, content types and bodies. The
suite tries some dozens for each route; `make fuzz` tries thousands.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import httpx2
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from patience import HANGS_S
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from support import MODEL
from tool_bodies import MAIN, PRICES, RESPONSES

pytestmark = pytest.mark.acceptance
EXAMPLES = 1_500 if os.environ.get("POLICYGUARD_FUZZ") == "long" else 25
ERROR = {"message", "type", "param", "code"}
BOTH = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
DRAWN = {"size": "1024x1024", "quality": "low", "output_format": "png", "background": "auto", "moderation": "low"}
TOOL = RESPONSES.replace("POST /v1/", "POST /avatars/v1/")
CONFORMS = [
    content_type_conformance,
    ignored_auth,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
]


def some(test: Callable[..., None]) -> Callable[..., None]:
    """A test of random requests, the same in every run of the suite."""
    few = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        phases=[Phase.explicit, Phase.generate],  # one failure will do, it need not be the smallest
        suppress_health_check=list(HealthCheck),
    )
    return seed(27)(few(test))


def narrowed(value: Any, **admitted: str) -> Any:
    """The document as somebody would fill it in who knows the policy, so that some requests come through."""
    if isinstance(value, list):
        return [narrowed(item, **admitted) for item in value]
    if not isinstance(value, dict):
        return value
    main = {"model": MAIN} if "tools" in value else {}
    return {
        name: {"const": {**admitted, **main}[name]} if name in admitted else narrowed(item, **admitted)
        for name, item in value.items()
    }


def test_every_request_that_the_document_allows_or_forbids_is_answered_as_it_says(
    proxy: Callable[..., Any], sandbox: Any
) -> None:
    app = proxy(avatars=TOOL, prices=PRICES)
    headers = {"authorization": f"Bearer {app.key(user='u1')}"}
    document = narrowed(httpx2.get(f"{app.url}/openapi.json", trust_env=False).json(), model=MODEL, **DRAWN)
    described = schemathesis.openapi.from_dict(document)
    seen: set[tuple[str, int]] = set()
    for found in described.get_all_operations():
        operation = found.ok()
        for mode in BOTH:
            if mode is GenerationMode.NEGATIVE and operation.method == "get":
                continue  # there is nothing in a page's request that could be wrong

            @some
            @given(case=operation.as_strategy(generation_mode=mode))
            def answered(case: Any) -> None:
                answer = case.call(app.url, headers=headers, timeout=HANGS_S)
                seen.add((case.path, answer.status_code))
                if answer.status_code >= 400:
                    assert answer.json()["error"].keys() >= ERROR
                case.validate_response(answer, checks=CONFORMS, headers=headers)

            answered()
    one_model = "/v1/models/{model}"  # of all names that could be made up, none is one
    assert {path for path, status in seen if status == 200} == set(document["paths"]) - {one_model}
    assert {status for path, status in seen if path != one_model} <= {200, 400, 401, 403, 413, 431}
    assert {status for path, status in seen if path == one_model} <= {404, 431}


METHODS = st.sampled_from(["GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS", "TRACE"])
PLACES = st.sampled_from(["/v1/images/generations", "/v1/images/edits", "/v1/responses", "/v1/models", "/healthz", "/"])
TAILS = st.sampled_from(["", "/", "//", "/x", "?n=2", "%2e", "/..", ";a=1", "%00", "%ff"])
TYPES = st.sampled_from(["application/json", "multipart/form-data; boundary=x", "text/plain", "", 'a/b; c="d'])
BODIES = st.one_of(
    st.binary(max_size=200),
    st.sampled_from(
        [b"{}", b"[]", b"null", b'{"prompt": 1}', b'{"prompt": "a", "n": 1e400}', b'{"prompt": "\\ud800"}']
    ),
    st.sampled_from([b"--x--", b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na\r\n--x--\r\n']),
)


def test_no_request_that_it_does_not_describe_makes_it_fail(proxy: Callable[..., Any], sandbox: Any) -> None:
    app = proxy(avatars=TOOL, prices=PRICES)
    headers = {"authorization": f"Bearer {app.key(user='u1')}"}
    with httpx2.Client(base_url=app.url, trust_env=False, timeout=HANGS_S) as client:

        @some
        @given(method=METHODS, place=PLACES, tail=TAILS, kind=TYPES, body=BODIES)
        def answered(method: str, place: str, tail: str, kind: str, body: bytes) -> None:
            more = {"content-type": kind} if kind else {}
            answer = client.request(method, f"{place}{tail}", content=body, headers={**headers, **more})
            assert answer.status_code < 500, answer.text
            if answer.status_code >= 400 and method != "HEAD":
                assert answer.json()["error"].keys() >= ERROR

        answered()
    assert sandbox.counts()["generations"] == 0

"""`GET /v1/models` at the proxy: what the surfaces of a key let through, in OpenAI's form. No upstream is asked."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import orjson

from policyguard.policy.model import PolicySet
from policyguard.pricing.book import TEXT
from policyguard.wire.errors import render_error
from policyguard.wire.refusals import Rendered


def model_answer(policies: PolicySet, surfaces: Iterable[str], path: str) -> Rendered:
    """The list, or with a name behind it in `path` that one model."""
    names = _allowed(policies, surfaces)
    wanted = path.partition("/models")[2].removeprefix("/")
    if not wanted:
        return _json({"object": "list", "data": [_row(name) for name in names]})
    if wanted in names:
        return _json(_row(wanted))
    words = "this key has no such model; `GET /v1/models` lists those it has"
    return render_error(404, "invalid_request_error", "model_not_found", words, ("x-should-retry", "false"))


def _allowed(policies: PolicySet, surfaces: Iterable[str]) -> list[str]:
    """Of images and, for the Responses API, main models; where a policy lists none, those that have a price."""
    found: dict[str, None] = {}
    for name in surfaces:
        if (policy := policies.surfaces.get(name)) is not None:
            rules = policy.request
            priced = [model for model, row in rules.prices.models.items() if row.usable and row.family != TEXT]
            found |= dict.fromkeys([*(priced if rules.models is None else rules.models), *(rules.main_models or ())])
    return list(found)


def _row(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "openai"}


def _json(document: Any) -> Rendered:
    body = orjson.dumps(document)
    headers = [("content-type", "application/json"), ("content-length", str(len(body)))]
    return Rendered(200, headers, body)

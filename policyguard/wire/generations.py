"""`POST /v1/images/generations`: a JSON body.

Reading and writing are together, because what goes upstream is the body that came, changed where it was decided.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import AUTO, ImageRequest
from policyguard.wire.json_body import parse_object
from policyguard.wire.parameters import build, decided
from policyguard.wire.splice import GONE, joined, splice


@dataclass(frozen=True, slots=True)
class Generation:
    """A parsed body: the request, and the text that goes on with what was decided."""

    request: ImageRequest
    document: Mapping[str, Any] = field(repr=False)
    body: bytes = field(repr=False)

    def write(self, request: ImageRequest, safety_identifier: str | None) -> tuple[bytes, str]:
        """Body and content type for the upstream: every byte as it came, but for what is forced."""
        changes = changed(self.document, request, safety_identifier)
        body = joined(self.body, splice(self.body, changes, self.document)) if changes else self.body
        return body, "application/json"


def changed(document: Mapping[str, Any], request: ImageRequest, safety_identifier: str | None) -> dict[str, Any]:
    """What has to be another value than the client's, by key. Its identifier could be anybody's: it never goes on.

    Neither does a null, which clients write for what they do not say: the API takes it for some parameters only.
    """
    forced: dict[str, Any] = {**decided(request), "moderation": AUTO}
    if safety_identifier is not None:
        forced["safety_identifier"] = safety_identifier
    changes = nulls(document) | {name: value for name, value in forced.items() if not same(document.get(name), value)}
    if safety_identifier is None and "safety_identifier" in document:
        changes["safety_identifier"] = GONE
    return changes


def nulls(document: Mapping[str, Any]) -> dict[str, Any]:
    return {name: GONE for name, value in document.items() if value is None}


def same(given: Any, value: Any) -> bool:
    return type(given) is type(value) and given == value


def read_generation(body: bytes, content_type: str) -> Generation:
    """Raises `InvalidRequest`."""
    check_json_type(content_type)
    document = parse_object(body)
    return Generation(build(document, "generate"), document, body)


def is_json(content_type: str) -> bool:
    return content_type.partition(";")[0].strip().lower() == "application/json"


def check_json_type(content_type: str) -> None:
    rest = content_type.partition(";")[2]
    if not is_json(content_type):
        raise InvalidRequest("the content type must be application/json")
    if rest.strip() and rest.strip().lower().replace('"', "") not in ("charset=utf-8", "charset=utf8"):
        raise InvalidRequest("the body must be UTF-8")

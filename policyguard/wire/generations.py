"""`POST /v1/images/generations`: a JSON body."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from policyguard.errors import InvalidRequest
from policyguard.request import AUTO, ImageRequest
from policyguard.wire.json_body import dump, parse_object
from policyguard.wire.parameters import build, decided


@dataclass(frozen=True, slots=True)
class Generation:
    """A parsed body: the request, and the document that is written back with what was decided."""

    request: ImageRequest
    document: dict[str, Any] = field(repr=False)

    def write(self, request: ImageRequest, safety_identifier: str | None) -> tuple[bytes, str]:
        """Body and content type for the upstream: everything as it came, what is forced in place."""
        forced: dict[str, Any] = {**decided(request), "moderation": AUTO}
        if safety_identifier is not None:
            forced["safety_identifier"] = safety_identifier
        # the client's own identifier never goes on: it could be anybody's
        kept = {name: value for name, value in self.document.items() if name != "safety_identifier"}
        return dump({**kept, **forced}), "application/json"


def read_generation(body: bytes, content_type: str) -> Generation:
    """Raises `InvalidRequest`."""
    check_json_type(content_type)
    document = parse_object(body)
    return Generation(build(document, "generate"), document)


def check_json_type(content_type: str) -> None:
    kind, _, rest = content_type.partition(";")
    if kind.strip().lower() != "application/json":
        raise InvalidRequest("the content type must be application/json")
    if rest.strip() and rest.strip().lower().replace('"', "") not in ("charset=utf-8", "charset=utf8"):
        raise InvalidRequest("the body must be UTF-8")

"""The JSON Schema of policy files, for editors."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

from policyguard.policy.document import Organisation, Surface

_KINDS: dict[str, type[BaseModel]] = {"surface": Surface, "org": Organisation}


def schema(kind: Literal["surface", "org"]) -> dict[str, Any]:
    """The schema of a surface's file, or of org.yaml."""
    return schema_of(_KINDS[kind], kind)


def schema_of(model: type[BaseModel], kind: str) -> dict[str, Any]:
    """Draft 2020-12, without generated titles: editors would show them as headings."""
    found: dict[str, Any] = _without_titles(model.model_json_schema(by_alias=True))
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": f"policyguard {kind}", **found}


def _without_titles(value: Any, *, names: bool = False) -> Any:
    """`names`: the keys here are names of properties, and `title` may be one of them."""
    if isinstance(value, list):
        return [_without_titles(item) for item in value]
    if not isinstance(value, dict):
        return value
    return {
        key: _without_titles(item, names=key in ("properties", "$defs") and not names)
        for key, item in value.items()
        if names or key != "title"
    }

"""The JSON Schema of policy files, for editors: completion, hover text, and the loader's verdict about form.

Made of the documents themselves. It is draft 7 without references, which every editor reads alike; language servers
show `patternErrorMessage` and `markdownDescription` to people.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

import orjson
from pydantic import BaseModel

from policyguard.policy.document import SIZE, Organisation, Quality, Surface
from policyguard.policy.moderators import installed
from policyguard.policy.parameters import usable_models
from policyguard.policy.prices import Prices
from policyguard.policy.routes import PARAMETERS
from policyguard.pricing import price_book
from policyguard.request import AUTO, MAX_IMAGES

_KINDS: dict[str, type[BaseModel]] = {"surface": Surface, "org": Organisation, "prices": Prices}
SchemaNode = Mapping[str, Any]
SchemaNames = Mapping[str, SchemaNode]  # a name, and what else is known of the value that it has as a key


def schema(kind: Literal["surface", "org", "prices"]) -> dict[str, Any]:
    """The schema of a surface's file, of org.yaml, or of prices.yaml."""
    return schema_of(_KINDS[kind])


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The schema of a document as editors need it. It has no title, which they would show over every key."""
    written = model.model_json_schema(by_alias=True)
    found = _Schema(written.pop("$defs", {}), _names()).of(written)
    return {"$schema": "http://json-schema.org/draft-07/schema#", **found}


def _names() -> dict[str, SchemaNames]:
    """Names that come from elsewhere: the price book, and the parameters of the API."""
    models: SchemaNames = {name: {} for name in usable_models(price_book())}
    parameters: SchemaNames = {name: {} for name in PARAMETERS}
    constants: SchemaNames = {
        "model": {"enum": list(models)},
        "size": {"type": "string", "pattern": SIZE},
        "quality": {"enum": list(get_args(Quality))},
        "n": {"type": "integer", "minimum": 1, "maximum": MAX_IMAGES},
        "output_compression": {"type": "integer", "minimum": 0, "maximum": 100},
        "moderation": {"const": AUTO},
    }
    moderators: SchemaNames = {name: {} for name in installed()}
    return {
        "models": models,
        "moderators": moderators,
        "parameters": parameters,
        "constants": {**parameters, **constants},
    }


def as_text(document: SchemaNode) -> str:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2).decode() + "\n"


class _Schema:
    """Rewrites what pydantic makes: references resolved, no generated titles, no nulls, names of the price book."""

    def __init__(self, parts: Mapping[str, SchemaNode], names: Mapping[str, SchemaNames]) -> None:
        self._parts, self._names = parts, names

    def of(self, part: SchemaNode) -> dict[str, Any]:
        part = {**self._referred(part), **part}
        forms = [form for form in part.pop("anyOf", ()) if form.get("type") != "null"]  # a key has a value, always
        if len(forms) == 1:
            return self.of({**forms[0], **part})
        found = {key: value for key, value in part.items() if key not in ("$ref", "title", "names", "propertyNames")}
        if forms:
            found["anyOf"] = [self.of({**_description(part), **form}) for form in forms]
        if "names" in part:
            found["enum"] = list(self._names[part["names"]])
        for key in ("items", "additionalProperties"):
            if isinstance(found.get(key), dict):
                found[key] = self.of(found[key])
        for key in ("properties", "patternProperties"):
            if key in found:
                found[key] = {name: self.of(inner) for name, inner in found[key].items()}
        return _told(self._named(found, part.get("propertyNames")))

    def _referred(self, part: SchemaNode) -> SchemaNode:
        return self._parts[part["$ref"].rpartition("/")[2]] if "$ref" in part else {}

    def _named(self, found: dict[str, Any], names: SchemaNode | None) -> dict[str, Any]:
        """Keys that are listed become properties, so that editors complete them; no other key is known."""
        if names is not None and names.keys() & {"names", "enum"}:
            listed: SchemaNames = (
                self._names[names["names"]] if "names" in names else {name: {} for name in names["enum"]}
            )
            value = {**_description(found), **found["additionalProperties"]}
            found["properties"] = {name: _told({**value, **form}) for name, form in listed.items()}
            found["additionalProperties"] = False
        if "patternProperties" in found:
            found["additionalProperties"] = False
        return found


def _description(part: SchemaNode) -> SchemaNode:
    """What is said of the whole is said of its forms and names, where these say nothing themselves."""
    return {"description": part["description"]} if "description" in part else {}


def _told(found: dict[str, Any]) -> dict[str, Any]:
    """Descriptions are Markdown; a default that says nothing is left out."""
    if "description" in found:
        found["markdownDescription"] = found["description"] = " ".join(found["description"].split())
    if "default" in found and not found["default"]:
        del found["default"]
    return found

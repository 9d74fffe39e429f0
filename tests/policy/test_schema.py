"""The JSON Schema that editors read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

from policyguard.policy.schema import schema
from policyguard.policy.source import read

ROOT = Path(__file__).parents[2]
KINDS: list[Literal["surface", "org"]] = ["surface", "org"]


def parts(value: Any, *, names: bool = False) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema; names of properties are no keywords."""
    if isinstance(value, dict):
        if not names:
            yield value
        for key, item in value.items():
            yield from parts(item, names=key in ("properties", "$defs") and not names)
    elif isinstance(value, list):
        for item in value:
            yield from parts(item)


@pytest.mark.parametrize("kind", KINDS)
def test_objects_are_closed_and_have_no_generated_titles(kind: Literal["surface", "org"]) -> None:
    document = schema(kind)
    assert document["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert [part for part in parts(document) if "title" in part] == [document]
    assert all(part["additionalProperties"] is False for part in parts(document) if "properties" in part)


def test_descriptions_and_a_property_called_title_stay() -> None:
    properties = schema("surface")["properties"]
    assert properties["owner"]["description"] == "Who answers for it; shown to reviewers and in reports."
    assert properties["title"]["type"] == "string"


def test_the_schema_knows_what_the_loader_knows() -> None:
    text = repr(schema("surface")) + repr(schema("org"))
    assert not [word for word in ("output_images", "questions", "alert_at", "inner") if word in text]
    assert "from" in schema("org")["$defs"]["CallerField"]["properties"]


@pytest.mark.parametrize("file", sorted((ROOT / "policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_key_of_the_shipped_policies_is_in_the_schema(file: Path) -> None:
    document = schema("org" if file.stem == "org" else "surface")
    data = read(str(file), file.read_bytes()).data
    assert data.keys() <= document["properties"].keys()
    assert set(document["required"]) <= data.keys()

"""The JSON Schema that editors read: closed, described, and of one mind with the readers of values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError, create_model

from policyguard.policy import document
from policyguard.policy.schema import schema, schema_of
from policyguard.policy.source import read

ROOT = Path(__file__).parents[2]
Kind = Literal["surface", "org", "prices"]
KINDS: list[Kind] = ["surface", "org", "prices"]
# What ECMAScript reads as Python does: no named groups, no look-behind, no flags, no escapes beyond these.
PLAIN = re.compile(r"(?:[^\\(]|\((?!\?)|\(\?[:!]|\\[.$\[\]\"])*")


def parts(value: Any, *, names: bool = False) -> Iterator[dict[str, Any]]:
    """Every schema inside a schema; names of properties are no keywords."""
    if isinstance(value, dict):
        if not names:
            yield value
        for key, item in value.items():
            yield from parts(item, names=key in ("properties", "patternProperties") and not names)
    elif isinstance(value, list):
        for item in value:
            yield from parts(item)


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_draft_7_without_references_titles_and_nulls(kind: Kind) -> None:
    document = schema(kind)
    assert document["$schema"] == "http://json-schema.org/draft-07/schema#"
    assert [
        part for part in parts(document) if part.keys() & {"title", "$ref", "$defs", "names", "propertyNames"}
    ] == []
    assert [part for part in parts(document) if part.get("type") == "null"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_every_mapping_is_closed(kind: Kind) -> None:
    """But for prices, by the model's name, and tokens, by size."""
    mappings = [part for part in parts(schema(kind)) if part.get("type") == "object"]
    named = [part for part in mappings if part["additionalProperties"] is not False]
    assert len(named) == (2 if kind == "prices" else 0)
    assert all("properties" not in part for part in named)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_has_a_text_that_editors_show(kind: Kind) -> None:
    keys = {name: part for of in parts(schema(kind)) for name, part in of.get("properties", {}).items()}
    assert [name for name, part in keys.items() if not part["markdownDescription"].endswith((".", "`"))] == []
    assert all(part["markdownDescription"] == part["description"] for part in keys.values())


def test_a_property_may_be_called_title_or_default() -> None:
    properties = schema("surface")["properties"]
    assert properties["owner"]["description"] == "Who answers for it; shown to reviewers and in reports."
    assert properties["title"]["type"] == "string"
    assert "default" in properties["request"]["properties"]["models"]["properties"]


def test_the_schema_knows_what_the_loader_knows() -> None:
    text = repr(schema("surface")) + repr(schema("org"))
    assert not [word for word in ("'inner'",) if word in text]
    assert "from" in next(iter(schema("org")["properties"]["caller"]["patternProperties"].values()))["properties"]


def test_names_that_come_from_elsewhere_are_listed() -> None:
    properties = schema("surface")["properties"]
    models = properties["request"]["properties"]["models"]["properties"]["allow"]["items"]["enum"]
    assert "gpt-image-2-2026-04-21" in models
    assert "sexual/minors" in properties["moderation"]["properties"]["deny_at"]["properties"]
    own = properties["routes"]["items"]["anyOf"][1]["properties"]
    assert own["fields"]["properties"].keys() == own["constants"]["properties"].keys()
    assert own["constants"]["properties"]["model"]["enum"] == models


@pytest.mark.parametrize("file", sorted((ROOT / "policies").glob("*.yaml")), ids=lambda path: path.stem)
def test_every_key_of_the_shipped_policies_is_in_the_schema(file: Path) -> None:
    document = schema("org" if file.stem == "org" else "surface")
    data = read(str(file), file.read_bytes()).data
    assert data.keys() <= document["properties"].keys()
    assert set(document["required"]) <= data.keys()


# ---- patterns ---------------------------------------------------------------------------------------------

UNITS = ["Duration", "Days", "Bytes", "Day", "BudgetLimit", "RouteText", "BodyPath", "ResponsePath", "HeaderSource"]


@lru_cache
def unit(name: str) -> tuple[type[BaseModel], dict[str, Any]]:
    """A document with one value of this unit, and what its schema says of it."""
    one = create_model("One", __base__=document.Document, value=(getattr(document, name), ...))
    return one, schema_of(one)["properties"]["value"]


def accepted(model: type[BaseModel], value: Any) -> bool:
    try:
        model.model_validate({"value": value})
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize("name", UNITS)
def test_examples_are_accepted_and_patterns_are_plain(name: str) -> None:
    model, form = unit(name)
    assert all(accepted(model, example) for example in form["examples"])
    assert PLAIN.fullmatch(form["pattern"])


@pytest.mark.parametrize("name", UNITS)
@given(data=st.data())
def test_a_pattern_says_what_the_reader_of_the_unit_accepts(name: str, data: st.DataObject) -> None:
    model, form = unit(name)
    pattern = re.compile(form["pattern"])
    text = data.draw(st.from_regex(pattern) | st.sampled_from(form["examples"]))
    place, other = (
        data.draw(st.integers(0, len(text))),
        data.draw(st.sampled_from(["", "0", " ", "/", ".", "x", "é", "\n"])),
    )
    for value in (text, text[:place] + other + text[place + 1 :], text[:place] + other + text[place:]):
        says = pattern.search(value) is not None and not value.endswith("\n")  # the end of a text in ECMAScript
        assert says == accepted(model, value) or (name == "Day" and says)  # the calendar lacks some days


@pytest.mark.parametrize(
    "value", ["$0 / day", "$0.00 / day", "0 images / day", "00 images / day", "$1 / decade", "2 image"]
)
def test_a_budget_of_nothing_or_of_no_period_is_wrong_for_both(value: str) -> None:
    model, form = unit("BudgetLimit")
    assert (accepted(model, value), re.search(form["pattern"], value)) == (False, None)


@pytest.mark.parametrize("value", [1, 999_999_999, 0, 1_000_000_000, -1, True])
def test_a_size_in_bytes_may_be_a_number(value: Any) -> None:
    model, form = unit("Bytes")
    says = value is not True and form["minimum"] <= value <= form["maximum"]
    assert (form["type"], accepted(model, value)) == (["string", "integer"], says)

"""The JSON Schema of test files knows what the reader knows."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policyguard.policy.schema import schema_of
from policyguard.policy.source import read
from policyguard.testing.document import SuiteDocument
from policyguard.testing.read import suite_files

POLICIES = Path(__file__).parents[2] / "policies"
SCHEMA = schema_of(SuiteDocument)
CASE = SCHEMA["properties"]["tests"]["items"]["properties"]


def objects(part: Any) -> Iterator[dict[str, Any]]:
    """Every part of the schema that says which keys there are."""
    for below in part.values() if isinstance(part, dict) else part if isinstance(part, list) else ():
        yield from objects(below)
    if isinstance(part, dict) and isinstance(part.get("properties"), dict):
        yield part


def test_objects_are_closed() -> None:
    found = [part for part in objects(SCHEMA) if "type" in part or "additionalProperties" in part]
    assert found[-1] is SCHEMA
    assert all(part["additionalProperties"] is False for part in found)


def test_a_word_is_possible_where_the_reader_takes_one() -> None:
    outcomes, expectation = CASE["expect"]["anyOf"]
    assert outcomes["enum"] == ["allow", "flag", "review", "deny"]
    assert expectation["properties"].keys() == {"outcome", "reasons", "shadow", "adjusted"}
    assert expectation["additionalProperties"] is False
    words, scores = SCHEMA["properties"]["given"]["properties"]["scores"]["anyOf"]
    assert words["const" if "const" in words else "enum"] in ("unavailable", ["unavailable"])
    assert "hate/threatening" in scores["properties"]


def test_editors_show_what_a_key_is_for() -> None:
    assert CASE["without"]["description"].startswith("What is taken away")
    expectation = CASE["expect"]["anyOf"][1]
    assert expectation["properties"]["reasons"]["description"].startswith("Exactly the reasons that count")


@pytest.mark.parametrize("file", suite_files(POLICIES), ids=lambda path: path.stem)
def test_every_key_of_the_shipped_tests_is_in_the_schema(file: Path) -> None:
    data = read(str(file), file.read_bytes()).data
    assert data.keys() <= SCHEMA["properties"].keys()
    for row in data["tests"]:
        assert row.keys() <= CASE.keys()

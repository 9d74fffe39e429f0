"""The JSON Schema of test files knows what the reader knows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from policyguard.policy.schema import schema_of
from policyguard.policy.source import read
from policyguard.testing.document import SuiteDocument
from policyguard.testing.read import suite_files

POLICIES = Path(__file__).parents[2] / "policies"
SCHEMA = schema_of(SuiteDocument)
CASE: Any = SCHEMA["properties"]["tests"]["items"]


def test_objects_are_closed() -> None:
    given = SCHEMA["properties"]["given"]
    parts = [SCHEMA, CASE, given, given["properties"]["request"], SCHEMA["properties"]["matrix"]]
    assert all(part["additionalProperties"] is False for part in parts)


def test_a_word_is_possible_where_the_reader_takes_one() -> None:
    outcomes, expectation = CASE["properties"]["expect"]["anyOf"]
    assert outcomes["enum"] == ["allow", "flag", "review", "deny"]
    assert expectation["properties"].keys() == {"outcome", "reasons", "shadow", "adjusted"}
    assert expectation["additionalProperties"] is False
    words, scores = CASE["properties"]["scores"]["anyOf"]
    assert words["enum"] == scores["properties"]["sexual/minors"]["anyOf"][0]["enum"] == ["unavailable"]


def test_editors_show_what_a_key_is_for() -> None:
    assert CASE["properties"]["without"]["description"].startswith("What is taken away")
    expectation = CASE["properties"]["expect"]["anyOf"][1]
    assert expectation["properties"]["reasons"]["description"].startswith("Exactly the reasons that count")


@pytest.mark.parametrize("file", suite_files(POLICIES), ids=lambda path: path.stem)
def test_every_key_of_the_shipped_tests_is_in_the_schema(file: Path) -> None:
    data = read(str(file), file.read_bytes()).data
    assert data.keys() <= SCHEMA["properties"].keys()
    for row in data["tests"]:
        assert row.keys() <= CASE["properties"].keys()

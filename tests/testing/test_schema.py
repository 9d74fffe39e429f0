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
SCHEMA = schema_of(SuiteDocument, "tests")


def property_of(name: str, key: str) -> Any:
    return SCHEMA["$defs"][name]["properties"][key]


def test_objects_are_closed() -> None:
    assert SCHEMA["title"] == "policyguard tests"
    documents = [SCHEMA, *SCHEMA["$defs"].values()]
    assert all(part["additionalProperties"] is False for part in documents)


def test_a_word_is_possible_where_the_reader_takes_one() -> None:
    outcomes, expectation = property_of("NamedCase", "expect")["anyOf"]
    assert outcomes == {"enum": ["allow", "flag", "review", "deny"]}
    assert expectation["properties"].keys() == {"outcome", "reasons", "shadow", "adjusted"}
    assert expectation["additionalProperties"] is False
    words, scores = property_of("Given", "scores")["anyOf"]
    assert (words, scores["additionalProperties"]["anyOf"][0]) == ({"enum": ["unavailable"]},) * 2


def test_editors_show_what_a_key_is_for() -> None:
    assert property_of("NamedCase", "without")["description"].startswith("What is taken away")
    expectation = property_of("NamedCase", "expect")["anyOf"][1]
    assert expectation["properties"]["reasons"]["description"].startswith("Exactly the reasons that count")


@pytest.mark.parametrize("file", suite_files(POLICIES), ids=lambda path: path.stem)
def test_every_key_of_the_shipped_tests_is_in_the_schema(file: Path) -> None:
    data = read(str(file), file.read_bytes()).data
    assert data.keys() <= SCHEMA["properties"].keys()
    for row in data["tests"]:
        assert row.keys() <= SCHEMA["$defs"]["NamedCase"]["properties"].keys()

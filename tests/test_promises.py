"""What the README promises in numbers is what the code does: each number stands here as a literal, beside its sentence.

Other tests may then use the constants: a constant that is changed fails here, and not nowhere.
"""

from __future__ import annotations

import importlib
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

README = " ".join((Path(__file__).parents[1] / "README.md").read_text().split())
MINUTE = timedelta(minutes=1)
PROMISES: list[tuple[str, str, str, Any]] = [
    ("A revoked key ends within five seconds.", "proxy.key_ring", "KEPT_S", 5.0),
    ("asks the upstream for its models, which is free: every five minutes", "proxy.probe", "GOOD_S", 300.0),
    ("every 15 seconds while something is wrong", "proxy.probe", "BAD_S", 15.0),
    ("More than 20 timeouts, cut connections and", "store.breaker", "FAULTS", 20),
    ("of one upstream in a minute, counted over all processes", "store.breaker", "WITHIN", MINUTE),
    ("it is left alone for half a minute", "store.breaker", "OPEN_FOR", timedelta(seconds=30)),
    ("at most three requests at a time try whether it is up", "store.breaker", "PROBES", 3),
    ("in the middleware one address has 60 rows of them in a minute", "guard.strangers", "ROWS", 60),
    ("A host that is more than 5 seconds off says so", "store.clock", "MAX_SKEW_S", 5.0),
    ("at most 32,000 characters; `max_tool_calls`", "request", "MAX_PROMPT_CHARS", 32_000),
    ("A file has at most 1 MB, 20,000 values", "policy.source", "MAX_BYTES", 1_000_000),
    ("A file has at most 1 MB, 20,000 values", "policy.source", "MAX_NODES", 20_000),
    ("from the store when somebody looks, at most every five seconds", "telemetry.ledger", "KEPT_S", 5.0),
]


@pytest.mark.parametrize(("sentence", "module", "name", "value"), PROMISES)
def test_a_number_in_the_readme_is_that_of_the_code(sentence: str, module: str, name: str, value: object) -> None:
    assert sentence in README
    found = getattr(importlib.import_module(f"policyguard.{module}"), name)
    assert (type(found), found) == (type(value), value)

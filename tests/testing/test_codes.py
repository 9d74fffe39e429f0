"""Every code of policy tests is produced by a folder that is wrong in that way."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import SURFACE
from testing.suites import folder

from policyguard.policy.diagnostics import CODES as POLICY_CODES
from policyguard.testing.codes import CODES
from policyguard.testing.findings import findings
from policyguard.testing.run import run

WRONG = {
    "PG601": "",
    "PG602": "tests: [{name: a, request: {size: big}, expect: deny}]",
    "PG603": "matrix: {axes: {caller.tier: [free]}, expect: {}}",
    "PG604": "matrix: {axes: {caller.tier: [free]}, expect: {free: deny, pro: deny}}",
    "PG605": "tests: [{name: a, expect: allow}]",
    "PG606": "tests: [{name: a, expect: deny}]",
    "PG607": "tests: [{name: a, expect: allow}]",
}


@pytest.mark.parametrize("code", WRONG)
def test_the_code_is_produced(tmp_path: Path, code: str) -> None:
    path = folder(tmp_path, WRONG[code])
    (path / "other.yaml").write_text(SURFACE.replace("avatars", "other").replace("/v1/", "/other/"))
    assert code in {problem.code for problem in findings(run(path, require_tests=True), enough=False)}


def test_every_code_has_a_case_and_a_sentence() -> None:
    assert WRONG.keys() == CODES.keys()
    assert not CODES.keys() & POLICY_CODES.keys()
    assert all(words and not words.endswith(".") and words[0] == words[0].lower() for words in CODES.values())

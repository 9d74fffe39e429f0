"""`policyguard test` as it is typed: every format says the same, and the exit code says whether it may land."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as xml

import pytest
from support import SURFACE
from testing.suites import folder

from policyguard.policy.diagnostics import CODES as POLICY_CODES
from policyguard.testing.codes import CODES

ROOT = Path(__file__).parents[2]
TESTS = """
tests:
  - name: a cat is made
    expect: {outcome: allow, shadow: []}
  - name: high quality is for pro
    request: {quality: high}
    expect: allow
"""


def run(*arguments: str, cwd: Path, code: int = 0) -> str:
    command = [sys.executable, "-m", "policyguard", "test", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=cwd, env={**os.environ, "COLUMNS": "120"}
    )
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A working directory with `policies/`, one test of which fails."""
    folder(tmp_path / "policies", TESTS)
    return tmp_path


def test_the_shipped_policies_pass_with_full_coverage() -> None:
    shown = run("policies", "--min-coverage", "100", "--require-tests", cwd=ROOT)
    assert "avatars     100 %  10 of 10 branches of 5 conditions" in shown
    assert shown.splitlines()[-1].endswith("all pass, conditions covered to 100 %")


def test_text_shows_failures_coverage_and_a_summary(here: Path) -> None:
    assert run(cwd=here, code=1) == (
        "FAIL policies/tests/avatars.yaml:8  high quality is for pro\n"
        "  outcome   expected allow, was deny\n"
        "  reasons   + pro-quality  policies/avatars.yaml:21  deny\n"
        "\n"
        "avatars   60 %  6 of 10 branches of 5 conditions\n"
        "\n"
        "not seen by any test:\n"
        "  policies/avatars.yaml:24 long: never true\n"
        "  policies/avatars.yaml:25 trial: never true\n"
        "  policies/avatars.yaml:26 risky: never true\n"
        "  policies/avatars.yaml:28 exempt pro-quality: never true\n"
        "\n"
        "policies: 2 tests in 1 file, 1 failed, conditions covered to 60 %\n"
    )


def test_a_selection_runs_alone(here: Path) -> None:
    assert "1 test in 1 file, all pass" in run("-k", "CAT", cwd=here)
    assert "no test has `dog` in its name" in run("-k", "dog", cwd=here, code=1)


@pytest.mark.parametrize(("percent", "code"), [("40", 0), ("41", 1), ("100", 1)])
def test_too_little_coverage_is_a_finding(here: Path, percent: str, code: int) -> None:
    shown = run("-k", "cat", "--min-coverage", percent, cwd=here, code=code)
    assert (f"{percent} % are asked for" in shown) == bool(code)


def test_a_surface_without_tests_is_a_finding_where_tests_are_required(here: Path) -> None:
    (here / "policies" / "other.yaml").write_text(SURFACE.replace("avatars", "other").replace("/v1/", "/other/"))
    run("-k", "cat", cwd=here)
    shown = run("-k", "cat", "--require-tests", cwd=here, code=1)
    assert "error PG605: the surface `other` has no tests" in shown


def test_policies_that_do_not_load_are_shown_as_check_shows_them(here: Path) -> None:
    (here / "policies" / "avatars.yaml").write_text(SURFACE + "moderaton: {}\n")
    shown = run(cwd=here, code=1)
    assert "error PG201: there is no key `moderaton` here\n  --> policies/avatars.yaml:13:1" in shown
    assert shown.splitlines()[-1] == "policies: 0 tests in 0 files, nothing tested, 1 problem"


def test_a_folder_that_is_not_there_is_a_finding(tmp_path: Path) -> None:
    assert "error PG101" in run("nowhere", cwd=tmp_path, code=1)


def test_json_has_everything(here: Path) -> None:
    found = json.loads(run("--format", "json", cwd=here, code=1))
    assert {key: found[key] for key in ("folder", "passed", "tests", "failed", "problems")} == {
        "folder": "policies",
        "passed": False,
        "tests": 2,
        "failed": 1,
        "problems": [],
    }
    assert found["results"][1] == {
        "file": "policies/tests/avatars.yaml",
        "line": 8,
        "surface": "avatars",
        "name": "high quality is for pro",
        "passed": False,
        "outcome": "deny",
        "reasons": ["pro-quality"],
        "shadow": [],
        "adjusted": {},
        "ceiling_micros": None,
        "differences": [
            {"what": "outcome", "how": "different", "text": "expected allow, was deny", "note": "", "place": None},
            {
                "what": "reasons",
                "how": "unexpected",
                "text": "pro-quality",
                "note": "deny",
                "place": "policies/avatars.yaml:21",
            },
        ],
    }
    assert found["results"][0]["ceiling_micros"] > 0
    assert {key: found["coverage"][key] for key in ("percent", "seen", "branches")} == {
        "percent": 60,
        "seen": 6,
        "branches": 10,
    }
    assert found["coverage"]["conditions"][0] == {
        "surface": "avatars",
        "kind": "rule",
        "name": "pro-quality",
        "place": "policies/avatars.yaml:21",
        "true": True,
        "false": True,
    }


def test_junit_has_a_case_for_each_test_and_one_for_the_coverage(here: Path) -> None:
    root = xml.fromstring(run("--format", "junit", "--min-coverage", "100", cwd=here, code=1))
    assert (root.get("tests"), root.get("failures")) == ("3", "2")
    cases = {case.get("name"): case for case in root.iter("testcase")}
    assert list(cases) == ["avatars: a cat is made", "avatars: high quality is for pro", "coverage of 100 %"]
    assert cases["avatars: a cat is made"].find("failure") is None
    failure = cases["avatars: high quality is for pro"].find("failure")
    assert failure is not None
    assert failure.text == (
        "outcome: expected allow, was deny\nreasons: `pro-quality` was not expected (policies/avatars.yaml:21, deny)"
    )
    assert cases["avatars: a cat is made"].get("file") == "policies/tests/avatars.yaml"


def test_junit_is_xml_whatever_a_test_is_called(tmp_path: Path) -> None:
    folder(tmp_path / "policies", 'tests: [{name: "<a> & \\"b\\" ]]>", expect: deny}]\n')
    (case,) = xml.fromstring(run("--format", "junit", cwd=tmp_path, code=1)).iter("testcase")
    assert case.get("name") == 'avatars: <a> & "b" ]]>'


def test_junit_shows_a_file_that_cannot_be_read_as_a_failure(here: Path) -> None:
    (here / "policies" / "tests" / "more.yaml").write_text("surface: avatars\n")
    root = xml.fromstring(run("-k", "cat", "--format", "junit", cwd=here, code=1))
    failed = [case.get("name") for case in root.iter("testcase") if case.find("failure") is not None]
    assert failed == ["policies/tests/more.yaml"]


def test_github_shows_a_failure_at_its_test_and_what_is_not_seen_at_its_rule(here: Path) -> None:
    lines = run("--format", "github", cwd=here, code=1).splitlines()
    assert lines[-1] == (
        "::error file=policies/tests/avatars.yaml,line=8,col=5,title=PG606::`high quality is for pro` fails: "
        "outcome: expected allow, was deny; reasons: `pro-quality` was not expected (policies/avatars.yaml:21, deny)"
    )
    assert lines[0].startswith("::warning file=policies/avatars.yaml,line=24,")
    assert "`long` is never true in the tests of `avatars`" in lines[0]


def test_too_little_coverage_is_an_error_for_programs(here: Path) -> None:
    lines = run("-k", "cat", "--min-coverage", "90", "--format", "github", cwd=here, code=1).splitlines()
    assert {line.split(" ")[0] for line in lines} == {"::error"}


def test_sarif_knows_the_codes_of_tests_and_of_policies(here: Path) -> None:
    log: Any = json.loads(run("--format", "sarif", cwd=here, code=1))["runs"][0]
    assert [rule["id"] for rule in log["tool"]["driver"]["rules"]] == [*POLICY_CODES, *CODES]
    assert [(r["ruleId"], r["level"]) for r in log["results"]] == [("PG607", "warning")] * 4 + [("PG606", "error")]

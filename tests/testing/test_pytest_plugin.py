"""`pytest policies/` runs the tests of policies, and touches no other YAML."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from support import SURFACE
from testing.suites import folder

pytest_plugins = ["pytester"]
ROOT = Path(__file__).parents[2]
PLUGIN = "policyguard.testing.pytest_plugin"
TWO = """
tests:
  - name: a cat is made
    expect: allow
  - name: high quality is for pro
    request: {quality: high}
    expect: allow
matrix:
  axes: {caller.tier: [free, pro]}
  expect: {free: allow, pro: allow}
"""


@pytest.fixture(autouse=True)
def _only_this_plugin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether or not this checkout is installed with its entry point, the plugin is there once."""
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")


def pytest_run(pytester: pytest.Pytester, *arguments: str) -> pytest.RunResult:
    return pytester.runpytest_subprocess("-p", PLUGIN, "-p", "no:cacheprovider", *arguments)


def test_each_test_and_each_cell_is_an_item(pytester: pytest.Pytester) -> None:
    folder(pytester.path / "policies", TWO)
    result = pytest_run(pytester, "policies", "-v")
    result.assert_outcomes(passed=3, failed=1)
    result.stdout.fnmatch_lines(
        [
            "policies/tests/avatars.yaml::a cat is made PASSED*",
            "policies/tests/avatars.yaml::high quality is for pro FAILED*",
            "policies/tests/avatars.yaml::matrix: caller.tier=free PASSED*",
            "policies/tests/avatars.yaml::matrix: caller.tier=pro PASSED*",
        ]
    )


def test_a_failure_shows_what_differs_and_no_traceback(pytester: pytest.Pytester) -> None:
    folder(pytester.path / "policies", TWO)
    result = pytest_run(pytester, "policies")
    result.stdout.fnmatch_lines(
        [
            "policies/tests/avatars.yaml:8  high quality is for pro",
            "  outcome   expected allow, was deny",
            "  reasons   + pro-quality  policies/avatars.yaml:21  deny",
        ],
        consecutive=True,
    )
    assert "Traceback" not in result.stdout.str()
    assert "runtest" not in result.stdout.str()


def test_an_item_is_selected_and_reported_by_name(pytester: pytest.Pytester) -> None:
    folder(pytester.path / "policies", TWO)
    result = pytest_run(pytester, "policies", "-k", "cat", "--junitxml=out.xml", "-o", "junit_family=xunit1")
    result.assert_outcomes(passed=1, deselected=3)
    written = (pytester.path / "out.xml").read_text()
    assert 'file="policies/tests/avatars.yaml" line="5"' in written


def test_a_wrong_file_is_an_error_of_collection_with_its_place(pytester: pytest.Pytester) -> None:
    folder(pytester.path / "policies", "tests: [{name: a, expect: alow}]\n")
    result = pytest_run(pytester, "policies")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["error PG204: `alow` is not possible here", "*policies/tests/avatars.yaml:5:27"])


def test_policies_that_do_not_load_are_an_error_of_collection(pytester: pytest.Pytester) -> None:
    folder(pytester.path / "policies", TWO, avatars=SURFACE + "moderaton: {}\n")
    result = pytest_run(pytester, "policies")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["error PG201: there is no key `moderaton` here"])


def test_other_yaml_is_not_touched(pytester: pytest.Pytester) -> None:
    folder(pytester.path / "policies", TWO)
    for place in ("tests", "policies/more", "other/tests", "policies/tests/.hidden.yaml"):
        path = pytester.path / place
        (path if path.suffix else path / "some.yaml").parent.mkdir(parents=True, exist_ok=True)
        (path if path.suffix else path / "some.yaml").write_text("surface: [")
    pytest_run(pytester).assert_outcomes(passed=3, failed=1)


def test_files_of_other_tools_by_these_names_are_not_touched(pytester: pytest.Pytester) -> None:
    pytester.makefile(".yaml", org="teams: {}\n", **{"tests/members": "- surfaces: 1\n"})
    pytest_run(pytester).assert_outcomes()


@pytest.mark.parametrize("file", ["org.yaml", "tests/avatars.yaml"])
def test_one_word_too_few_hides_no_tests(pytester: pytest.Pytester, file: str) -> None:
    folder(pytester.path / "policies", TWO)
    path = pytester.path / "policies" / file
    path.write_text(path.read_text().replace("organisation:", "organization:").replace("surface:", "surfaces:"))
    pytest_run(pytester, "policies").assert_outcomes(errors=1)


def test_the_shipped_policies_run_from_anywhere(pytester: pytest.Pytester) -> None:
    result = pytest_run(pytester, str(ROOT / "policies"), "-q")
    assert result.ret == pytest.ExitCode.OK
    assert result.parseoutcomes()["passed"] > 50


def test_importing_the_plugin_imports_nothing_of_the_policy_language() -> None:
    code = f"import sys, {PLUGIN}; print(sorted(m for m in sys.modules if m.startswith('policyguard') or m == 'yaml'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"['policyguard', 'policyguard.testing', '{PLUGIN}']"


def test_the_plugin_is_registered_for_every_pytest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["entry-points"]["pytest11"] == {"policyguard": PLUGIN}

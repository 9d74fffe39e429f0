"""A run as a whole: what fails it, and that nothing can make it pass that does not pass."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import SURFACE
from testing.suites import folder

from policyguard.policy.load import load
from policyguard.policy.model import PolicySet
from policyguard.testing.names import names
from policyguard.testing.read import Expected, PolicyTest, read_suite, suite_files
from policyguard.testing.render import summary
from policyguard.testing.run import decide, run
from policyguard.testing.simulate import EffectWord

ROOT = Path(__file__).parents[2]
ONE = "tests: [{name: One cat, expect: allow}]\n"


# ---- the shipped policies ---------------------------------------------------------------------------------


def test_the_shipped_tests_pass_and_see_every_condition_true_and_false() -> None:
    found = run(ROOT / "policies", require_tests=True)
    assert (found.problems, found.failed) == ((), ())
    assert [condition for condition in found.coverage.conditions if condition.missing] == []
    assert {result.test.surface for result in found.results} == {"avatars", "id-photos", "marketing", "storefront"}


@pytest.fixture(scope="module")
def shipped() -> tuple[PolicySet, list[PolicyTest]]:
    policies = load(ROOT / "policies")
    return policies, [t for file in suite_files(ROOT / "policies") for t in read_suite(file, policies).tests]


def test_every_shipped_test_fails_with_any_other_outcome(shipped: tuple[PolicySet, list[PolicyTest]]) -> None:
    policies, tests = shipped
    for test in tests:
        for outcome in set(get_args(EffectWord)) - {test.expected.outcome}:
            flipped = replace(test, expected=replace(test.expected, outcome=outcome))
            assert not decide(policies, flipped).passed


@given(pick=st.randoms(use_true_random=False))
def test_a_flipped_expectation_always_fails(shipped: tuple[PolicySet, list[PolicyTest]], pick: Any) -> None:
    policies, tests = shipped
    test = pick.choice(tests)
    expected = replace(test.expected, **pick.choice(list(_flips(policies, test))))
    assert decide(policies, test).passed
    assert not decide(policies, replace(test, expected=expected)).passed


def _flips(policies: PolicySet, test: PolicyTest) -> Any:
    """Every change of one thing that a test can look at."""
    seen, expected = decide(policies, test).seen, test.expected
    if expected.reasons is not None:
        for name in names(policies, test.surface).reasons:
            yield {"reasons": expected.reasons ^ {name}}
    shadow = frozenset(reason.id for reason in seen.shadow)
    for name in names(policies, test.surface).reasons:
        yield {"shadow": shadow ^ {name}}
    given = {a.param: a.given for a in seen.adjustments}
    yield {"adjusted": {**given, "n": "7"}}
    if given:
        yield {"adjusted": {}}


@given(order=st.permutations(range(6)))
def test_the_order_of_tests_changes_nothing(tmp_path_factory: pytest.TempPathFactory, order: list[int]) -> None:
    rows = [
        "expect: {outcome: allow, reasons: []}",
        "request: {quality: high}, expect: {outcome: deny, reasons: [pro-quality]}",
        "spent: {user-day: 20 images}, expect: deny",
        "spent: {user-day: 19 images}, expect: deny",
        "scores: unavailable, expect: allow",
        "request: {n: 2}, expect: {outcome: allow, shadow: [trial]}",
    ]
    text = "".join(f"  - {{name: t{i}, {rows[i]}}}\n" for i in order)
    found = run(folder(tmp_path_factory.mktemp("order"), f"tests:\n{text}"))
    passed = {result.test.name: result.passed for result in found.results}
    assert passed == {"t0": True, "t1": True, "t2": True, "t3": False, "t4": False, "t5": False}
    assert found.coverage.seen == 7


# ---- what is no success -----------------------------------------------------------------------------------


def codes(path: Path, **options: Any) -> list[str]:
    found = run(path, **options)
    assert not found.passed
    return [problem.code for problem in found.problems]


def test_a_folder_without_tests_fails(tmp_path: Path) -> None:
    path = folder(tmp_path, ONE)
    (path / "tests" / "avatars.yaml").unlink()
    assert codes(path) == ["PG601"]
    assert summary(run(path)) == f"{path}: 0 tests in 0 files, nothing tested, 1 problem"


def test_a_file_that_tests_nothing_fails_beside_one_that_does(tmp_path: Path) -> None:
    path = folder(tmp_path, ONE)
    (path / "tests" / "more.yaml").write_text("surface: avatars\n")
    assert codes(path) == ["PG601"]


def test_a_surface_without_tests_fails_where_tests_are_required(tmp_path: Path) -> None:
    path = folder(tmp_path, ONE)
    (path / "other.yaml").write_text(SURFACE.replace("avatars", "other").replace("/v1/", "/other/"))
    assert run(path).passed
    assert codes(path, require_tests=True) == ["PG605"]


def test_a_broken_file_is_no_missing_file(tmp_path: Path) -> None:
    assert codes(folder(tmp_path, "test: []\n"), require_tests=True) == ["PG201"]


def test_policies_that_do_not_load_fail_and_nothing_is_run(tmp_path: Path) -> None:
    path = folder(tmp_path, ONE, avatars=SURFACE + "moderaton: {}\n")
    assert codes(path) == ["PG201"]
    assert run(path).results == ()


def test_a_selection_looks_at_names_and_files_and_selecting_nothing_fails(tmp_path: Path) -> None:
    path = folder(tmp_path, "tests: [{name: One cat, expect: allow}, {name: two dogs, expect: allow}]\n")
    assert [result.test.name for result in run(path, select="one C").results] == ["One cat"]
    assert len(run(path, select="avatars.yaml").results) == 2
    assert codes(path, select="three") == ["PG601"]


def test_an_expectation_of_nothing_looks_at_nothing_else() -> None:
    assert Expected(outcome="deny") == Expected(outcome="deny", reasons=None, shadow=None, adjusted=None)

"""What counts as seen: a condition true and false, where the engine evaluates it, and nowhere else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from testing.suites import AVATARS, folder

from policyguard.testing.coverage import Coverage
from policyguard.testing.render import missing, report
from policyguard.testing.run import run


def covered(path: Path, *tests: str, avatars: str = AVATARS) -> Coverage:
    """The coverage of tests, each written as what stands in its braces; whether they pass does not matter."""
    rows = "".join(f"  - {{name: t{i}, expect: allow, {text}}}\n" for i, text in enumerate(tests))
    found = run(folder(path, f"tests:\n{rows}", avatars=avatars))
    assert found.problems == ()
    return found.coverage


def seen(coverage: Coverage, name: str) -> Any:
    condition = next(c for c in coverage.conditions if c.name == name)
    return (condition.true, condition.false)


def test_every_rule_and_every_exemption_counts_with_two_branches(tmp_path: Path) -> None:
    found = covered(tmp_path, "request: {n: 1}")
    names = [(c.kind, c.name) for c in found.conditions]
    assert names == [
        ("rule", "pro-quality"),
        ("rule", "long"),
        ("rule", "trial"),
        ("rule", "risky"),
        ("exemption", "exempt pro-quality"),
    ]
    assert (found.seen, found.branches, found.percent) == (4, 10, 40)


def test_a_rule_is_seen_true_and_false(tmp_path: Path) -> None:
    once = covered(tmp_path, "request: {quality: high}")
    both = covered(tmp_path, "request: {quality: high}", "request: {quality: low}")
    assert (seen(once, "pro-quality"), seen(both, "pro-quality")) == ((True, False), (True, True))


def test_a_rule_about_scores_is_not_seen_where_the_request_was_denied_before(tmp_path: Path) -> None:
    assert seen(covered(tmp_path, "request: {n: 9}"), "risky") == (False, False)
    assert seen(covered(tmp_path, "paused: all"), "risky") == (False, False)
    assert seen(covered(tmp_path, "request: {n: 2}"), "risky") == (False, True)


def test_what_cannot_be_evaluated_is_neither(tmp_path: Path) -> None:
    assert seen(covered(tmp_path, "request: {n: 2}, scores: unavailable"), "risky") == (False, False)
    assert seen(covered(tmp_path, "request: {n: 1}, scores: unavailable"), "risky") == (False, True)


def test_an_exemption_counts_where_its_rule_would_speak(tmp_path: Path) -> None:
    silent = covered(tmp_path, "caller: {tenant: acme}")
    spoken = covered(tmp_path, "caller: {tenant: acme}, request: {quality: high}", "request: {quality: high}")
    exempted = "caller: {tenant: acme}, request: {quality: high}, now"
    last_day = covered(tmp_path, f"{exempted}: 2026-06-30T23:59:59Z")
    expired = covered(tmp_path, f"{exempted}: 2026-07-01T00:00:00Z")
    names = [seen(found, "exempt pro-quality") for found in (silent, spoken, last_day, expired)]
    assert names == [(False, False), (True, True), (True, False), (False, False)]


def test_a_shadow_rule_counts_like_any_other(tmp_path: Path) -> None:
    assert seen(covered(tmp_path, "request: {n: 2}", "request: {n: 1}"), "trial") == (True, True)


def test_percent_is_rounded_down_and_nothing_to_see_is_all_seen() -> None:
    assert Coverage(()).percent == 100


def test_what_is_missing_is_listed_with_its_place(tmp_path: Path) -> None:
    found = covered(tmp_path, "request: {quality: high}")
    lines = [missing(c).replace(f"{tmp_path}/", "") for c in found.conditions if c.missing]
    assert lines == [
        "avatars.yaml:21 pro-quality: never false",
        "avatars.yaml:24 long: never true",
        "avatars.yaml:25 trial: never true",
        "avatars.yaml:26 risky: never true, never false",
        "avatars.yaml:28 exempt pro-quality: never true",
    ]


@pytest.mark.parametrize("rule", ["{id: all, when: request.n == 2, then: flag}"])
def test_a_rule_of_the_organisation_counts_for_each_surface(tmp_path: Path, rule: str) -> None:
    path = folder(tmp_path, "tests: [{name: a, expect: allow}]\n")
    (path / "other.yaml").write_text(
        (path / "avatars.yaml").read_text().replace("avatars", "other").replace("/v1/", "/o/")
    )
    (path / "org.yaml").write_text((path / "org.yaml").read_text() + f"rules: [{rule}]\n")
    found = run(path).coverage
    assert [(c.surface, c.true, c.false) for c in found.conditions if c.name == "all"] == [
        ("avatars", False, True),
        ("other", False, False),
    ]
    assert found.of("avatars").percent == 41
    text = "\n".join(report(run(path))).replace(f"{tmp_path}/", "")
    assert "org.yaml:15 all: never true (in avatars)" in text
    assert "avatars   41 %  5 of 12 branches of 6 conditions" in text

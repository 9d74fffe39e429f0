"""What a failed test says: what was expected, what was seen, which rule, where it stands, and why it did not speak."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import SURFACE
from testing.suites import folder

from policyguard.testing.render import failure
from policyguard.testing.run import run

# what a test says after its name, and what follows the line of the test; {p} is the policy's file
FAILURES: dict[str, tuple[str, str]] = {
    "another outcome": (
        "expect: deny",
        """
  outcome   expected deny, was allow
""",
    ),
    "another outcome, with what spoke": (
        "scores: {violence: 0.6}, expect: allow",
        """
  outcome   expected allow, was deny
  reasons   + moderation.violence  org.yaml:14      deny: moderation scores `violence` at or above the threshold
            + moderation.violence  avatars.yaml:14  review: moderation scores `violence` at or above the threshold
""",
    ),
    "a rule that is false": (
        "expect: {outcome: flag, reasons: [long]}",
        """
  outcome   expected flag, was allow
  reasons   - long  avatars.yaml:24  false: size(request.prompt) > 20
""",
    ),
    "one reason instead of another": (
        "request: {quality: high}, expect: {outcome: deny, reasons: [long]}",
        """
  reasons   - long         avatars.yaml:24  false: size(request.prompt) > 20
            + pro-quality  avatars.yaml:21  deny
""",
    ),
    "a rule in shadow": (
        "request: {n: 2}, expect: {outcome: deny, reasons: [trial]}",
        """
  outcome   expected deny, was allow
  reasons   - trial  avatars.yaml:25  in shadow mode: recorded only
""",
    ),
    "an exempted rule": (
        "request: {quality: high}, caller: {tenant: acme}, expect: {outcome: deny, reasons: [pro-quality]}",
        """
  outcome   expected deny, was allow
  reasons   - pro-quality  avatars.yaml:21  exempted until 2026-06-30 by avatars.yaml:28
""",
    ),
    "a rule that was not reached": (
        "request: {n: 9}, scores: {hate: 0.45}, expect: {outcome: deny, reasons: [request.n, risky]}",
        """
  reasons   - risky  avatars.yaml:26  not looked at: denied before moderation
""",
    ),
    "a score below the threshold": (
        "scores: {violence: 0.2}, expect: {outcome: review, reasons: [moderation.violence]}",
        """
  outcome   expected review, was allow
  reasons   - moderation.violence  avatars.yaml:14  score 0.2, review from 0.3
""",
    ),
    "a budget with room": (
        "spent: {user-day: 19 images}, expect: {outcome: deny, reasons: [budget.user-day]}",
        """
  outcome   expected deny, was allow
  reasons   - budget.user-day  avatars.yaml:17  had room
""",
    ),
    "a budget that was not reached": (
        "request: {n: 9}, spent: {user-day: 20 images}, expect: {outcome: deny, reasons: [request.n, budget.user-day]}",
        """
  reasons   - budget.user-day  avatars.yaml:17  not looked at: denied before money
""",
    ),
    "a parameter that is allowed": (
        "expect: {outcome: deny, reasons: [request.n]}",
        """
  outcome   expected deny, was allow
  reasons   - request.n  avatars.yaml:12
""",
    ),
    "shadow": (
        "request: {n: 2}, expect: {outcome: allow, shadow: []}",
        """
  shadow    + trial         avatars.yaml:25  deny
            + budget.tried  avatars.yaml:19  deny: the budget `tried` (images) has no room for this request
""",
    ),
    "an adjustment that did not happen, and one that did": (
        "request: {moderation: low}, expect: {outcome: allow, adjusted: {n: 2}}",
        """
  adjusted  moderation expected as it is, was auto
            n expected 2, was not adjusted  avatars.yaml:12
""",
    ),
}


@pytest.mark.parametrize("name", FAILURES)
def test_a_failure_says_what_differs_and_where(tmp_path: Path, name: str) -> None:
    written, expected = FAILURES[name]
    (result,) = run(folder(tmp_path, f"tests:\n  - {{name: the test, {written}}}\n")).results
    shown = failure(result).replace(f"{tmp_path}/", "")
    assert shown == f"tests/avatars.yaml:6  the test{expected.rstrip()}"


def test_a_long_condition_is_cut(tmp_path: Path) -> None:
    rule = f"rules: [{{id: many, when: '{' && '.join(['request.n > 1'] * 20)}', then: deny}}]\n"
    text = "tests: [{name: a, expect: {outcome: deny, reasons: [many]}}]\n"
    (result,) = run(folder(tmp_path, text, avatars=SURFACE + rule)).results
    shown = failure(result).partition("false: ")[2]
    assert shown == f"{' && '.join(['request.n > 1'] * 20)[:97]}..."


def test_what_passes_has_no_differences(tmp_path: Path) -> None:
    (result,) = run(
        folder(tmp_path, "tests: [{name: a, expect: {outcome: allow, shadow: [], adjusted: {}}}]\n")
    ).results
    assert (result.passed, result.differences) == (True, ())

"""A review needs somebody whom it is for: the guard, `explain`, `diff` and `test` say so alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import ORG, SURFACE, request, write_policies
from typer.testing import CliRunner

from policyguard.cli import app
from policyguard.guard.guard import Guard
from policyguard.moderation.scripted import ScriptedModerator
from policyguard.policy.load import load
from policyguard.request import Caller
from policyguard.testing.simulate import Case, simulate

WITHOUT_USERS = ORG.replace(", required: true}", "}")
REVIEWS = {
    "every request": "review: {required: true, reviewers: [group:trust]}\n",
    "every answer": "moderation: {check: [prompt, output_images]}\nreview: {hold: output, reviewers: [group:trust]}\n",
    "a rule": "rules: [{id: all, when: 'request.n == 1', then: review}]\nreview: {reviewers: [group:trust]}\n",
    "a score": "moderation: {review_at: {violence: 0.3}}\nreview: {reviewers: [group:trust]}\n",
}


@pytest.mark.parametrize("review", REVIEWS)
@pytest.mark.parametrize("user", [None, "u1"])
def test_a_request_of_nobody_is_not_held(tmp_path: Path, review: str, user: str | None) -> None:
    folder = write_policies(tmp_path / "policies", org=WITHOUT_USERS, avatars=SURFACE + REVIEWS[review])
    caller = Caller(user=user)
    outcomes = {
        "guard": guarded(folder, tmp_path, caller),
        "test": simulate(load(folder), "avatars", Case(request=request(), caller=caller, scores={"violence": 0.4})),
        "explain": explained(folder, user),
    }
    if user is None:
        assert outcomes["guard"] == "deny"
        assert outcomes["test"].outcome == "deny"
        assert [reason.id for reason in outcomes["test"].reasons if reason.effect.word == "deny"] == ["caller.user"]
        assert outcomes["explain"]["outcome"] == "deny"
    else:
        expected = "allow" if review == "every answer" else "review"
        assert outcomes["guard"] == expected
        assert outcomes["test"].outcome == outcomes["explain"]["outcome"] == "review"


def guarded(folder: Path, place: Path, caller: Caller) -> str:
    moderator = ScriptedModerator({"violence": 0.4})
    with Guard.open(folder, store=f"sqlite:///{place / 'r.sqlite3'}", moderator=moderator, watch=False) as guard:
        answer = guard.admit(request(), caller, surface="avatars")
        return answer.decision.effect.word


def explained(folder: Path, user: str | None) -> Any:
    who = ["--caller", f"user={user}"] if user else []
    said = ["--policies", str(folder), "--score", "violence=0.4", "--format", "json"]
    return json.loads(CliRunner().invoke(app, ["explain", "avatars", *who, *said]).output)


def test_diff_does_not_call_a_refusal_loosened(tmp_path: Path) -> None:
    """What was refused for nobody's sake and is so still is no other decision."""
    before = write_policies(tmp_path / "old", org=WITHOUT_USERS, avatars=SURFACE + REVIEWS["every request"])
    after = write_policies(
        tmp_path / "new", org=WITHOUT_USERS, avatars=SURFACE + REVIEWS["every request"].replace("true", "false")
    )
    found = CliRunner().invoke(app, ["diff", str(before), str(after), "--format", "json"])
    findings = [finding for surface in json.loads(found.output)["surfaces"] for finding in surface["findings"]]
    assert {(finding["old"], finding["new"]) for finding in findings} == {("deny", "allow"), ("review", "allow")}

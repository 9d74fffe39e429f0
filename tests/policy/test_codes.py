"""Every code is produced by a folder that is wrong in that way: the table of codes has no wishes."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import ORG, SURFACE, write_policies

from policyguard.policy.diagnostics import CODES
from policyguard.policy.load import check

DEEP = "(" * 31 + "request.n > 1" + ")" * 31
OTHER = SURFACE.replace("surface: avatars", "surface: other")


def rule(when: str) -> str:
    return f"rules:\n  - id: a\n    then: deny\n    when: |\n      {when}\n"


# code: (added to org.yaml, added to the surface's file, further files)
WRONG: dict[str, tuple[str, str, dict[str, str]]] = {
    "PG102": ("", "audit: {", {}),
    "PG103": ("", "mode: enforce\nmode: shadow", {}),
    "PG104": ("", "audit: {<<: {prompt: none}}", {}),
    "PG105": ("", "mode: &a enforce", {}),
    "PG106": ("", "mode: " + "[" * 60, {}),
    "PG107": ("", "---\na: 1", {}),
    "PG108": ("", 'title2: "\\e"', {}),
    "PG109": ("", "1: a", {}),
    "PG201": ("", "moderaton: {}", {}),
    "PG202": ("", "rules: [{id: a, then: deny}]", {}),
    "PG203": ("", "rules: nothing", {}),
    "PG204": ("", "mode: audit", {}),
    "PG205": ("", "budgets: [{id: a, limit: much}]", {}),
    "PG206": ("", "budgets: [{id: a, limit: $1 / day, per: caller.usr}]", {}),
    "PG207": ("", "budgets: [{id: a, limit: $1 / day}, {id: a, limit: $1 / day}]", {}),
    "PG208": ("", "review: {reviewers: [a], required: true, approvals: 2}", {}),
    "PG209": ("", "review: {required: true}", {}),
    "PG210": ("", "questions: {}", {}),
    "PG301": ("limits: {request: {n: {max: 1}}}", "", {}),
    "PG302": ("  request: {formats: {allow: [png]}}\nlimits: {request: {formats: {allow: [webp]}}}", "", {}),
    "PG303": ("  request: {quality: {allow: [low], default: high}}", "", {}),
    "PG401": ("", rule("request.n >"), {}),
    "PG402": ("", rule("reqest.n > 1"), {}),
    "PG403": ("", rule("request.m > 1"), {}),
    "PG404": ("", rule("length(request.prompt) > 1"), {}),
    "PG405": ("", rule('request.n == "1"'), {}),
    "PG406": ("", rule('request.quality == "hgih"'), {}),
    "PG407": ("", rule('caller.feature == "a"'), {}),
    "PG408": ("", rule('request.prompt.matches("(")'), {}),
    "PG409": ("", rule(DEEP), {}),
    "PG410": ("", rule("request.obfuscated"), {}),
    "PG411": ("", rule("has(request.n)"), {}),
    "PG412": ("", rule("scores.sexual > 30.0"), {}),
    "PG413": ("", rule("request.n"), {}),
    "PG414": ("", rule("{'a': 1} == {'a': 1}"), {}),
    "PG415": ("", rule("request.model == 'gpt-\u0456mage'"), {}),
    "PG503": ("", "", {"again": SURFACE}),
    "PG504": ("", "", {"other": OTHER}),
}


@pytest.mark.parametrize("code", WRONG)
def test_the_code_is_produced(tmp_path: Path, code: str) -> None:
    org, surface, more = WRONG[code]
    write_policies(tmp_path, org=f"{ORG}{org}\n", avatars=f"{SURFACE}{surface}\n", **more)
    assert code in [problem.code for problem in check(tmp_path)]


def test_the_codes_of_folders_are_produced(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert [p.code for p in check(tmp_path / "empty")] == ["PG501"]
    assert [p.code for p in check(write_policies(tmp_path / "alone"))] == ["PG502"]
    assert [p.code for p in check(tmp_path / "nowhere")] == ["PG101"]


def test_every_code_has_a_case_and_a_sentence() -> None:
    assert set(WRONG) | {"PG101", "PG501", "PG502"} == set(CODES)
    assert all(words and not words.endswith(".") and words[0] == words[0].lower() for words in CODES.values())

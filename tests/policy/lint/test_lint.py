"""Warnings: each fires where something is certainly not meant, and is silent one step beside it."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest
from support import NOW, SURFACE, policy, write_policies

from policyguard.decision import Effect
from policyguard.engine.decide import screen
from policyguard.errors import Diagnostic
from policyguard.policy.lint.conditions import MAX_WORK
from policyguard.policy.load import check, load
from policyguard.request import Caller, ImageRequest

ROOT = Path(__file__).parents[3]
TODAY = NOW.date()
ORG = """
version: 1
organisation: Example Corp
caller:
  user:    {required: true}
  tier:    {values: [free, pro], default: free}
  tenant:  {default: public}
  feature: {}
defaults:
  review: {reviewers: [ada@example.com, grace@example.com]}
"""


def rule(when: str, then: str = "deny", more: str = "") -> str:
    return f"rules:\n  - id: a\n    then: {then}\n{more}    when: |\n      {when}\n"


def two(first: str, second: str) -> str:
    return f"rules:\n  - {{id: a, {first}}}\n  - {{id: b, {second}}}\n"


def exempt(when: str, until: str = "2026-11-24", mode: str = "enforce") -> str:
    rules = f"rules: [{{id: a, when: caller.tier == 'free' && request.n > 1, then: deny, mode: {mode}}}]\n"
    return f"{rules}exempt: [{{rules: [a], when: {when}, until: {until}, by: ada, why: pilot}}]\n"


# name: (code, fires, near miss), added to a surface that allows two models, three sizes, low to high, and n up to 2
CASES: dict[str, tuple[str, str, str]] = {
    "an empty range": ("PG701", rule("request.n > 1 && request.n < 2"), rule("request.n > 1 && request.n < 3")),
    "two texts at once": (
        "PG701",
        rule('caller.tenant == "a" && caller.tenant == "b"'),
        rule('caller.tenant == "a" && caller.tier == "pro"'),
    ),
    "a guard against itself": (
        "PG701",
        rule("has(caller.feature) && !has(caller.feature)"),
        rule('has(caller.feature) && caller.feature == "a"'),
    ),
    "an hour that no clock shows": ("PG701", rule("now.getHours() > 23"), rule("now.getHours() > 22")),
    "another surface": ("PG701", rule('surface == "avatar"'), rule('surface == "avatars" && request.n > 1')),
    "excluding two texts": (
        "PG702",
        rule('caller.tenant != "a" || caller.tenant != "b"'),
        rule('caller.tenant != "a" || caller.tier != "free"'),
    ),
    "all tiers": ("PG702", rule('caller.tier in ["free", "pro"]'), rule('caller.tier in ["free"]')),
    "all that n can be": ("PG702", rule("request.n <= 2"), rule("request.n <= 1")),
    "meant to be true": ("PG702", rule("1 == 1"), rule("true")),
    "beyond n": ("PG703", rule("request.n > 2"), rule("request.n > 1")),
    "a quality that is not listed": ("PG703", rule('request.quality == "max"'), rule('request.quality == "high"')),
    "a size that is not listed": (
        "PG703",
        rule('request.size == "2048x2048"', "review"),
        rule('request.size == "1024x1536"', "review"),
    ),
    "more pixels than any listed size": ("PG703", rule("request.pixels > 1572864"), rule("request.pixels > 1572863")),
    "a model that is not listed": (
        "PG703",
        rule('request.model == "gpt-image-2"'),
        rule('request.model == "gpt-image-2-2026-04-21"'),
    ),
    "auto that is not listed": (
        "PG703",
        rule('request.size == "auto"'),
        rule('request.size != "1024x1024"'),
    ),
    "partial images that nobody gets": (
        "PG703",
        rule("request.partial_images > 0"),
        "request: {partial_images: {max: 1}}\n" + rule("request.partial_images > 0"),
    ),
    "a longer prompt": (
        "PG703",
        "request: {prompt: {max_chars: 100}}\n" + rule("size(request.prompt) > 100", "flag"),
        "request: {prompt: {max_chars: 100}}\n" + rule("size(request.prompt) > 99", "flag"),
    ),
    "more input images": (
        "PG703",
        "request: {input_images: {max: 1}}\n" + rule("request.input_images > 1"),
        "request: {input_images: {max: 2}}\n" + rule("request.input_images > 1"),
    ),
    "a format that is not listed": (
        "PG703",
        "request: {formats: {allow: [png]}}\n" + rule('request.output_format == "jpeg"'),
        "request: {formats: {allow: [png, jpeg]}}\n" + rule('request.output_format == "jpeg"'),
    ),
    "a score that moderation denies": (
        "PG703",
        rule("scores.violence >= 0.5", "review"),
        rule("scores.violence >= 0.4", "review"),
    ),
    "the same rule": (
        "PG704",
        two("when: request.n > 1, then: deny", "when: request.n  >  1, then: deny"),
        two("when: request.n > 1, then: deny", "when: request.n >= 2, then: deny"),
    ),
    "a weaker rule": (
        "PG704",
        two("when: request.n > 1, then: deny", "when: request.n > 1, then: flag"),
        two("when: request.n > 1, then: deny, mode: shadow", "when: request.n > 1, then: flag"),
    ),
    "a trial of what is enforced": (
        "PG704",
        two("when: request.n > 1, then: deny", "when: request.n > 1, then: review, mode: shadow"),
        two("when: request.n > 1, then: flag", "when: request.n > 1, then: review, mode: shadow"),
    ),
    "a review after the denial": (
        "PG705",
        "moderation: {review_at: {violence: 0.50}}\n",
        "moderation: {review_at: {violence: 0.49}}\n",
    ),
    "a default review after every denial": (
        "PG705",
        "moderation: {review_at: {default: 0.60}}\n",
        "moderation: {deny_at: {hate: 0.70}, review_at: {default: 0.60}}\n",
    ),
    "a denial from 0 on": ("PG706", "moderation: {deny_at: {hate: 0}}\n", "moderation: {deny_at: {hate: 0.01}}\n"),
    "a review from 0 on": (
        "PG706",
        "moderation: {review_at: {hate: 0.0}}\n",
        "moderation: {review_at: {hate: 0.001}}\n",
    ),
    "a budget below one picture": (
        "PG708",
        "budgets: [{id: a, limit: $0.001 / day}]\n",
        "budgets: [{id: a, limit: $0.01 / day}]\n",
    ),
    "a budget in trial": (
        "PG708",
        "budgets: [{id: a, limit: $0.001 / day, per: caller.user}]\n",
        "budgets: [{id: a, limit: $0.001 / day, mode: shadow}, {id: b, limit: 1 images / day}]\n",
    ),
    "an exemption that has ended": (
        "PG710",
        exempt("caller.tenant == 'a'", until="2026-11-23"),
        exempt("caller.tenant == 'a'", until="2026-11-24"),
    ),
    "an exemption from a trial": (
        "PG711",
        exempt("caller.tenant == 'a'", mode="shadow"),
        exempt("caller.tenant == 'a'"),
    ),
    "an exemption of others": ("PG711", exempt("caller.tier == 'pro'"), exempt("caller.tier == 'free'")),
    "an exemption for everybody": ("PG701", exempt("request.n > 1 && request.n < 2"), exempt("'true'")),
    "a step to the reviewers": (
        "PG712",
        "review: {escalate: [{after: 1h, to: [grace@example.com]}]}\n",
        "review: {escalate: [{after: 1h, to: [grace@example.com, oncall@example.com]}]}\n",
    ),
    "a step to the step before": (
        "PG712",
        "review: {escalate: [{after: 1h, to: [b@example.com]}, {after: 2h, to: [b@example.com]}]}\n",
        "review: {escalate: [{after: 1h, to: [b@example.com]}, {after: 2h, to: [c@example.com]}]}\n",
    ),
}


def warnings(folder: Path, added: str, *, org: str = ORG, base: str = SURFACE, today: date | None = TODAY) -> list[str]:
    request = "request:\n"
    if added.startswith("request: {"):  # more keys for the section that is there
        line, rest = added.split("\n", 1)
        base, added = base.replace(request, f"{request}  {line[len('request: {') : -1]}\n"), rest
    write_policies(folder, org=org, avatars=base + added)
    found = check(folder, today=today)
    assert all(problem.severity == "warning" for problem in found), found
    load(folder, now=NOW)  # warnings never stop a policy
    return [problem.code for problem in found]


@pytest.mark.parametrize("name", CASES)
def test_a_warning_fires_and_is_silent_one_step_beside(tmp_path: Path, name: str) -> None:
    code, fires, near = CASES[name]
    assert (warnings(tmp_path / "a", fires), warnings(tmp_path / "b", near)) == ([code], [])


ORG_CASES: dict[str, tuple[str, str, str]] = {
    "a rule for no surface": (
        "PG701",
        "rules: [{id: o, when: surface == 'avatar', then: flag}]\n",
        "rules: [{id: o, when: surface == 'avatars', then: flag}]\n",
    ),
    "a condition of one surface's range": (
        "PG702",
        "rules: [{id: o, when: request.n <= 10, then: flag}]\n",
        "rules: [{id: o, when: request.n > 5, then: flag}]\n",
    ),
    "a rule for one of one surface": (
        "PG701",
        "rules: [{id: o, when: surface == 'avatars' && surface == 'other', then: flag}]\n",
        "rules: [{id: o, when: surface == 'avatars' || request.n > 1, then: flag}]\n",
    ),
    "a group that nobody names": (
        "PG707",
        "groups: {oncall: [o@example.com]}\n",
        "  moderation: {when_unavailable: deny}\n",
    ),
    "a limit of 0": (
        "PG706",
        "limits: {moderation: {deny_at: {hate: 0}}}\n",
        "limits: {moderation: {deny_at: {hate: 0.1}}}\n",
    ),
    "a company without money": (
        "PG708",
        "budgets: [{id: company, limit: $0.0001 / month}]\n",
        "budgets: [{id: company, limit: $1 / month}]\n",
    ),
    "a default model at its end": (
        "PG713",
        "  request: {models: {allow: [gpt-image-2, gpt-image-1-mini]}}\n",
        "  request: {models: {allow: [gpt-image-2]}}\n",
    ),
    "a default step to the reviewers": (
        "PG712",
        "    escalate: [{after: 1h, to: [ada@example.com]}]\n",
        "    escalate: [{after: 1h, to: [o@example.com]}]\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ORG_CASES)
def test_a_warning_of_the_organisation_fires_and_is_silent_one_step_beside(tmp_path: Path, name: str) -> None:
    code, fires, near = ORG_CASES[name]
    org = ORG.replace(
        "review: {reviewers: [ada@example.com, grace@example.com]}", "review:\n    reviewers: [ada@example.com]"
    )
    assert (warnings(tmp_path / "a", "", org=org + fires), warnings(tmp_path / "b", "", org=org + near)) == ([code], [])


@pytest.mark.parametrize(
    "review",
    [
        "review: {{reviewers: [{}]}}\n",
        "review: {{reviewers: [ada@example.com], escalate: [{{after: 1h, to: [{}]}}]}}\n",
    ],
)
def test_a_group_that_is_named_like_a_person_is_told(tmp_path: Path, review: str) -> None:
    org = ORG + "groups: {trust: [ida@example.com]}\n"
    found = [warnings(tmp_path / name[:1], review.format(name), org=org) for name in ("trust", "group:trust")]
    assert found == [["PG714"], []]


def test_a_group_that_is_named_like_a_person_is_told_of_the_defaults_too(tmp_path: Path) -> None:
    org = ORG.replace("[ada@example.com,", "[trust,") + "groups: {trust: [ida@example.com]}\n"
    assert warnings(tmp_path, "", org=org) == ["PG714"]


def test_high_stakes_need_a_review(tmp_path: Path) -> None:
    high = SURFACE.replace("stakes: low", "stakes: high")
    assert warnings(tmp_path / "a", "", base=high) == ["PG709"]
    assert warnings(tmp_path / "b", "review: {required: true}\n", base=high) == []
    limited = ORG + "high_stakes: {review: {required: true}}\n"
    assert warnings(tmp_path / "c", "", base=high, org=limited) == []


def test_on_a_surface_in_shadow_only_the_limits_decide_already(tmp_path: Path) -> None:
    limited = ORG + "limits: {request: {n: {max: 4}}, moderation: {deny_at: {hate: 0.6}}}\n"
    for number, (when, codes) in enumerate(
        [
            ("request.n > 2", []),
            ("request.n > 4", ["PG703"]),
            ("scores.hate > 0.55", []),
            ("scores.hate > 0.6", ["PG703"]),
        ]
    ):
        added = "mode: shadow\n" + rule(when, "flag")
        assert warnings(tmp_path / str(number), added, org=limited) == codes


def test_without_a_day_nothing_has_ended(tmp_path: Path) -> None:
    added = exempt("caller.tenant == 'a'", until="2026-11-23")
    assert warnings(tmp_path, added, today=None) == []


def test_the_shipped_policies_have_no_warning() -> None:
    assert check(ROOT / "policies", today=TODAY) == []


def test_what_has_errors_is_not_linted(tmp_path: Path) -> None:
    write_policies(tmp_path, org=ORG, avatars=SURFACE + rule("request.n > 9") + "modes: shadow\n")
    assert [problem.code for problem in check(tmp_path, today=TODAY)] == ["PG201"]


def test_what_cannot_be_tried_whole_is_not_warned_of(tmp_path: Path) -> None:
    texts = " && ".join(f'request.prompt.matches("a.*{letter}")' for letter in "bcdefghijk")
    assert warnings(tmp_path, rule(f"{texts} && request.pixels * request.n > 7")) == []


def test_of_a_file_with_thousands_of_rules_the_first_are_tried(tmp_path: Path) -> None:
    rows = "".join(
        f"  - {{id: r{i}, when: request.pixels > {7_000_000 + i} && request.pixels < 7000000, then: deny}}\n"
        for i in range(MAX_WORK // 25)
    )
    assert 0 < len(warnings(tmp_path, f"rules:\n{rows}")) < MAX_WORK // 25


def test_the_message_names_what_decides_already(tmp_path: Path) -> None:
    write_policies(tmp_path, org=ORG, avatars=SURFACE + rule("request.n > 2"))
    (found,) = check(tmp_path)
    assert found == Diagnostic(
        file=str(tmp_path / "avatars.yaml"),
        line=17,
        column=7,
        code="PG703",
        message=f"no request that gets here meets this: n is at most 2 ({tmp_path / 'avatars.yaml'}:12)",
        severity="warning",
        path="rules[0].when",
        hint="leave the rule out, or allow what it is about",
    )


# ---- what a warning says is true --------------------------------------------------------------------------


def test_no_admitted_request_meets_a_rule_that_is_decided_already(tmp_path: Path) -> None:
    """Every n, with and without adjusting: the rule has no reason of its own among those that are not denied."""
    for on_excess in ("deny", "adjust"):
        added = rule("request.n > 2", "flag")
        base = SURFACE.replace("request:\n", f"request:\n  on_excess: {on_excess}\n")
        one = policy(tmp_path / on_excess, added, org=ORG, base=base)
        for n in range(1, 11):
            request = ImageRequest(prompt="a cat", size="1024x1024", quality="low", n=n)
            screened = screen(one, request, Caller.of({"user": "u1", "tier": "free", "tenant": "a"}), NOW)
            denied = any(reason.effect is Effect.DENY for reason in screened.reasons)
            assert denied or [reason.id for reason in screened.reasons] == []


# ---- questions --------------------------------------------------------------------------------------------

ASKED = "questions: {logo: {ask: Is there a logo?}}\n"


def test_a_question_whose_answer_nobody_reads_is_told(tmp_path: Path) -> None:
    read = ASKED + "rules: [{id: a, when: answers.logo > 0.5, then: deny}]\n"
    assert [warnings(tmp_path / "a", ASKED), warnings(tmp_path / "b", read)] == [["PG716"], []]


def test_a_question_of_the_organisation_is_read_by_any_surface(tmp_path: Path) -> None:
    read = "rules: [{id: a, when: answers.logo > 0.5, then: deny}]\n"
    assert [warnings(tmp_path / "a", "", org=ORG + ASKED), warnings(tmp_path / "b", read, org=ORG + ASKED)] == [
        ["PG716"],
        [],
    ]


def test_a_condition_over_answers_that_is_never_true_is_told(tmp_path: Path) -> None:
    never = ASKED + "rules: [{id: a, when: answers.logo > 0.5 && answers.logo < 0.4, then: deny}]\n"
    assert warnings(tmp_path, never) == ["PG701"]

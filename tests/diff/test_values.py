"""What no single request shows: budgets, reviews, routes, callers, and what is only said."""

from __future__ import annotations

from pathlib import Path

import pytest
from diff.sides import compared, surface
from support import NOW, ORG, SURFACE, policies, write_policies
from tool_bodies import PRICES

from policyguard.diff.diff import diff
from policyguard.diff.values import organisation
from policyguard.diff.witness import Side
from policyguard.policy.load import load

BUDGET = "budgets: [{{id: day, {}}}]\n"
REVIEW = "review: {{reviewers: [group:trust], {}}}\n"
RULE = "rules: [{{id: a, when: request.n > 5, then: {}}}]\n"


def of(folder: Path, old: str, new: str) -> list[tuple[str, str]]:
    return [(change.direction, change.what) for change in surface(folder, old, new).changes]


@pytest.mark.parametrize(
    ("old", "new", "direction", "what"),
    [
        ("limit: $5 / day", "limit: $6 / day", "loosened", "the budget `day`: $5.00 / day -> $6.00 / day"),
        ("limit: $5 / day", "limit: $4 / day", "tightened", "the budget `day`: $5.00 / day -> $4.00 / day"),
        (
            "limit: $5 / day",
            "limit: $5 / week",
            "loosened",
            "the budget `day` is another one, $5.00 / day -> $5.00 / week: what was spent starts at zero",
        ),
        (
            "limit: 5 images / day",
            "limit: 5 images / day, per: caller.tenant",
            "loosened",
            "the budget `day` is another one, 5 images / day -> 5 images / day, per caller.tenant: what was spent"
            " starts at zero",
        ),
        (
            "limit: $5 / day",
            "limit: $5 / day, mode: shadow",
            "loosened",
            "the mode of the budget `day`: enforce -> shadow",
        ),
        (
            "limit: $5 / day, mode: shadow",
            "limit: $6 / day, mode: shadow",
            "neutral",
            "the budget `day`: $5.00 / day -> $6.00 / day",
        ),
    ],
)
def test_budgets(tmp_path: Path, old: str, new: str, direction: str, what: str) -> None:
    assert of(tmp_path, BUDGET.format(old), BUDGET.format(new)) == [(direction, what)]


def test_a_budget_that_is_gone_is_looser_and_a_new_one_tighter(tmp_path: Path) -> None:
    budget = BUDGET.format("limit: $5 / day")
    assert of(tmp_path / "a", budget, "") == [("loosened", "the budget `day` is gone")]
    assert of(tmp_path / "b", "", budget) == [("tightened", "the budget `day` is new")]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("approvals: 2", "approvals: 1", ("loosened", "approvals: 2 -> 1")),
        ("expires: 2h", "expires: 3h", ("loosened", "a review expires after: 2:00:00 -> 3:00:00")),
        ("expires: 2h", "expires: 1h", ("tightened", "a review expires after: 2:00:00 -> 1:00:00")),
        ("expires: 2h", "expires: 2h, escalate: [{after: 1h, to: [group:oncall]}]", ("neutral", "escalation changed")),
    ],
)
def test_reviews(tmp_path: Path, old: str, new: str, expected: tuple[str, str]) -> None:
    assert of(tmp_path, REVIEW.format(old), REVIEW.format(new)) == [expected]


def test_who_reviews_is_neutral_and_named(tmp_path: Path) -> None:
    old, new = ("review: {reviewers: [ada@example.com]}\n", "review: {reviewers: [bob@example.com]}\n")
    assert of(tmp_path, old, new) == [("neutral", "reviewers: +bob@example.com, -ada@example.com")]


def test_a_route_that_reads_another_request_is_one_less_and_one_more(tmp_path: Path) -> None:
    route = "routes: [{{route: POST /x, fields: {{prompt: body.text}}, constants: {{model: gpt-image-2-2026-04-21,"
    route += " size: 1024x1024, quality: {}, n: 1, moderation: auto}}}}]\n"
    plain = SURFACE.replace("routes: [POST /v1/images/generations, POST /v1/images/edits]\n", "")
    found = compared(tmp_path, plain + route.format("low"), plain + route.format("high")).surfaces[0]
    assert [(change.direction, change.what) for change in found.changes] == [
        ("tightened", "the route `POST /x` is gone"),
        ("loosened", "the route `POST /x` is new"),
    ]


OWN = """routes:
  - POST /v1/images/generations
  - route: POST /api/avatars
    fields: {prompt: body.text}
    constants: {model: gpt-image-2-2026-04-21, size: 1024x1024, quality: low, n: 1, moderation: auto}
"""


def test_an_apps_own_route_that_nobody_claims_any_more_passes_without_a_policy(tmp_path: Path) -> None:
    routes = "routes: [POST /v1/images/generations, POST /v1/images/edits]\n"
    own, none = SURFACE.replace(routes, OWN), SURFACE.replace(routes, "routes: [POST /v1/images/generations]\n")
    gone, new = (compared(tmp_path / x, *s).surfaces[0].changes for x, s in (("a", (own, none)), ("b", (none, own))))
    assert [(c.direction, c.what) for c in (*gone, *new)] == [
        ("loosened", "the route `POST /api/avatars` is gone: its requests pass without a policy"),
        ("tightened", "the route `POST /api/avatars` is new: its requests passed without a policy"),
    ]


def test_a_surface_that_goes_leaves_its_apps_own_routes_open(tmp_path: Path) -> None:
    other = SURFACE.replace("surface: avatars", "surface: badges").replace("/v1/", "/badges/v1/")
    own = SURFACE.replace("routes: [POST /v1/images/generations, POST /v1/images/edits]\n", OWN)
    one = Side(policies(tmp_path / "one", avatars=own, badges=other), "one/")
    two = Side(policies(tmp_path / "two", badges=other), "two/")
    moved = Side(policies(tmp_path / "moved", badges=own.replace("surface: avatars", "surface: badges")), "moved/")
    assert diff(one, two, NOW).surfaces[0].directions() == {"tightened", "loosened"}
    assert diff(two, one, NOW).surfaces[0].directions() == {"tightened", "loosened"}
    assert diff(one, moved, NOW).surfaces[0].directions() == {"tightened"}


def test_messages_shadow_rules_and_what_is_kept_are_neutral(tmp_path: Path) -> None:
    old, new = RULE.format("deny"), RULE.format("deny, message: Not so many.")
    assert of(tmp_path / "a", old, new) == [("neutral", "the message of the rule `a`")]
    assert of(tmp_path / "b", "", RULE.format("deny, mode: shadow")) == [("neutral", "the rule `a` is new")]
    kept = "audit: {prompt: encrypted}\n"
    assert of(tmp_path / "c", "", kept) == [("neutral", "what the record keeps, or for how long")]


def test_a_word_list_instead_of_moderation_is_looser(tmp_path: Path) -> None:
    found = of(tmp_path, "", "moderation: {model: keyword}\n")
    assert found == [("loosened", "moderation by omni-moderation-latest -> keyword: its scores are others")]


def test_less_at_stake_is_looser(tmp_path: Path) -> None:
    high = SURFACE.replace("stakes: low", "stakes: high") + REVIEW.format("approvals: 1")
    (found,) = compared(tmp_path, high, high.replace("stakes: high", "stakes: low")).surfaces
    assert [(change.direction, change.what) for change in found.changes] == [("loosened", "stakes: high -> low")]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("x-plan", "x-tier", ("loosened", "`caller.tier` comes from the header x-plan -> the header x-tier")),
        ("127.0.0.1/32]", "127.0.0.1/32, 10.0.0.0/8]", ("loosened", "headers count from 10.0.0.0/8, too")),
        ("grace@", "hopper@", ("neutral", "the group `trust`: +hopper@example.com, -grace@example.com")),
        (
            "defaults:",
            "budgets: [{id: all, limit: $5 / day}]\ndefaults:",
            ("tightened", "the budget `all` is new"),
        ),
    ],
)
def test_the_organisation_is_compared_once(tmp_path: Path, old: str, new: str, expected: tuple[str, str]) -> None:
    found = compared(tmp_path, SURFACE, SURFACE, new_org=ORG.replace(old, new))
    assert [(change.direction, change.what) for change in found.organisation] == [expected]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "models: [gpt-6-luna]", ("loosened", "the main model `gpt-6-luna` may ask for images")),
        ("models: [gpt-6-luna]", "", ("tightened", "the main model `gpt-6-luna` may not ask for images any more")),
        (
            "models: [gpt-6-luna], max_output_tokens: 500",
            "models: [gpt-6-luna], max_output_tokens: 900",
            ("loosened", "output tokens of the main model: 500 -> 900"),
        ),
        (
            "models: [gpt-6-luna]",
            "models: [gpt-6-luna], max_output_tokens: 900",
            ("tightened", "output tokens of the main model: any -> 900"),
        ),
    ],
)
def test_who_may_ask_for_images_is_named(tmp_path: Path, old: str, new: str, expected: tuple[str, str]) -> None:
    sides = []
    for number, said in enumerate((old, new)):
        text = SURFACE + (f"  responses: {{{said}}}\n" if said else "")
        made = load(write_policies(tmp_path / str(number), avatars=text, prices=PRICES), now=NOW)
        sides.append(Side(made, f"{number}/"))
    (found,) = diff(*sides, NOW).surfaces
    assert [(change.direction, change.what) for change in found.changes] == [expected]


def test_both_places_are_named(tmp_path: Path) -> None:
    old, new = BUDGET.format("limit: $5 / day"), "\n" + BUDGET.format("limit: $6 / day")
    (change,) = surface(tmp_path, old, new).changes
    assert (str(change.old_place), str(change.new_place)) == ("old/avatars.yaml:13", "new/avatars.yaml:14")


def test_a_price_of_the_organisation_is_a_change(tmp_path: Path) -> None:
    sides = []
    for number, dollars in enumerate((30, 15)):
        folder = write_policies(tmp_path / str(number), avatars=SURFACE)
        (folder / "prices.yaml").write_text(
            "version: 1\nprices:\n  gpt-image-2-2026-04-21: {family: gpt-image-2, status: current,"
            f" confidence: contract, image_out: ${dollars}, text_in: $5, date: 2026-11-20, source: contract}}\n"
        )
        sides.append(Side(load(folder), f"{number}/"))
    (change,) = organisation(*sides)
    says = "text_in $5, image_out ${}, current"
    assert (change.direction, change.what) == (
        "neutral",
        f"the price of `gpt-image-2-2026-04-21`: {says.format(30)} -> {says.format(15)}",
    )


def test_a_question_that_is_asked_otherwise_has_other_answers(tmp_path: Path) -> None:
    text = "questions: {{logo: {{ask: {}}}}}\nrules: [{{id: a, when: answers.logo > 0.5, then: deny}}]\n"
    assert of(tmp_path, text.format("Is it a logo?"), text.format("Is there a logo?")) == [
        ("neutral", "the question `logo` is asked otherwise: its answers are others")
    ]

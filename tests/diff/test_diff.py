"""Different decisions: every kind of edit is found, named, placed, and shown by the simplest request."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from diff.sides import compared, shown, sides, surface
from patience import cpu_s
from support import MODEL, NOW, ORG, SURFACE, policies

from policyguard.diff.diff import diff
from policyguard.diff.witness import Pair, Side, command
from policyguard.policy.world import environment_of, plain_world

RULE = "rules:\n  - {{id: a, when: '{}', then: {}}}\nreview: {{reviewers: [group:trust]}}\n"
EXEMPT = "exempt: [{rules: [a], when: 'true', until: UNTIL, by: a, why: b}]\n"
REVIEWED = "review: {reviewers: [group:trust]}\n"


def rule(when: str, then: str = "deny") -> str:
    return RULE.format(when, then)


# ---- the seeded edits -------------------------------------------------------------------------------------


def test_at_least_became_more_than_shows_at_exactly_the_bound(tmp_path: Path) -> None:
    found = surface(tmp_path, rule("scores.hate >= 0.4"), rule("scores.hate > 0.4"))
    (finding,) = found.findings
    assert shown(finding) == ("loosened", "deny -> allow", ["a"])
    assert finding.witness.world["scores.hate"] == 0.4
    assert found.exact


def test_a_lower_bound_shows_just_above_it(tmp_path: Path) -> None:
    found = surface(tmp_path, rule("scores.hate > 0.4", "review"), rule("scores.hate > 0.3", "review"))
    (finding,) = found.findings
    assert shown(finding) == ("tightened", "allow -> review", ["a"])
    assert 0.3 < finding.witness.world["scores.hate"] <= 0.4


def test_an_absent_caller_value_that_is_now_allowed_shows_without_the_value(tmp_path: Path) -> None:
    old = rule('!has(caller.feature) || caller.feature != "beta"')
    new = rule('has(caller.feature) && caller.feature != "beta"')
    (finding,) = surface(tmp_path, old, new).findings
    assert shown(finding) == ("loosened", "deny -> allow", ["a"])
    assert finding.witness.world["caller.feature"] is None


# ---- one edit each ----------------------------------------------------------------------------------------

INPUT = "request.input_images"
MODELS = "gpt-image-2-2026-04-21, gpt-image-2.5-flare-2026-09-08"


@pytest.mark.parametrize(
    ("old", "new", "direction", "outcome", "reason", "varied"),
    [
        ("n:       {max: 2}", "n:       {max: 3}", "loosened", "deny -> allow", "request.n", {"n": 3}),
        (MODELS, MODELS[:22], "tightened", "allow -> deny", "request.model", {"model": MODELS[24:]}),
        ("1024x1536, ", "", "tightened", "allow -> deny", "request.size", {"size": "1024x1536"}),
        ("medium, high]", "medium]", "tightened", "allow -> deny", "request.quality", {"quality": "high"}),
        ("  n:  ", "  formats: {allow: [png]}\n  n:  ", "tightened", "allow -> deny", "request.output_format", {}),
        ("  n:  ", "  partial_images: {max: 1}\n  n:  ", "loosened", "deny -> allow", "request.partial_images", {}),
        ("  n:  ", "  prompt: {max_chars: 100}\n  n:  ", "tightened", "allow -> deny", "request.prompt", {}),
        ("  n:  ", "  input_images: {max: 2}\n  n:  ", "tightened", "allow -> deny", INPUT, {}),
        ("  n:  ", "  input_images: {max_bytes: 9kB}\n  n:  ", "tightened", "allow -> deny", INPUT, {}),
        (
            "  n:  ",
            "  input_images: {types: [jpeg]}\n  n:  ",
            "tightened",
            "allow -> deny",
            INPUT,
            {"image_type": "png"},
        ),
        (
            "  n:  ",
            "  input_images: {max_pixels: 1000003}\n  n:  ",
            "tightened",
            "allow -> deny",
            INPUT,
            {"image_size": "2809x356"},
        ),
        (
            "  n:  ",
            "  input_images: {max_edge: 100}\n  n:  ",
            "tightened",
            "allow -> deny",
            INPUT,
            {"image_size": "101x1"},
        ),
        (
            "  n:  ",
            "  input_images: {hosts: [a.example.com]}\n  n:  ",
            "loosened",
            "deny -> allow",
            INPUT,
            {"image_host": "a.example.com"},
        ),
        ("  n:  ", "  unknown_parameters: pass\n  n:  ", "loosened", "deny -> allow", "request.extra", {}),
        ("  n:  ", "  sizes: {max_pixels: 1048576}\n  n:  ", "tightened", "allow -> deny", "request.size", None),
    ],
)
def test_a_parameter_is_found_and_only_it_differs_from_what_both_allow(
    tmp_path: Path, old: str, new: str, direction: str, outcome: str, reason: str, varied: dict[str, Any] | None
) -> None:
    unlisted = SURFACE.replace("  sizes:   {allow: [1024x1024, 1024x1536, 1536x1024], default: 1024x1024}\n", "")
    base = unlisted if varied is None else SURFACE
    (found,) = compared(tmp_path, base, base.replace(old, new)).surfaces
    (finding,) = found.findings
    assert shown(finding) == (direction, outcome, [reason])
    assert {name: finding.witness.world[name] for name in varied or {}} == (varied or {})
    assert found.exact


MODERATED = "moderation: {%s}\nreview: {reviewers: [group:trust]}\n"


@pytest.mark.parametrize(
    ("old", "new", "direction", "outcome", "reasons"),
    [
        ("deny_at: {hate: 0.3}", "deny_at: {hate: 0.4}", "loosened", "deny -> allow", ["moderation.hate"]),
        ("review_at: {hate: 0.3}", "review_at: {hate: 0.2}", "tightened", "allow -> review", ["moderation.hate"]),
        ("deny_at: {hate: 0.3}", "review_at: {hate: 0.3}", "loosened", "deny -> review", ["moderation.hate"] * 2),
        (
            "when_unavailable: deny",
            "when_unavailable: review",
            "loosened",
            "deny -> review",
            ["moderation.unavailable"] * 2,
        ),
    ],
)
def test_a_threshold_is_found(
    tmp_path: Path, old: str, new: str, direction: str, outcome: str, reasons: list[str]
) -> None:
    found = surface(tmp_path, MODERATED % old, MODERATED % new)
    assert [shown(finding) for finding in found.findings] == [(direction, outcome, reasons)]
    assert found.exact


def test_one_line_for_all_categories_is_one_finding(tmp_path: Path) -> None:
    found = surface(tmp_path, "", "moderation: {deny_at: {default: 0.4}}\n")
    (finding,) = found.findings
    assert (finding.direction, len(finding.new_reasons), finding.cases) == ("tightened", 13, 13)


def test_images_that_are_not_looked_at_any_more_show_by_the_score_of_an_image(tmp_path: Path) -> None:
    found = surface(tmp_path, "", "moderation: {check: [prompt]}\n")
    assert {finding.direction for finding in found.findings} == {"loosened"}
    assert {finding.witness.world["scored"] for finding in found.findings} == {"image"}
    assert "# the scores are those of the input image" in command("avatars", found.findings[0].witness.world, NOW)


def test_a_prompt_that_is_not_looked_at_any_more_shows(tmp_path: Path) -> None:
    found = surface(tmp_path, "", "moderation: {check: [input_images]}\n")
    assert {finding.direction for finding in found.findings} == {"loosened"}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("", "mode: shadow\n", {"loosened"}),
        ("mode: shadow\n", "", {"tightened"}),
        ("", "review: {required: true, reviewers: [group:trust]}\n", {"tightened"}),
        (rule("request.n > 1"), rule("request.n > 1", "flag"), {"loosened"}),
        (rule("request.n > 1"), rule("request.n > 1").replace("then: deny", "then: deny, mode: shadow"), {"loosened"}),
        (rule("request.n > 1"), rule("request.n == 1"), {"loosened", "tightened"}),
        (rule("request.n > 1"), rule("request.n > 1") + EXEMPT.replace("UNTIL", "2026-12-01"), {"loosened"}),
        (rule('request.prompt.contains("fox")'), rule('request.prompt.contains("foxy")'), {"loosened"}),
        (rule('request.prompt.matches("(?i)\\\\bfox\\\\b")'), REVIEWED, {"loosened"}),
        (rule("now.getHours() < 6"), rule("now.getHours() < 7"), {"tightened"}),
        (rule("request.width > request.height"), rule("request.width >= request.height"), {"tightened"}),
        (rule("scores.exists(c, scores[c] > 0.3)"), rule("scores.exists(c, scores[c] > 0.2)"), {"tightened"}),
    ],
)
def test_modes_reviews_rules_and_exemptions_are_found(tmp_path: Path, old: str, new: str, expected: set[str]) -> None:
    assert {finding.direction for finding in surface(tmp_path, old, new).findings} == expected


def test_the_end_of_an_exemption_shows_after_it(tmp_path: Path) -> None:
    old, new = (rule("request.n > 1") + EXEMPT.replace("UNTIL", day) for day in ("2026-12-01", "2026-12-24"))
    (finding,) = surface(tmp_path, old, new).findings
    assert shown(finding) == ("loosened", "deny -> allow", ["a"])
    assert finding.witness.world["now"] == datetime(2026, 12, 2, 12, tzinfo=UTC)
    assert "--now 2026-12-02T12:00:00+00:00" in command("avatars", finding.witness.world, NOW)


@pytest.mark.parametrize(
    ("change", "direction", "outcome"),
    [
        (("required: true", "required: false"), "loosened", "deny -> allow"),
        (("[free, pro]", "[free, pro, team]"), "loosened", "deny -> allow"),
        (("[free, pro]", "[free]"), "tightened", "allow -> deny"),
    ],
)
def test_who_may_ask_is_found(tmp_path: Path, change: tuple[str, str], direction: str, outcome: str) -> None:
    found = surface(tmp_path, "", "", new_org=ORG.replace(*change))
    assert [shown(finding)[:2] for finding in found.findings] == [(direction, outcome)]


def test_a_change_to_a_review_shows_where_requests_need_no_user(tmp_path: Path) -> None:
    """Nobody's requests are denied by both: what became of those of others must show all the same."""
    org = ORG.replace("required: true", "required: false")
    found = surface(tmp_path, rule("scores.hate > 0.3"), rule("scores.hate > 0.3", "review"), org=org)
    (finding,) = found.findings
    assert shown(finding) == ("loosened", "deny -> review", ["a", "a"])
    assert finding.witness.world["caller.user"] == "somebody"
    assert found.exact


@pytest.mark.parametrize("first", ["old", "new"])
def test_how_much_of_a_prompt_one_side_reads_changes_nothing_for_the_other(tmp_path: Path, first: str) -> None:
    short, long = (f"  prompt: {{max_chars: {most}}}\n" + rule("request.obfuscated", "review") for most in (40, 60))
    before, after = sides(tmp_path, SURFACE + short, SURFACE + long)
    if first == "new":
        before, after = after, before
    old, new = before.policies.surfaces["avatars"], after.policies.surfaces["avatars"]
    pair = Pair(before.policies, after.policies, old, new, NOW)
    plain = {"image_bytes": 8, "caller.user": "u1", "model": MODEL}
    world = {**plain_world(environment_of(before.policies.caller)), **plain, "prompt": "x" * 45 + "\u200b" + "x" * 5}
    seen = {ruling.effect.word: [r.id for r in ruling.reasons] for ruling in pair.rulings(world)}
    assert seen == {"deny": ["request.prompt"], "review": ["a"]}


# ---- adjusted, and what goes upstream ---------------------------------------------------------------------


def test_an_adjustment_that_takes_less_away_is_looser(tmp_path: Path) -> None:
    adjusting = SURFACE + "  on_excess: adjust\n"
    (found,) = compared(tmp_path, adjusting, adjusting.replace("max: 2", "max: 3")).surfaces
    (finding,) = found.findings
    assert (finding.direction, finding.old, finding.new) == ("loosened", "allow", "allow")
    assert finding.upstream == (("n", "2", "3"),)
    assert (str(finding.old_place), str(finding.new_place)) == ("old/avatars.yaml:12", "new/avatars.yaml:12")


def test_fewer_partial_images_are_tighter_and_the_difference_says_so(tmp_path: Path) -> None:
    old = "  on_excess: adjust\n  partial_images: {max: 1}\n"
    (finding,) = surface(tmp_path, old, old.replace("max: 1", "max: 0")).findings
    assert shown(finding) == ("tightened", "allow -> allow", [])
    assert finding.upstream == (("partial_images", "1", "0"),)


def test_a_dearer_default_is_looser(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, SURFACE, SURFACE.replace("default: low", "default: high")).surfaces
    (finding,) = found.findings
    assert (finding.direction, finding.upstream) == ("loosened", (("quality", "low", "high"),))
    assert "--quality" not in command("avatars", finding.witness.world, NOW)


def test_bringing_auto_down_to_the_default_is_looser_than_refusing_it(tmp_path: Path) -> None:
    (found,) = compared(tmp_path, SURFACE, SURFACE + "  on_excess: adjust\n").surfaces
    assert {finding.direction for finding in found.findings} == {"loosened"}
    (auto,) = compared(
        tmp_path / "auto",
        SURFACE + "  on_excess: adjust\n",
        SURFACE.replace("default: low", "default: high") + "  on_excess: adjust\n",
    ).surfaces
    assert {(f.direction, f.upstream) for f in auto.findings} == {("loosened", (("quality", "low", "high"),))}


def test_an_unchanged_rule_sees_what_a_changed_table_lets_through(tmp_path: Path) -> None:
    adjusting = SURFACE + "  on_excess: adjust\n" + rule("request.n > 2")
    (found,) = compared(tmp_path, adjusting, adjusting.replace("max: 2", "max: 3")).surfaces
    assert [shown(finding) for finding in found.findings] == [("tightened", "allow -> deny", ["a"])]


# ---- the report -------------------------------------------------------------------------------------------


def test_a_policy_does_not_differ_from_itself(tmp_path: Path) -> None:
    found = compared(tmp_path, SURFACE, SURFACE + "# a comment\n")
    assert (found.surfaces[0].status, found.directions()) == ("unchanged", set())


def test_another_spelling_is_neutral_and_exact(tmp_path: Path) -> None:
    found = surface(tmp_path, rule("request.n > 1"), rule("!(request.n <= 1)"))
    assert (found.findings, found.directions(), found.exact) == ((), {"neutral"}, True)


def test_a_rule_behind_one_that_denies_anyway_is_neutral(tmp_path: Path) -> None:
    one = rule("request.n > 1")
    two = one.replace("review:", "  - {id: b, when: request.n == 2, then: review}\nreview:")
    found = surface(tmp_path, one, two)
    assert (found.directions(), found.exact) == ({"neutral"}, True)


def test_a_difference_beyond_other_rules_is_found(tmp_path: Path) -> None:
    others = "\n".join(
        f"  - {{id: o{i}, when: '{when}', then: deny}}"
        for i, when in enumerate(["request.n == 1", 'caller.tier == "free"', "!request.has_mask", "scores.hate < 0.1"])
    )
    old, new = (rule(f"scores.hate > {at}").replace("review:", others + "\nreview:") for at in ("0.3", "0.4"))
    found = surface(tmp_path, old, new)
    assert [shown(finding)[:2] for finding in found.findings] == [("loosened", "deny -> allow")]
    world = found.findings[0].witness.world
    assert (world["n"], world["caller.tier"], world["images"].has_mask) == (2, "pro", True)


def test_added_and_removed_surfaces_are_loosened_and_tightened(tmp_path: Path) -> None:
    more = SURFACE.replace("surface: avatars", "surface: badges").replace("/v1/", "/badges/v1/")
    one, two = policies(tmp_path / "one", avatars=SURFACE), policies(tmp_path / "two", avatars=SURFACE, badges=more)
    there = diff(Side(one, "one/"), Side(two, "two/"), NOW).surfaces[1]
    back = diff(Side(two, "two/"), Side(one, "one/"), NOW).surfaces[1]
    assert (there.status, there.directions()) == ("added", {"loosened"})
    assert (back.status, back.directions()) == ("removed", {"tightened"})


def test_more_cases_than_the_limit_are_sampled_and_say_so(tmp_path: Path) -> None:
    wide = " && ".join(f"scores.{name} > 0.3" for name in ("hate", "sexual", "violence", "illicit", "harassment"))
    found = diff(*sides(tmp_path, SURFACE, SURFACE + rule(wide)), NOW, limit=60).surfaces[0]
    assert not found.exact
    assert found.tried < 120


def test_reasons_carry_the_places_of_both_sides_under_their_own_names(tmp_path: Path) -> None:
    old, new = "moderation: {deny_at: {hate: 0.3}}\n", "\nmoderation: {deny_at: {hate: 0.4}}\n"
    (finding,) = surface(tmp_path, old, new).findings
    assert [(name, str(place)) for name, place in finding.old_reasons] == [("moderation.hate", "old/avatars.yaml:13")]
    assert (str(finding.old_place), str(finding.new_place)) == ("old/avatars.yaml:13", "new/avatars.yaml:14")


def test_a_flag_that_another_flag_hides_is_found(tmp_path: Path) -> None:
    one = rule('caller.tier == "free"', "flag")
    two = one.replace("review:", "  - {id: b, when: request.n == 2, then: flag}\nreview:")
    found = surface(tmp_path, one, two)
    assert [shown(finding) for finding in found.findings] == [("tightened", "allow -> flag", ["b"])]


def test_a_request_stays_one_line_whatever_a_policy_writes_into_the_prompt(tmp_path: Path) -> None:
    hostile = rule("request.prompt.contains(\"it''s\\n::error::a\\u001b[2J\")")
    (finding,) = surface(tmp_path, "", hostile).findings
    line = command("avatars", finding.witness.world, NOW)
    assert line.isprintable()
    assert r"--prompt $'it\'s\U0000000a::error::a\U0000001b[2J'" in line


def test_the_cost_of_a_diff_grows_with_the_surfaces_that_changed_and_not_with_their_square(tmp_path: Path) -> None:
    ten = cpu_s(lambda: all_changed(tmp_path / "ten", 10), runs=1)
    assert cpu_s(lambda: all_changed(tmp_path / "fifty", 50), runs=1) < 15 * ten


def all_changed(folder: Path, surfaces: int) -> None:
    names = [f"s{i}" for i in range(surfaces)]
    texts = {n: SURFACE.replace("avatars", n).replace("/v1/", f"/{n}/v1/") + rule("request.n > 1") for n in names}
    old = policies(folder / "old", **texts)
    new = policies(folder / "new", org=ORG.replace("default: 0.50", "default: 0.40"), **texts)
    found = diff(Side(old, "old/"), Side(new, "new/"), NOW)
    assert all(one.directions() == {"tightened"} and one.exact for one in found.surfaces)

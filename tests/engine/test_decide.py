from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
from support import MODEL, NOW, ORG, SURFACE, caller, policies, policy, request, verdict

from policyguard import pricing
from policyguard.decision import Effect, Kind, combine
from policyguard.engine.callers import resolve_caller
from policyguard.engine.decide import judge, screen
from policyguard.errors import PolicyError
from policyguard.policy.model import Policy
from policyguard.request import CATEGORIES, Caller, ImageRequest, InputImage, Size, Verdict

RULES = """
rules:
  - {id: pro-quality, when: 'caller.tier == "free" && request.quality == "high"', then: deny, message: Pro only.}
  - {id: many, when: request.n > 1, then: flag, message: More than one.}
  - {id: gory, when: scores.violence > 0.3, then: review, message: Look at this.}
"""
REVIEWED = RULES + "review: {reviewers: [group:trust]}\n"


def outcome(p: Policy, r: ImageRequest, v: Verdict | None = None, c: Caller | None = None) -> tuple[str, list[str]]:
    judged = judge(screen(p, r, c or caller(), NOW), v or verdict())
    return combine(judged.reasons).word, sorted(x.id for x in judged.reasons if x.enforced)


def test_a_request_within_the_policy_is_allowed_without_reasons(tmp_path: Path) -> None:
    assert outcome(policy(tmp_path), request()) == ("allow", [])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "gpt-image-2.5-sunburst-2026-09-08"}, "request.model"),
        ({"size": "2048x2048"}, "request.size"),
        ({"size": "auto"}, "request.size"),
        ({"quality": "auto"}, "request.quality"),
        ({"n": 3}, "request.n"),
        ({"partial_images": 1}, "request.partial_images"),
        ({"stream": True, "partial_images": 1}, "request.partial_images"),
        ({"extra": {"style": "vivid"}}, "request.extra"),
        ({"output_format": "svg"}, "request.price"),
    ],
)
def test_a_parameter_outside_the_policy_is_denied(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    word, ids = outcome(policy(tmp_path), request(**changes))
    assert (word, reason in ids) == ("deny", True)


def test_every_reason_is_kept_not_only_the_first(tmp_path: Path) -> None:
    _, ids = outcome(
        policy(tmp_path, REVIEWED), request(quality="high", n=3, size="2048x2048"), verdict({"sexual": 0.9})
    )
    assert ids == ["many", "moderation.sexual", "pro-quality", "request.n", "request.size"]


def test_what_the_client_leaves_out_takes_the_policys_default(tmp_path: Path) -> None:
    screened = screen(policy(tmp_path), ImageRequest(prompt="a cat"), caller(), NOW)
    given = screened.request
    assert (given.model, given.size, given.quality, given.n) == ("gpt-image-2-2026-04-21", "1024x1024", "low", 1)


def test_without_a_default_a_missing_size_is_auto_and_denied_where_auto_is_not_listed(tmp_path: Path) -> None:
    base = SURFACE.replace(", default: 1024x1024", "")
    _, ids = outcome(policy(tmp_path, base=base), request(size=None))
    assert ids == ["request.size"]


# ---- adjusting --------------------------------------------------------------------------------------------

ADJUST = SURFACE.replace("  n:       {max: 2}", "  n:       {max: 2}\n  on_excess: adjust").replace(
    "[low, medium, high]", "[low, medium]"
)


def test_adjusting_goes_down_in_n_quality_and_size(tmp_path: Path) -> None:
    screened = screen(policy(tmp_path, base=ADJUST), request(n=4, quality="high", size="2048x2048"), caller(), NOW)
    assert [str(a) for a in screened.adjustments] == ["quality=high->medium", "size=2048x2048->1536x1024", "n=4->2"]
    assert combine(screened.reasons) is Effect.ALLOW


def test_adjusting_never_picks_a_size_that_costs_more(tmp_path: Path) -> None:
    """A square of 1024 is inside 1536x1024, and dearer: 7,024 tokens against 5,488 at high quality."""
    base = SURFACE.replace("[1024x1024, 1024x1536, 1536x1024]", "[1024x1024, 1024x688]").replace(
        "  n:       {max: 2}", "  n:       {max: 2}\n  on_excess: adjust"
    )
    screened = screen(policy(tmp_path, base=base), request(size="1536x1024", quality="high"), caller(), NOW)
    assert [str(a) for a in screened.adjustments] == ["size=1536x1024->1024x688"]


def test_auto_spelt_out_is_the_policys_default_and_reported(tmp_path: Path) -> None:
    asked = request(size="auto", quality="auto")
    screened = screen(policy(tmp_path, base=ADJUST), asked, caller(), NOW)
    assert [str(a) for a in screened.adjustments] == ["quality=auto->low", "size=auto->1024x1024"]
    assert combine(screened.reasons) is Effect.ALLOW
    dearest, chosen = pricing.ceiling(asked), screened.quote
    assert chosen is not None
    assert chosen.ceiling_micros < dearest.ceiling_micros


def test_a_model_is_never_adjusted(tmp_path: Path) -> None:
    _, ids = outcome(policy(tmp_path, base=ADJUST), request(model="gpt-image-2.6-flare"))
    assert ids == ["request.model"]


def test_moderation_low_is_forced_to_auto_whatever_on_excess_says(tmp_path: Path) -> None:
    screened = screen(policy(tmp_path), request(moderation="low"), caller(), NOW)
    assert (screened.request.moderation, [str(a) for a in screened.adjustments]) == ("auto", ["moderation=low->auto"])


# ---- moderation -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("category", CATEGORIES)
def test_the_default_threshold_covers_every_category(tmp_path: Path, category: str) -> None:
    base = SURFACE + "moderation: {deny_at: {sexual: 0.30}}\n"
    at = 0.30 if category == "sexual" else 0.50
    assert outcome(policy(tmp_path, base=base), request(), verdict({category: at})) == (
        "deny",
        [f"moderation.{category}"],
    )
    assert outcome(policy(tmp_path, base=base), request(), verdict({category: at - 0.001})) == ("allow", [])


def test_a_category_that_was_not_assessed_is_unavailable_never_zero(tmp_path: Path) -> None:
    scores = {c: 0.0 for c in CATEGORIES if c != "hate"}
    assert outcome(policy(tmp_path), request(), Verdict(model="m", scores=scores)) == (
        "deny",
        ["moderation.unavailable"],
    )


def test_a_lower_bound_over_the_threshold_denies_for_what_it_is(tmp_path: Path) -> None:
    seen = verdict({"sexual": 0.9}, incomplete=frozenset({"sexual"}))
    assert outcome(policy(tmp_path), request(), seen) == ("deny", ["moderation.sexual"])


def test_when_unavailable_review_holds_instead_of_denying(tmp_path: Path) -> None:
    base = SURFACE + "moderation: {when_unavailable: review}\nreview: {reviewers: [group:trust]}\n"
    word, ids = outcome(policy(tmp_path, base=base), request(), Verdict(model="m", error="timeout"))
    assert (word, ids) == ("review", ["moderation.unavailable"])


# ---- rules ------------------------------------------------------------------------------------------------


def test_outcomes_combine_as_deny_over_review_over_flag_over_allow(tmp_path: Path) -> None:
    p = policy(tmp_path, REVIEWED)
    assert outcome(p, request(n=2)) == ("flag", ["many"])
    assert outcome(p, request(n=2), verdict({"violence": 0.4})) == ("review", ["gory", "many"])
    assert outcome(p, request(n=2, quality="high"), verdict({"violence": 0.4}))[0] == "deny"


def test_a_rule_over_unavailable_scores_is_unevaluable_and_denies(tmp_path: Path) -> None:
    p = policy(tmp_path, REVIEWED)
    judged = judge(screen(p, request(), caller(), NOW), Verdict(model="m", error="timeout"))
    assert {r.id: (r.effect, r.kind) for r in judged.reasons} == {
        "gory": (Effect.DENY, Kind.UNAVAILABLE),
        "moderation.unavailable": (Effect.DENY, Kind.UNAVAILABLE),
    }


def test_a_flag_that_cannot_be_evaluated_is_only_recorded(tmp_path: Path) -> None:
    p = policy(tmp_path, "rules: [{id: gory, when: scores.violence > 0.3, then: flag, message: Look.}]\n")
    judged = judge(screen(p, request(), caller(), NOW), Verdict(model="m", error="timeout"))
    assert next(r for r in judged.reasons if r.id == "gory").effect is Effect.FLAG


def test_a_rule_without_scores_refuses_before_moderation(tmp_path: Path) -> None:
    screened = screen(policy(tmp_path, REVIEWED), request(quality="high"), caller(), NOW)
    assert [r.id for r in screened.reasons if r.effect is Effect.DENY] == ["pro-quality"]


def test_the_values_that_a_rule_saw_are_recorded_without_the_user(tmp_path: Path) -> None:
    when = 'caller.user == "u1" && request.n < 2 && request.prompt != ""'
    rule = f"rules: [{{id: r, when: '{when}', then: flag, message: m}}]"
    reason = screen(policy(tmp_path, rule), request(), caller(), NOW).reasons[0]
    assert dict(reason.values) == {"request.n": 1}


EXEMPT = (
    RULES
    + """
review: {reviewers: [group:trust]}
exempt: [{rules: [pro-quality], when: caller.tenant == "acme", until: 2026-12-31, by: ada@example.com, why: pilot}]
"""
)


def test_an_exemption_switches_its_rule_off_and_stays_in_the_record(tmp_path: Path) -> None:
    p = policy(tmp_path, EXEMPT)
    assert outcome(p, request(quality="high")) == ("allow", [])
    shadow = [r for r in screen(p, request(quality="high"), caller(), NOW).reasons if not r.enforced]
    assert [(r.id, r.values["exempt_until"]) for r in shadow] == [("pro-quality", "2026-12-31")]


def test_an_exemption_ends_after_its_day_and_holds_for_nobody_else(tmp_path: Path) -> None:
    p = policy(tmp_path, EXEMPT)
    later = datetime(2027, 1, 1, tzinfo=UTC)
    assert combine(screen(p, request(quality="high"), caller(), later).reasons) is Effect.DENY
    assert outcome(p, request(quality="high"), c=caller(tenant="other"))[0] == "deny"


def test_a_rule_about_pixels_does_not_pass_what_upstream_may_choose(tmp_path: Path) -> None:
    base = SURFACE.replace("[1024x1024, 1024x1536, 1536x1024]", "[1024x1024, 1024x1536, 1536x1024, auto]")
    rule = "rules: [{id: big, when: request.pixels > 2000000, then: deny}]\n"
    p = policy(tmp_path, base=base + rule)
    assert outcome(p, request()) == ("allow", [])
    assert outcome(p, request(size="auto")) == ("deny", ["big"])


# ---- shadow -----------------------------------------------------------------------------------------------

SHADOW = SURFACE.replace("stakes: low", "stakes: low\nmode: shadow") + RULES + "review: {reviewers: [group:trust]}\n"
LIMITED = ORG + "limits:\n  request: {n: {max: 4}}\n  moderation: {deny_at: {default: 0.8}}\n"
ORG_RULE = ORG + 'rules: [{id: no-portraits, when: request.size == "1024x1536", then: deny, message: No portraits.}]\n'


def test_a_shadow_surface_records_its_own_denials_and_lets_the_request_pass(tmp_path: Path) -> None:
    p = policy(tmp_path, base=SHADOW)
    judged = judge(screen(p, request(n=3, quality="high"), caller(), NOW), verdict({"sexual": 0.9}))
    assert combine(judged.reasons) is Effect.ALLOW
    assert {"request.n", "pro-quality", "moderation.sexual"} <= {r.id for r in judged.reasons}
    assert judged.request.n == 3


def test_under_shadow_the_organisations_limits_and_rules_stay(tmp_path: Path) -> None:
    p = policy(tmp_path / "a", base=SHADOW, org=LIMITED)
    assert outcome(p, request(n=5)) == ("deny", ["request.n"])
    assert outcome(p, request(n=4)) == ("allow", [])
    assert outcome(p, request(), verdict({"sexual": 0.85})) == ("deny", ["moderation.sexual"])
    p = policy(tmp_path / "b", base=SHADOW, org=ORG_RULE)
    assert outcome(p, request(size="1024x1536")) == ("deny", ["no-portraits"])


def test_a_shadow_rule_is_recorded_and_never_decides(tmp_path: Path) -> None:
    rule = "rules: [{id: r, when: request.n > 0, then: deny, message: m, mode: shadow}]"
    judged = screen(policy(tmp_path, rule), request(), caller(), NOW)
    assert [(r.id, r.mode, r.effect) for r in judged.reasons] == [("r", "shadow", Effect.DENY)]
    assert combine(judged.reasons) is Effect.ALLOW


# ---- who asks ---------------------------------------------------------------------------------------------


def test_callers_get_defaults_and_lose_what_is_not_declared(tmp_path: Path) -> None:
    fields = policies(tmp_path, avatars=SURFACE).caller
    resolved, reasons = resolve_caller(fields, Caller.of({"user": "u1", "cohort": "beta", "shoe": "42"}))
    assert (dict(resolved.items()), reasons) == ({"user": "u1", "tenant": "public", "tier": "free"}, ())


@pytest.mark.parametrize(
    ("given", "reason"),
    [({}, "caller.user"), ({"user": "u1", "tier": "gold"}, "caller.tier"), ({"user": "u\n1"}, "caller.user")],
)
def test_a_missing_or_undeclared_caller_value_denies(tmp_path: Path, given: dict[str, str], reason: str) -> None:
    fields = policies(tmp_path, avatars=SURFACE).caller
    _, reasons = resolve_caller(fields, Caller.of(given))
    assert [(r.id, r.kind) for r in reasons] == [(reason, Kind.CALLER)]


def test_a_budget_per_value_that_is_missing_denies(tmp_path: Path) -> None:
    p = policy(tmp_path, "budgets: [{id: f, per: caller.feature, limit: $1 / day}]\n")
    assert outcome(p, request()) == ("deny", ["caller.feature"])


def test_input_images_are_bounded_in_number_and_bytes(tmp_path: Path) -> None:
    p = policy(tmp_path, base=SURFACE + "  input_images: {max: 1, max_bytes: 10kB}\n")
    small = InputImage(b"x" * 10, "image/png", size=Size(1024, 1024))
    big = InputImage(b"x" * 20_000, "image/png", size=Size(1024, 1024))
    assert outcome(p, request(operation="edit", images=(small,))) == ("allow", [])
    assert outcome(p, request(operation="edit", images=(small, small)))[1] == ["request.input_images"]
    assert outcome(p, request(operation="edit", images=(big,)))[1] == ["request.input_images"]


def edit(*images: InputImage, mask: InputImage | None = None) -> ImageRequest:
    return request(operation="edit", images=images, mask=mask)


PICTURES = {
    "a jpeg": InputImage(b"x", "image/jpeg", size=Size(100, 100)),
    "a png": InputImage(b"x", "image/png", size=Size(100, 100)),
    "a long png": InputImage(b"x", "image/png", size=Size(1001, 1)),
    "a png of many pixels": InputImage(b"x", "image/png", size=Size(500, 401)),
    "a picture elsewhere": InputImage(b"", "", url="https://Images.example.com/a.png"),
    "one at another host": InputImage(b"", "", url="https://images.example.com.evil.example/a.png"),
}


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("a png", None),
        ("a picture elsewhere", None),
        ("a jpeg", "an input image of the type `jpeg` is not allowed here"),
        ("a long png", "an edge of an input image has 1,001 pixels"),
        ("a png of many pixels", "an input image has 200,500 pixels"),
        ("one at another host", "an input image is at a host that is not allowed here"),
    ],
)
def test_input_images_are_bounded_in_type_pixels_edge_and_host(tmp_path: Path, name: str, said: str | None) -> None:
    rules = "{types: [png], max_pixels: 200000, max_edge: 1000, hosts: [images.example.com]}"
    p = policy(tmp_path, base=SURFACE + f"  input_images: {rules}\n")
    screened = screen(p, edit(PICTURES["a png"], PICTURES[name]), caller(), NOW)
    assert [(r.message, r.param) for r in screened.reasons] == ([(said, "image")] if said else [])
    masked = screen(p, edit(PICTURES["a png"], mask=PICTURES["a png of many pixels"]), caller(), NOW)
    assert [r.id for r in masked.reasons] == ["request.input_images"]


def test_without_a_word_no_picture_elsewhere_passes_and_none_is_larger_than_a_telephones(tmp_path: Path) -> None:
    p = policy(tmp_path)
    bomb = InputImage(b"x", "image/png", size=Size(8944, 8944))  # 9 kB of it are enough
    assert outcome(p, edit(PICTURES["a picture elsewhere"]))[1] == ["request.input_images"]
    assert outcome(p, edit(bomb))[1] == ["request.input_images"]
    assert outcome(p, edit(PICTURES["a jpeg"], PICTURES["a png"])) == ("allow", [])


def test_a_picture_elsewhere_costs_the_most_that_one_can(tmp_path: Path) -> None:
    p = policy(tmp_path, base=SURFACE + "  input_images: {hosts: [images.example.com]}\n")
    here = screen(p, edit(InputImage(b"x", "image/png", size=None)), caller(), NOW)
    there = screen(p, edit(PICTURES["a picture elsewhere"]), caller(), NOW)
    assert here.quote is not None
    assert there.quote == here.quote


@pytest.mark.parametrize("bound", ["max_bytes: 1MB", "max_pixels: 1000", "max_edge: 10", "types: [png]"])
def test_a_limit_on_what_only_the_bytes_show_admits_no_picture_elsewhere(tmp_path: Path, bound: str) -> None:
    elsewhere = edit(PICTURES["a picture elsewhere"])
    named = SURFACE + "  input_images: {hosts: [images.example.com]}\n"
    assert outcome(policy(tmp_path / "free", org=ORG, base=named), elsewhere) == ("allow", [])
    org = ORG + f"limits: {{request: {{input_images: {{{bound}}}}}}}\n"
    with pytest.raises(PolicyError, match="PG301"):
        policy(tmp_path / "named", org=org, base=named)
    shadow = SURFACE.replace("stakes: low", "stakes: low\nmode: shadow")
    assert outcome(policy(tmp_path / "shadow", org=org, base=shadow), elsewhere)[1] == ["request.input_images"]
    trusting = org.replace(bound, f"{bound}, hosts: [images.example.com]")
    assert outcome(policy(tmp_path / "trusting", org=trusting, base=named), elsewhere) == ("allow", [])


UNTOUCHED = SURFACE.replace("stakes: low", "stakes: low\nmode: shadow") + "review: {reviewers: [group:trust]}\n"


@pytest.mark.parametrize(
    "said",
    [
        Verdict(model="m", error="down"),
        Verdict(model="m", scores={"violence": 0.1}, incomplete=frozenset({"violence"})),
    ],
)
def test_a_limit_for_reviews_that_was_not_assessed_denies_under_shadow_too(tmp_path: Path, said: Verdict) -> None:
    org = ORG + "limits: {moderation: {check: [prompt], review_at: {violence: 0.3}}}\n"
    assert outcome(policy(tmp_path, org=org, base=UNTOUCHED), request(), said) == ("deny", ["moderation.unavailable"])


def test_under_shadow_what_a_client_leaves_out_is_left_to_upstream(tmp_path: Path) -> None:
    asked = ImageRequest(prompt="a cat", model=MODEL, n=1)
    screened = screen(policy(tmp_path, base=UNTOUCHED), asked, caller(), NOW)
    assert (screened.request.size, screened.request.quality, screened.adjustments) == ("auto", "auto", ())
    assert outcome(policy(tmp_path, base=UNTOUCHED), asked) == ("allow", [])


def test_under_shadow_a_default_that_a_limit_needs_is_recorded(tmp_path: Path) -> None:
    org = ORG + "limits: {request: {sizes: {max_pixels: 2000000}}}\n"
    asked = ImageRequest(prompt="a cat", model=MODEL, n=1, quality="low")
    screened = screen(policy(tmp_path, org=org, base=UNTOUCHED), asked, caller(), NOW)
    assert [str(adjustment) for adjustment in screened.adjustments] == ["size=auto->1024x1024"]


def test_of_a_prompt_that_is_too_long_only_what_is_allowed_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[int] = []
    monkeypatch.setattr("policyguard.text.characters.reveal", lambda text: (read.append(len(text)), (text, False))[1])
    rule = "rules: [{id: no-hiding, when: request.obfuscated, then: flag, message: hides}]\n"
    short = policy(tmp_path, rule, base=SURFACE.replace("  n:  ", "  prompt:  {max_chars: 100}\n  n:  "))
    assert outcome(short, request(prompt="ä" * 100)) == ("allow", [])
    assert outcome(short, request(prompt="ä" * 20_000)) == ("deny", ["request.prompt"])
    assert read == [100, 100]


def test_under_shadow_auto_spelt_out_is_left_to_upstream_unless_a_limit_needs_the_default(tmp_path: Path) -> None:
    asked = request(size="auto", quality="auto")
    shadow = ADJUST.replace("stakes: low", "stakes: low\nmode: shadow")
    screened = screen(policy(tmp_path / "free", base=shadow), asked, caller(), NOW)
    assert (screened.request.size, screened.request.quality, screened.adjustments) == ("auto", "auto", ())
    assert {(r.id, r.mode, r.message) for r in screened.reasons} == {
        ("request.quality", "shadow", "would be adjusted: quality=auto->low"),
        ("request.size", "shadow", "would be adjusted: size=auto->1024x1024"),
    }
    org = ORG + "limits: {request: {sizes: {max_pixels: 2000000}}}\n"
    limited = policy(tmp_path / "limited", org=org, base=shadow)
    screened = screen(limited, asked, caller(), NOW)
    assert [str(adjustment) for adjustment in screened.adjustments] == ["size=auto->1024x1024"]
    assert outcome(limited, asked) == ("allow", [])
    held = screen(limited, asked, caller(), NOW, frozenset({"size"}))
    assert combine(held.reasons) is Effect.DENY

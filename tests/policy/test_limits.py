"""Whatever a surface allows, the organisation's limits allow: over generated organisations and surfaces."""

from __future__ import annotations

import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import NOW, ORG, SURFACE, caller, policies, request, verdict

from policyguard.decision import Effect, combine
from policyguard.engine.decide import judge, screen
from policyguard.errors import PolicyError
from policyguard.policy.model import Policy
from policyguard.request import CATEGORIES

thresholds = st.dictionaries(
    st.sampled_from([*CATEGORIES, "default"]), st.sampled_from([0.02, 0.3, 0.5, 0.8, 1.0]), max_size=4
)
asked = st.fixed_dictionaries({"n": st.integers(1, 10), "size": st.sampled_from(["1024x1024", "1536x1024"])})
modes = st.sampled_from(["enforce", "shadow"])
within = st.sampled_from([True, True, False])  # of the limits, so that most policies load
scores = st.dictionaries(st.sampled_from(CATEGORIES), st.sampled_from([0.01, 0.1, 0.4, 0.6, 0.9]), max_size=3)


def _load(org: str, surface: str) -> Policy | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return policies(Path(folder), org=org, avatars=surface).surfaces["avatars"]
        except PolicyError:
            return None


def _bound(limits: Any, category: str) -> float:
    """The strictest that limits say of a category; above 1 where they say nothing."""
    return float(limits.get(category, limits.get("default", 2)))


def _lowered(at: Any, *limits: Any) -> Any:
    """Thresholds that are at none of the limits' wrong side."""
    strictest = {c: min(_bound(one, c) for one in limits) for c in (*CATEGORIES, "default")}
    strictest["default"] = min(strictest.values())
    return {c: min(value, strictest[c]) for c, value in at.items()}


def test_what_a_surface_allows_the_limits_allow() -> None:
    counted: Counter[str] = Counter()

    @settings(deadline=None, max_examples=150)
    @given(st.integers(1, 10), thresholds, st.integers(1, 10), thresholds, modes, asked, scores, within)
    def property_(
        limit_n: int, limit_at: Any, n: int, at: Any, mode: str, given_: Any, found: Any, is_within: bool
    ) -> None:
        if is_within:
            n, at = min(n, limit_n), _lowered(at, limit_at)
        org = ORG + f"limits: {{request: {{n: {{max: {limit_n}}}}}, moderation: {{deny_at: {limit_at}}}}}\n"
        surface = SURFACE.replace("{max: 2}", f"{{max: {n}}}").replace("stakes: low", f"stakes: low\nmode: {mode}")
        policy = _load(org, surface + f"moderation: {{deny_at: {at}}}\n")
        if policy is None:  # beyond a limit by name: it does not load, which is stricter still
            counted["not loaded"] += 1
            lowest = {c: min(_bound(limit_at, c), _bound(limit_at, "default")) for c in at}
            assert n > limit_n or any(value > lowest[c] for c, value in at.items())
            return
        judged = judge(screen(policy, request(**given_), caller(), NOW), verdict(found))
        effect = combine(judged.reasons)
        counted[effect.word] += 1
        if effect is Effect.ALLOW:
            assert given_["n"] <= limit_n
            assert all(score < _bound(limit_at, c) for c, score in found.items())

    property_()
    assert counted["not loaded"] <= 100, counted  # of 150: what does not load says nothing of what is allowed
    assert min(counted["allow"], counted["deny"]) >= 5, counted


HIGH = SURFACE.replace("stakes: low", "stakes: high") + "review: {reviewers: [group:trust]}\n"


def test_several_limits_meet_in_the_strictest_of_each_category() -> None:
    """`default` of one section also holds for what another section names."""
    counted: Counter[str] = Counter()

    @settings(deadline=None, max_examples=100)
    @given(thresholds, thresholds, thresholds, thresholds, within)
    def property_(first: Any, second: Any, default: Any, own: Any, is_within: bool) -> None:
        if is_within:
            own = _lowered(own, first, second)
        org = ORG.replace("{default: 0.50}", f"{ {'default': 0.5, **default} }".replace("'", ""))
        org += f"limits: {{moderation: {{deny_at: {first}}}}}\nhigh_stakes: {{moderation: {{deny_at: {second}}}}}\n"
        policy = _load(org, HIGH + f"moderation: {{deny_at: {own}}}\n")
        bound = {c: min(1, _bound(first, c), _bound(second, c)) for c in CATEGORIES}
        counted["loaded" if policy else "not loaded"] += 1
        if policy is None:
            every = min(1, _bound(first, "default"), _bound(second, "default"))
            assert any(at > {**bound, "default": every}[c] for c, at in own.items())
            return
        assert len(policy.moderation.deny_at) == 13
        assert all(t.at <= bound[t.category] for t in policy.moderation.deny_at)

    property_()
    assert counted["loaded"] >= 30, counted  # of 100


def test_a_default_of_one_section_holds_for_what_another_names() -> None:
    org = (
        ORG + "limits: {moderation: {deny_at: {violence: 0.5}}}\nhigh_stakes: {moderation: {deny_at: {default: 0.1}}}\n"
    )
    assert _load(org, HIGH + "moderation: {deny_at: {violence: 0.4}}\n") is None
    policy = _load(org, HIGH)
    assert policy is not None
    assert {t.at for t in policy.moderation.deny_at} == {0.1}


# ---- values with a unit, and what is on or off ------------------------------------------------------------

# Each pair from small to large, where the text says the opposite.
DURATIONS = [("24h", "100h"), ("24h", "7d"), ("100s", "30m"), ("90m", "8h"), ("9h", "10h"), ("3600s", "2h")]
SIZES_IN_BYTES = [("9MB", "10MB"), ("900kB", "1MB"), ("1000kB", "2MB"), ("9000B", "10kB")]
PAIRS = [
    *(("review", "expires", *pair) for pair in DURATIONS),
    *(("request.input_images", "max_bytes", *pair) for pair in SIZES_IN_BYTES),
]


def _in(section: str, key: str, value: str) -> str:
    for name in reversed([*section.split("."), key]):
        value = f"{{{name}: {value}}}"
    return value


def _said(policy: Policy, key: str) -> Any:
    return policy.review.expires if key == "expires" else policy.request.max_input_bytes


@pytest.mark.parametrize(("section", "key", "small", "large"), PAIRS)
def test_a_value_with_a_unit_meets_its_limit_by_size_not_as_text(
    section: str, key: str, small: str, large: str
) -> None:
    reviewed = SURFACE + ("review: {reviewers: [group:trust]}\n" if section != "review" else "")

    def load(limit: str = "", default: str = "", own: str = "", high: str = "") -> Any:
        org = ORG
        if default:
            org = org.replace("\ndefaults:\n", f"\ndefaults:\n  {_in(section, key, default)[1:-1]}\n")
        org += f"limits: {_in(section, key, limit)}\n" if limit else ""
        org += f"high_stakes: {_in(section, key, high)}\n" if high else ""
        text = reviewed.replace("stakes: low", "stakes: high") if high else reviewed
        if own and section == "review":
            text += f"review: {{{key}: {own}, reviewers: [group:trust]}}\n"
        elif own:
            text = text.replace("request:\n", f"request:\n  input_images: {{{key}: {own}}}\n")
        elif section == "review":
            text += "review: {reviewers: [group:trust]}\n"
        policy = _load(org, text)
        return policy and _said(policy, key)

    least, most = load(own=small), load(own=large)
    assert least < most
    assert load(limit=small, own=large) is None  # named beyond the limit
    assert load(limit=large, own=small) == least
    assert load(limit=small, default=large) == load(limit=large, default=small) == least
    assert load(limit=small, high=large) == load(limit=large, high=small) == least


@pytest.mark.parametrize("limit", [None, False, True])
@pytest.mark.parametrize("default", [None, False, True])
@pytest.mark.parametrize("own", [None, False, True])
def test_a_review_is_required_where_the_default_or_the_limit_says_so(
    own: bool | None, default: bool | None, limit: bool | None
) -> None:
    def said(value: bool | None) -> str:
        return "" if value is None else f"required: {str(value).lower()}"

    org = ORG + (f"limits: {{review: {{{said(limit)}}}}}\n" if limit is not None else "")
    org = org.replace("\ndefaults:\n", f"\ndefaults:\n  review: {{{said(default)}}}\n") if default is not None else org
    text = f"review: {{reviewers: [group:trust]{', ' if own is not None else ''}{said(own)}}}\n"
    policy = _load(org, SURFACE + text)
    if limit and own is False:
        assert policy is None
    else:
        assert policy is not None
        assert policy.review.required is bool(limit or (default if own is None else own))

"""Whatever a surface allows, the organisation's limits allow: over generated organisations and surfaces."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

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
scores = st.dictionaries(st.sampled_from(CATEGORIES), st.sampled_from([0.01, 0.1, 0.4, 0.6, 0.9]), max_size=3)


def _load(org: str, surface: str) -> Policy | None:
    with tempfile.TemporaryDirectory() as folder:
        try:
            return policies(Path(folder), org=org, avatars=surface).surfaces["avatars"]
        except PolicyError:
            return None


@settings(deadline=None, max_examples=150)
@given(
    st.integers(1, 10),
    thresholds,
    st.integers(1, 10),
    thresholds,
    st.sampled_from(["enforce", "shadow"]),
    asked,
    scores,
)
def test_what_a_surface_allows_the_limits_allow(
    limit_n: int, limit_at: Any, n: int, at: Any, mode: str, given_: Any, found: Any
) -> None:
    org = ORG + f"limits: {{request: {{n: {{max: {limit_n}}}}}, moderation: {{deny_at: {limit_at}}}}}\n"
    surface = SURFACE.replace("{max: 2}", f"{{max: {n}}}").replace("stakes: low", f"stakes: low\nmode: {mode}")
    policy = _load(org, surface + f"moderation: {{deny_at: {at}}}\n")
    if policy is None:  # beyond a limit by name: it does not load, which is stricter still
        assert n > limit_n or any(
            value > min([limit_at.get(c, 2), limit_at.get("default", 2)]) for c, value in at.items()
        )
        return
    judged = judge(screen(policy, request(**given_), caller(), NOW), verdict(found))
    if combine(judged.reasons) is Effect.ALLOW:
        assert given_["n"] <= limit_n
        assert all(score < limit_at.get(c, limit_at.get("default", 2)) for c, score in found.items())


HIGH = SURFACE.replace("stakes: low", "stakes: high") + "review: {reviewers: [group:trust]}\n"


@settings(deadline=None, max_examples=100)
@given(thresholds, thresholds, thresholds, thresholds)
def test_several_limits_meet_in_the_strictest_of_each_category(first: Any, second: Any, default: Any, own: Any) -> None:
    """`default` of one section also holds for what another section names."""
    org = ORG.replace("{default: 0.50}", f"{ {'default': 0.5, **default} }".replace("'", ""))
    org += f"limits: {{moderation: {{deny_at: {first}}}}}\nhigh_stakes: {{moderation: {{deny_at: {second}}}}}\n"
    policy = _load(org, HIGH + f"moderation: {{deny_at: {own}}}\n")
    bound = {c: min(first.get(c, first.get("default", 1)), second.get(c, second.get("default", 1))) for c in CATEGORIES}
    if policy is None:
        every = min(first.get("default", 1), second.get("default", 1))
        assert any(at > {**bound, "default": every}[c] for c, at in own.items())
        return
    assert len(policy.moderation.deny_at) == 13
    assert all(t.at <= bound[t.category] for t in policy.moderation.deny_at)


def test_a_default_of_one_section_holds_for_what_another_names() -> None:
    org = (
        ORG + "limits: {moderation: {deny_at: {violence: 0.5}}}\nhigh_stakes: {moderation: {deny_at: {default: 0.1}}}\n"
    )
    assert _load(org, HIGH + "moderation: {deny_at: {violence: 0.4}}\n") is None
    policy = _load(org, HIGH)
    assert policy is not None
    assert {t.at for t in policy.moderation.deny_at} == {0.1}
